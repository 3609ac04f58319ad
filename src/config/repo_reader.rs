//! Reads the tables of `.hookmill.toml`.

use std::collections::{BTreeMap, HashSet};

use super::document::{Entry, Table, Value};
use super::problem::{Findings, Kind, Place, Problem};
use super::repo_file::{
    After, Artifacts, Budget, Bundle, Cache, Check, Checkout, Install, InstallTool, Keep, Measure, On, RepoFile,
};
use super::repo_values::{check_name, command, folder, folders, glob, globs, network, version};
use super::schema::Shape;
use super::section::{Located, Section};

/// Names that a later format may use, so that no file can mean something else by them today.
const RESERVED: [&str; 4] = ["matrix", "services", "deploy", "preview"];

pub(super) fn read(table: Table, findings: &mut Findings) -> RepoFile {
    let mut root = Section::new("", table, findings);
    for key in RESERVED {
        if let Some(entry) = root.take_as(key, Shape::Refused) {
            root.wrong(&entry.key, format!("`{key}` is reserved for a later format"), "take it out");
        }
    }
    let env = root.variables("env").unwrap_or_default();
    let installs = root.tables("install").into_iter().filter_map(|table| install(table, root.findings)).collect();
    let bundle = root.table("bundle").map(|table| bundle(table, root.findings)).unwrap_or_default();
    let checks = root.tables("check").into_iter().filter_map(|table| check(table, root.findings)).collect();
    let cache = root.table("cache").map(|table| cache(table, root.findings)).unwrap_or_default();
    let toolchain = root.table("toolchain").map(|table| toolchain(table, root.findings)).unwrap_or_default();
    let checkout = root.table("checkout").map(|table| checkout(table, root.findings)).unwrap_or_default();
    let budget = root.table("budget").map(|table| budget(table, root.findings)).unwrap_or_default();
    let ignored_paths = root.table("paths").map(|table| ignored_paths(table, root.findings)).unwrap_or_default();
    let artifacts = root.table("artifacts").map(|table| artifacts(table, root.findings)).unwrap_or_default();
    let on = root.table("on").map(|table| on(table, root.findings)).unwrap_or_default();
    root.refine("on", Shape::Named);
    root.finish();
    RepoFile {
        env,
        installs: unique(installs, findings, |install: &Install| {
            format!("[[install]] of {} in {:?}", install.tool.as_str(), install.dir)
        }),
        bundle,
        checks: unique(checks, findings, |check: &Check| format!("[[check]] {:?}", check.name)),
        cache,
        toolchain,
        checkout,
        budget,
        ignored_paths,
        artifacts,
        on,
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
    let words = InstallTool::ALL.map(|tool| (tool.as_str(), Some(tool)));
    section.require("tool", "an [[install]] needs a `tool`", "write tool = \"npm\"");
    let tool = section.word("tool", &words);
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
    bundle_of(Section::new("bundle", table, findings))
}

fn bundle_of(mut section: Section<'_>) -> Bundle {
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
        let fix = "write for example: name = \"test\", command = [\"npm\", \"test\"]";
        section.require(key, format!("a [[check]] needs a `{key}`"), fix);
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

fn cache(table: Table, findings: &mut Findings) -> Cache {
    let mut section = Section::new("cache", table, findings);
    let cache = Cache {
        dependencies: section.flag("dependencies").unwrap_or(true),
        webpack: section.flag("webpack").unwrap_or(true),
        paths: folders(&mut section, "paths"),
        inputs: globs(&mut section, "inputs"),
    };
    section.finish();
    cache
}

fn toolchain(table: Table, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut section = Section::new("toolchain", table, findings);
    let versions = ["node", "npm", "yarn", "pnpm", "bun"]
        .into_iter()
        .filter_map(|tool| Some((tool.to_owned(), version(&mut section, tool)?)))
        .collect();
    section.finish();
    versions
}

fn checkout(table: Table, findings: &mut Findings) -> Checkout {
    let mut section = Section::new("checkout", table, findings);
    let usual = Checkout::default();
    let depth = section.count("depth").map(|depth| u32::try_from(depth.value).unwrap_or(u32::MAX));
    let checkout = Checkout {
        depth: depth.unwrap_or(usual.depth),
        tags: section.flag("tags").unwrap_or(usual.tags),
        submodules: section.flag("submodules").unwrap_or(usual.submodules),
        lfs: section.flag("lfs").unwrap_or(usual.lfs),
    };
    section.finish();
    checkout
}

fn budget(table: Table, findings: &mut Findings) -> Budget {
    let mut section = Section::new("budget", table, findings);
    let total = section.size("total");
    let measure = section.word("measure", &[("raw", Some(Measure::Raw)), ("gzip", Some(Measure::Gzip))]);
    let mut assets = BTreeMap::new();
    for (name, bytes) in section.sizes("assets") {
        let pattern = glob(&name.place, &name.value, section.findings);
        assets.extend(pattern.zip(bytes));
    }
    section.finish();
    Budget { total, measure: measure.unwrap_or_default(), assets }
}

fn ignored_paths(table: Table, findings: &mut Findings) -> Vec<String> {
    let mut section = Section::new("paths", table, findings);
    let ignored = globs(&mut section, "ignore");
    section.finish();
    ignored
}

fn artifacts(table: Table, findings: &mut Findings) -> Artifacts {
    let mut section = Section::new("artifacts", table, findings);
    section.require("paths", "[artifacts] needs `paths`", "write paths = [\"dist\"]");
    let paths = globs(&mut section, "paths");
    let when = section.word("when", &[("passed", Some(Keep::Passed)), ("always", Some(Keep::Always))]);
    section.finish();
    Artifacts { paths, when: when.unwrap_or_default() }
}

/// `[on."pattern"]`, in the order of the file.
fn on(table: Table, findings: &mut Findings) -> Vec<On> {
    let mut entries: Vec<(String, Entry)> = table.entries.into_iter().collect();
    entries.sort_by_key(|(_, entry)| entry.key.span.start);
    let mut all = Vec::with_capacity(entries.len());
    for (pattern, Entry { key, node }) in entries {
        let name = format!("on.{pattern:?}");
        let Value::Table(table) = node.value else {
            let message = format!("`{name}` must be a table, not {}", node.value.type_name());
            let fix = "write [on.\"main\"] with env or bundle below it";
            findings.push(Problem::at(Kind::Wrong, &key, message).fix(fix));
            continue;
        };
        let mut section = Section::named(name.clone(), "on.*", table, findings);
        on_pattern(&mut section, &key, &pattern);
        let env = section.variables("env").unwrap_or_default();
        let bundle = match section.table("bundle") {
            Some(table) => bundle_of(Section::named(format!("{name}.bundle"), "on.*.bundle", table, section.findings)),
            None => Bundle::default(),
        };
        section.finish();
        all.push(On { pattern, env, bundle });
    }
    all
}

/// The pattern of an `[on]`: what is nearly a word of its own would match no branch for ever.
fn on_pattern(section: &mut Section<'_>, key: &Place, pattern: &str) {
    let meant = match pattern {
        "tags" => Some("tag"),
        "pull_requests" | "pull-request" | "pull-requests" | "pr" => Some("pull_request"),
        _ => None,
    };
    if let Some(meant) = meant {
        let message = format!("{pattern:?} is not what an [on] is called");
        section.wrong(key, message, format!("write [on.{meant}]; for a branch of that name [on.\"{pattern}*\"]"));
    } else if pattern.is_empty() || pattern.starts_with('!') || fast_glob::validate(pattern).is_err() {
        let message = format!("{pattern:?} is not a branch pattern");
        section.wrong(key, message, "write [on.\"main\"], [on.\"release/**\"], [on.pull_request] or [on.tag]");
    }
}
