//! Reads the tables of `.hookmill.toml`.

use std::collections::HashSet;

use super::document::{Table, Value};
use super::problem::{Findings, Kind, Problem};
use super::repo_file::{After, Bundle, Cache, Check, Install, InstallTool, RepoFile};
use super::section::{Located, Section};
use crate::domain::spec::Network;

/// Tables that later issues build, and in what words they are refused.
const NOT_BUILT: [(&str, &str); 4] = [
    ("toolchain", "versions of node and npm come from .nvmrc, engines or the server"),
    ("budget", "bundle sizes are not compared"),
    ("artifacts", "nothing is kept of a build but its logs"),
    ("on", "a branch can't have settings of its own"),
];

/// Names that a later format may use, so that no file can mean something else by them today.
const RESERVED: [&str; 4] = ["matrix", "services", "deploy", "preview"];

pub(super) fn read(table: Table, findings: &mut Findings) -> RepoFile {
    let mut root = Section::new("", table, findings);
    for (key, why) in NOT_BUILT {
        root.refuse(key, why);
    }
    for key in RESERVED {
        if let Some(entry) = root.take(key) {
            root.wrong(&entry.key, format!("`{key}` is reserved for a later format"), "take it out");
        }
    }
    let env = root.variables("env").unwrap_or_default();
    let installs = root.tables("install").into_iter().filter_map(|table| install(table, root.findings)).collect();
    let bundle = root.table("bundle").map(|table| bundle(table, root.findings)).unwrap_or_default();
    let checks = root.tables("check").into_iter().filter_map(|table| check(table, root.findings)).collect();
    let cache = root.table("cache").map(|table| cache(table, root.findings)).unwrap_or_default();
    if let Some(table) = root.table("checkout") {
        checkout(table, root.findings);
    }
    if let Some(table) = root.table("paths") {
        let mut section = Section::new("paths", table, root.findings);
        section.refuse("ignore", "every push is built, whatever it changed");
        section.finish();
    }
    root.finish();
    RepoFile {
        env,
        installs: unique(installs, findings, |install: &Install| {
            format!("[[install]] of {} in {:?}", install.tool.as_str(), install.dir)
        }),
        bundle,
        checks: unique(checks, findings, |check: &Check| format!("[[check]] {:?}", check.name)),
        cache,
        ..RepoFile::default()
    }
}

/// Reports what has the name of an earlier one.
fn unique<T>(items: Vec<Located<T>>, findings: &mut Findings, name: impl Fn(&T) -> String) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(items.len());
    for Located { place, value } in items {
        let name = name(&value);
        if seen.contains(&name) {
            findings.push(Problem::at(Kind::Wrong, &place, format!("a second {name}")).fix("take one of them out"));
        }
        seen.insert(name);
        kept.push(value);
    }
    kept
}

fn install(table: Table, findings: &mut Findings) -> Option<Located<Install>> {
    let mut section = Section::new("install", table, findings);
    let place = section.place();
    let named = section.has("tool");
    let words = InstallTool::ALL.map(|tool| (tool.as_str(), Some(tool)));
    let tool = section.word("tool", &words);
    if !named {
        section.wrong(&place, "an [[install]] needs a `tool`", "write tool = \"npm\"");
    }
    let install = Install {
        tool: tool.unwrap_or(InstallTool::Npm),
        dir: folder(&mut section, "dir").unwrap_or_else(|| ".".to_owned()),
        command: command(&mut section),
        env: section.variables("env").unwrap_or_default(),
        timeout: section.duration("timeout"),
        skip: section.flag("skip").unwrap_or(false),
    };
    if install.skip && install.command.is_some() {
        section.wrong(&place, "an [[install]] that is skipped has no command", "take out `skip` or `command`");
    }
    section.finish();
    tool.map(|_| Located { place, value: install })
}

fn bundle(table: Table, findings: &mut Findings) -> Bundle {
    let mut section = Section::new("bundle", table, findings);
    let bundle = Bundle {
        command: command(&mut section),
        dir: folder(&mut section, "dir"),
        output: folder(&mut section, "output"),
        timeout: section.duration("timeout"),
        env: section.variables("env").unwrap_or_default(),
        network: network(&mut section),
    };
    section.finish();
    bundle
}

