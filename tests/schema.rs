//! The JSON Schemas in `config/` say what the readers take: no more, no less.

use std::path::Path;

use hookmill::config::repo_file::RepoFile;
use hookmill::config::schema::{self, Of};
use hookmill::config::{load, repo_file};
use serde_json::{Value, json};

const FILES: [(&str, Of, &str); 2] = [
    ("config/hookmill.schema.json", Of::Server, "server"),
    ("config/repository.schema.json", Of::Repository, "repository"),
];

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

#[test]
fn the_files_are_what_the_readers_say() {
    for (path, of, word) in FILES {
        let written: Option<Value> = serde_json::from_str(&text(path)).ok();
        let fresh = written == Some(schema::of(of));
        assert!(fresh, "{path} is old: hookmill check --schema {word} > {path}");
    }
}

/// Every key with its schema, by its full name.
fn keys(schema: &Value, name: &str, into: &mut Vec<(String, Value)>) {
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        into.push((name.clone(), schema.clone()));
        for inner in [schema, &schema["items"], &schema["additionalProperties"]] {
            keys(inner, &name, into);
        }
    }
}

#[test]
fn every_key_is_described_and_has_a_shape() {
    for (path, of, _) in FILES {
        let mut all = Vec::new();
        keys(&schema::of(of), "", &mut all);
        assert!(all.len() > 40, "{path}: {all:?}");
        for (name, schema) in all {
            assert!(
                ["type", "enum", "anyOf"].iter().any(|word| schema.get(word).is_some()),
                "{path}: {name} may be anything"
            );
            // A table that holds keys only is described by them.
            let is_table = schema.get("properties").is_some() || schema["items"].get("properties").is_some();
            assert!(is_table || schema.get("description").is_some(), "{path}: {name} is not described");
        }
    }
}

#[test]
fn every_key_of_the_design_is_known() {
    let mut all = Vec::new();
    keys(&schema::of(Of::Repository), "", &mut all);
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    for key in [
        "toolchain.node",
        "checkout.depth",
        "env",
        "install.skip",
        "bundle.network",
        "check.allow_failure",
        "cache.paths",
        "cache.inputs",
        "budget.assets",
        "paths.ignore",
        "artifacts.when",
        "on.bundle.command",
    ] {
        assert!(names.contains(&key), "{key}: {names:?}");
    }
    assert!(!names.contains(&"matrix"), "what is reserved is not offered");
}

/// The part of JSON Schema that our schemas use, but for patterns.
fn fits(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let fitting = choices.iter().any(|choice| fits(choice, value, at).is_ok());
        return if fitting { Ok(()) } else { Err(format!("{at}: {value} fits none of {choices:?}")) };
    }
    let is_type = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => {
            value.is_i64() && schema["minimum"].as_i64().is_none_or(|least| value.as_i64() >= Some(least))
        }
        Some(other) => return Err(format!("{at}: a type of its own, {other}")),
    };
    let is_word = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let is_const = schema.get("const").is_none_or(|constant| constant == value);
    if !is_type || !is_word || !is_const {
        return Err(format!("{at}: {value} is not {schema}"));
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(key).ok_or_else(|| format!("{at} lacks {key}"))?;
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
        if !known.is_object() {
            return Err(format!("{at}: {key} is unknown"));
        }
        fits(known, inner, &format!("{at}.{key}"))?;
    }
    for (at_item, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(&schema["items"], item, &format!("{at}[{at_item}]"))?;
    }
    Ok(())
}

fn fits_text(of: Of, text: &str) -> Result<(), String> {
    let document: toml::Table = text.parse().map_err(|error| format!("{error}: {text}"))?;
    fits(&schema::of(of), &serde_json::to_value(document).expect("TOML is JSON but for dates"), "file")
}

#[test]
fn the_samples_fit_and_the_reader_takes_them() {
    fits_text(Of::Server, load::DEFAULT).expect("the embedded default");
    fits_text(Of::Repository, schema::REPOSITORY_SAMPLE).expect("the sample");
    RepoFile::parse(schema::REPOSITORY_SAMPLE, repo_file::FILE_NAME).expect("the sample is legal");
    let readme = text("README.md");
    let samples: Vec<&str> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(samples.len() >= 2, "the README shows both files");
    for sample in samples {
        let of = if sample.starts_with("#:schema") { Of::Repository } else { Of::Server };
        fits_text(of, sample).unwrap_or_else(|error| panic!("{error} in {sample}"));
    }
}

#[test]
fn what_the_reader_refuses_does_not_fit() {
    for bad in [
        "bundel = 1",
        "[bundle]\ncomand = ['x']",
        "[bundle]\ncommand = 'x'",
        "[bundle]\ncommand = []x",
        "[checkout]\ndepth = -1",
        "[budget]\nmeasure = 'brotli'",
        "[budget.assets]\n'*.js' = true",
        "[artifacts]\nwhen = 'always'",
        "[[install]]\nskip = true",
        "[on.main.bundle]\nnope = 1",
        "matrix = {}",
    ] {
        assert!(RepoFile::parse(bad, repo_file::FILE_NAME).is_err(), "{bad}");
        assert!(fits_text(Of::Repository, bad).is_err(), "{bad}");
    }
    let network = &schema::of(Of::Repository)["properties"]["bundle"]["properties"]["network"];
    assert_eq!(fits(network, &json!(["fonts.googleapis.com:443"]), "network"), Ok(()));
}
