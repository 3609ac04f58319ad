//! Karma with a headless Chromium as a `[[check]]`, in a confined step. Uses node, npm and Chromium.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

const PACKAGE: &str = r#"{"name": "shop", "version": "1.0.0", "private": true,
  "devDependencies": {"jasmine-core": "4.6.1", "karma": "6.4.4", "karma-chrome-launcher": "3.2.0", "karma-jasmine": "5.1.0"}}"#;
const SPEC: &str = "describe('cart', () => { it('adds', () => expect(1 + 1).toBe(2)); });\n";
const BROKEN_SPEC: &str = "describe('cart', () => { it('counts the price', () => expect(1).toBe(2)); });\n";

/// As most repositories have it.
fn plain(spec: &str) -> String {
    format!(
        "module.exports = config => config.set({{ frameworks: ['jasmine'], files: ['{spec}'], browsers: ['ChromeHeadless'] }});\n"
    )
}

/// With what the diagnosis says, which also CI services and containers need.
fn in_a_step(spec: &str) -> String {
    format!(
        "module.exports = config => config.set({{ frameworks: ['jasmine'], files: ['{spec}'],\n\
         browsers: ['ChromeInStep'],\ncustomLaunchers: {{\n  \
         ChromeInStep: {{ base: 'ChromeHeadless', flags: ['--no-sandbox'] }},\n}} }});\n"
    )
}

/// A Chromium or Chrome on this machine.
fn chrome() -> Option<PathBuf> {
    let named = std::env::var_os("CHROME_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let on_path = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    named.into_iter().chain(on_path).find(|file| file.is_file())
}

fn step<'b>(build: &'b Value, name: &str) -> &'b Value {
    let steps = build["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {build:#}"))
}

#[test]
fn karma_passes_with_a_headless_chromium_and_says_what_it_lacks_without_the_flag() {
    let Some(chrome) = chrome() else {
        eprintln!("skipped: no Chromium or Chrome on PATH, and CHROME_BIN names none");
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("shop");
    fs::create_dir(&folder).expect("a folder");
    let check = |name: &str| {
        format!(
            "[[check]]\nname = '{name}'\ncommand = ['karma', 'start', '{name}.js', '--single-run']\nallow_failure = true\n"
        )
    };
    let file =
        format!("[env]\nCHROME_BIN = '{}'\n{}{}{}", chrome.display(), check("good"), check("bad"), check("plain"));
    let (good, bad, plain) = (in_a_step("cart.spec.js"), in_a_step("broken.spec.js"), plain("cart.spec.js"));
    for (name, text) in [
        ("package.json", PACKAGE),
        (".hookmill.toml", &file),
        ("good.js", &good),
        ("bad.js", &bad),
        ("plain.js", &plain),
        ("cart.spec.js", SPEC),
        ("broken.spec.js", BROKEN_SPEC),
    ] {
        fs::write(folder.join(name), text).expect("a file");
    }
    let ran = Command::new(env!("CARGO_BIN_EXE_hookmill"))
        .arg("run")
        .arg(&folder)
        .arg("--json")
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let log = String::from_utf8_lossy(&ran.stderr);
    let build: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {log}"));

    assert_eq!(step(&build, "good")["outcome"], "passed", "{build:#}\n{log}");
    assert!(log.contains("TOTAL: 1 SUCCESS") || log.contains("Executed 1 of 1 SUCCESS"), "{log}");
    let bad = step(&build, "bad");
    assert_eq!(
        bad["reason"], "Check 'bad' failed: 1 test failed: cart counts the price; allow_failure lets it pass",
        "{bad:#}\n{log}"
    );

    // A host whose steps are not confined may leave Chromium its own sandbox.
    let plain = step(&build, "plain");
    if plain["outcome"] != "passed" {
        let reason = plain["reason"].as_str().unwrap_or_default();
        assert!(reason.starts_with("Check 'plain' failed: Chrome finds no sandbox"), "{reason}\n{log}");
        assert!(plain["mend"].as_str().is_some_and(|mend| mend.contains("--no-sandbox")), "{plain:#}");
    }
}
