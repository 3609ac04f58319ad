//! The values of `.hookmill.toml` that have a grammar of their own: commands, folders, globs, hosts, versions.

use super::document::{Node, Value};
use super::hosts;
use super::problem::{Findings, Kind, Place, Problem};
use super::repo_file::InstallTool;
use super::schema::Shape;
use super::section::{Located, Section};
use crate::domain::spec::Network;

/// A check's name becomes a step's name, a status context and a file name.
pub(super) fn check_name(section: &mut Section<'_>, name: Located<String>) -> Option<String> {
    let text = &name.value;
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 60 || text.starts_with('.') || !text.chars().all(legal) {
        section.wrong(
            &name.place,
            format!("{text:?} is not a name for a check"),
            "use up to 60 of a-z, A-Z, 0-9, `.`, `_` and `-`",
        );
        return None;
    }
    let taken = ["checkout", "bundle"].contains(&text.as_str());
    if taken || InstallTool::ALL.iter().any(|tool| tool.as_str() == text) {
        section.wrong(&name.place, format!("{text:?} is the name of another step"), "take another name");
        return None;
    }
    Some(name.value)
}

/// A program and its arguments, such that a process can be started with them.
pub(super) fn command(section: &mut Section<'_>) -> Option<Vec<String>> {
    let entry = section.take_as("command", Shape::Command)?;
    let key = section.key("command");
    let fix = "write program and arguments as a list: [\"npm\", \"run\", \"build\"]";
    let Value::List(items) = entry.node.value else {
        section.wrong(&entry.node.place, format!("`{key}` must be a list of strings"), fix);
        return None;
    };
    if items.is_empty() {
        section.wrong(&entry.node.place, format!("`{key}` is empty"), fix);
        return None;
    }
    let mut argv = Vec::with_capacity(items.len());
    for item in items {
        match item.value {
            Value::Text(word) if !word.contains('\0') && (!argv.is_empty() || !word.is_empty()) => argv.push(word),
            _ => {
                section.wrong(&item.place, format!("`{key}` holds something that no process can be given"), fix);
                return None;
            }
        }
    }
    Some(argv)
}

/// A folder of the tree: relative, and never out of it.
pub(super) fn folder(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    beneath(text, section.findings)
}

/// Folders of the tree, each as [`folder`] has it.
pub(super) fn folders(section: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let texts = section.texts(key).unwrap_or_default();
    texts.into_iter().filter_map(|text| beneath(text, section.findings)).collect()
}

fn beneath(text: Located<String>, findings: &mut Findings) -> Option<String> {
    let parts: Vec<&str> = text.value.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.value.starts_with('/') || text.value.contains(['\0', '\\']) || parts.contains(&"..") {
        let message = format!("{:?} is not a folder of the repository", text.value);
        let fix = "name it from the repository's root, without \"..\" and with \"/\"";
        findings.push(Problem::at(Kind::Wrong, &text.place, message).fix(fix));
        return None;
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Globs over the tree's paths: `*` stops at `/`, `**` does not.
pub(super) fn globs(section: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let texts = section.texts(key).unwrap_or_default();
    texts.into_iter().filter_map(|text| glob(&text.place, &text.value, section.findings)).collect()
}

/// One glob over paths, without what would never match: `./` before it, `/` after it.
pub(super) fn glob(place: &Place, text: &str, findings: &mut Findings) -> Option<String> {
    let mut wrong = |why: &str, fix: &str| {
        findings.push(Problem::at(Kind::Wrong, place, format!("{text:?} {why}")).fix(fix));
        None
    };
    let pattern = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    if pattern.is_empty() || pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        return wrong("is not a path of the repository", "name it from the repository's root: \"dist\", \"docs/**\"");
    }
    if pattern.starts_with('!') {
        return wrong("takes away, and a list can only add", "name what is meant instead of what is not");
    }
    if pattern.contains('\0') || fast_glob::validate(pattern).is_err() {
        return wrong("is not a glob", "close what is open: [ ], { }; `*` stops at \"/\", `**` does not");
    }
    Some(pattern.to_owned())
}

/// A version, or a range as npm writes them; which of them exist is asked when it is fetched.
pub(super) fn version(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || " .*-+<>=^~|/".contains(c);
    if text.value.trim().is_empty() || text.value.len() > 100 || !text.value.chars().all(legal) {
        let message = format!("{:?} is not a version of {key}", text.value);
        section.wrong(&text.place, message, "write \"20\", \"20.11.1\" or a range like \">=18 <21\"");
        return None;
    }
    Some(text.value.trim().to_owned())
}

/// Whether a step may reach the network, and how far.
pub(super) fn network(section: &mut Section<'_>) -> Option<Network> {
    let entry = section.take_as("network", Shape::Network)?;
    let key = section.key("network");
    let fix = "write false, true, or hosts with their ports: [\"fonts.googleapis.com:443\"]";
    match entry.node.value {
        Value::Bool(open) => Some(if open { Network::Open } else { Network::Closed }),
        Value::List(items) if items.is_empty() => Some(Network::Closed),
        Value::List(items) => {
            let count = items.len();
            let hosts: Vec<String> = items.into_iter().filter_map(|item| host_of_list(section, &key, item)).collect();
            (hosts.len() == count).then_some(Network::Hosts(hosts))
        }
        _ => {
            section.wrong(&entry.node.place, format!("`{key}` must be true, false or a list of hosts"), fix);
            None
        }
    }
}

fn host_of_list(section: &mut Section<'_>, key: &str, item: Node) -> Option<String> {
    let Value::Text(text) = item.value else {
        let message = format!("`{key}` holds {}, where a host belongs", item.value.type_name());
        section.wrong(&item.place, message, "write \"fonts.googleapis.com:443\"");
        return None;
    };
    let parsed = hosts::parse(&text, "write network = true for every host there is");
    parsed.map_err(|bad| section.wrong(&item.place, bad.message, bad.fix)).ok()
}