fn check(table: Table, findings: &mut Findings) -> Option<Located<Check>> {
    let mut section = Section::new("check", table, findings);
    let place = section.place();
    for key in ["name", "command"] {
        if !section.has(key) {
            section.wrong(
                &place,
                format!("a [[check]] needs a `{key}`"),
                "write for example: name = \"test\", command = [\"npm\", \"test\"]",
            );
        }
    }
    let name = section.text("name").and_then(|name| check_name(&mut section, name));
    let command = command(&mut section);
    let retry = section.count("retry").map_or(0, |count| {
        if count.value > 10 {
            section.wrong(&count.place, "`check.retry` is at most 10", "a check that needs more tries needs a repair");
        }
        count.value.min(10) as u32
    });
    let rest = (
        section.word("after", &[("install", Some(After::Install)), ("bundle", Some(After::Bundle))]),
        section.flag("allow_failure"),
        folder(&mut section, "dir"),
        section.variables("env"),
        section.duration("timeout"),
        network(&mut section),
    );
    section.finish();
    let (after, allow_failure, dir, env, timeout, network) = rest;
    let check = Check {
        name: name?,
        command: command?,
        after: after.unwrap_or(After::Install),
        allow_failure: allow_failure.unwrap_or(false),
        retry,
        dir: dir.unwrap_or_else(|| ".".to_owned()),
        env: env.unwrap_or_default(),
        timeout,
        network,
    };
    Some(Located { place, value: check })
}

/// A check's name becomes a step's name, a status context and a file name.
fn check_name(section: &mut Section<'_>, name: Located<String>) -> Option<String> {
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

fn cache(table: Table, findings: &mut Findings) -> Cache {
    let mut section = Section::new("cache", table, findings);
    section.refuse("paths", "only dependencies and webpack's cache are known");
    let cache = Cache {
        dependencies: section.flag("dependencies").unwrap_or(true),
        webpack: section.flag("webpack").unwrap_or(true),
        paths: Vec::new(),
    };
    section.finish();
    cache
}

/// The commit alone is checked out: what says so is accepted, what asks for more is refused.
fn checkout(table: Table, findings: &mut Findings) {
    let mut section = Section::new("checkout", table, findings);
    if let Some(depth) = section.count("depth")
        && depth.value != 1
    {
        section.not_built(&depth.place, "history in the workspace", "take it out, or write depth = 1");
    }
    for (key, what) in [
        ("tags", "tags in the workspace"),
        ("submodules", "fetching submodules"),
        ("lfs", "fetching files from Git LFS"),
    ] {
        let Some(entry) = section.take(key) else { continue };
        match entry.node.value {
            Value::Bool(false) => {}
            Value::Bool(true) => section.not_built(&entry.key, what, format!("take it out, or write {key} = false")),
            _ => section.wrong(&entry.node.place, format!("`checkout.{key}` must be true or false"), "write false"),
        }
    }
    section.finish();
}

/// A program and its arguments, such that a process can be started with them.
fn command(section: &mut Section<'_>) -> Option<Vec<String>> {
    let entry = section.take("command")?;
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
fn folder(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    let parts: Vec<&str> = text.value.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.value.starts_with('/') || text.value.contains(['\0', '\\']) || parts.contains(&"..") {
        let message = format!("{:?} is not a folder of the repository", text.value);
        section.wrong(&text.place, message, "name it from the repository's root, without \"..\" and with \"/\"");
        return None;
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

fn network(section: &mut Section<'_>) -> Option<Network> {
    let entry = section.take("network")?;
    let key = section.key("network");
    match entry.node.value {
        Value::Bool(open) => return Some(if open { Network::Open } else { Network::Closed }),
        Value::List(_) => {
            section.not_built(&entry.node.place, &format!("a list of hosts for `{key}`"), "write true or false")
        }
        _ => section.wrong(&entry.node.place, format!("`{key}` must be true or false"), "write true or false"),
    }
    None
}
