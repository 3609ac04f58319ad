//! The house has one-way floors: a file imports from its own folder and from floors below it.
//!
//! A new folder must be given a floor here; an arrow that goes up or sideways fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up; rooms of one floor do not know each other.
const FLOORS: [(&str, &[&str]); 8] = [
    ("promises", &["fuzz"]),
    ("words", &["domain"]),
    ("settings", &["config"]),
    ("ground", &["tree", "process", "confine", "outside", "disk"]),
    ("abilities", &["forge", "store", "blobs", "checkout", "plan", "toolchain", "live", "egress", "cache"]),
    ("flow", &["intake", "runner", "worker", "reporter", "sweeper"]),
    ("doors", &["web", "cli", "inside"]),
    ("join", &["app", "telemetry", "main", "lib"]),
];

/// Arrows within a floor that are part of the design.
///
/// `confine` starts processes and looks at trees, `disk` measures them; the flow is read from `worker` down to `runner`,
/// and what the sweeper finds goes through the intake like a delivery; the join puts everything together.
const EXCEPTIONS: [(&str, &str); 7] = [
    ("confine", "process"),
    ("confine", "tree"),
    ("disk", "tree"),
    ("worker", "runner"),
    ("sweeper", "intake"),
    ("main", "app"),
    ("main", "telemetry"),
];

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, rooms)| rooms.contains(&room))
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("under src");
    let first = inside.components().next().expect("a file").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms that a file names by `crate::floors::room` or `hookmill::room`, outside comments.
fn arrows(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for start in ["crate::floors::", "hookmill::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 0;
                let mut word = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            rooms.push(std::mem::take(&mut word));
                            continue;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        word.push(c);
                    }
                }
                rooms.push(word);
            } else {
                rooms.push(rest.to_owned());
            }
        }
    }
    let first_word =
        |text: String| -> String { text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    rooms.into_iter().map(first_word).filter(|room| !room.is_empty()).collect()
}

#[test]
fn arrows_go_down() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let room = room_of(file);
        let Some(floor) = floor_of(&room) else {
            wrong.push(format!("{} is in no room: give `{room}` a floor in tests/floors.rs", file.display()));
            continue;
        };
        for target in arrows(&fs::read_to_string(file).expect("src is UTF-8")) {
            let Some(target_floor) = floor_of(&target) else { continue };
            let legal =
                target == room || target_floor < floor || EXCEPTIONS.contains(&(room.as_str(), target.as_str()));
            if !legal {
                wrong.push(format!("{}: `{room}` may not know `{target}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not go down:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_exists_and_the_words_know_no_machine() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for file in &files {
        *seen.entry(room_of(file)).or_default() += 1;
        if room_of(file) == "domain" {
            let text = fs::read_to_string(file).expect("src is UTF-8");
            for machine in ["tokio", "axum", "git2", "sqlx", "std::fs", "std::net", "SystemTime::now", "Instant::now"] {
                let used = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(machine));
                assert!(!used, "{}: the words know no {machine}", file.display());
            }
        }
    }
    for (floor, rooms) in FLOORS {
        for room in rooms {
            assert!(seen.contains_key(*room), "floor {floor}: there is no room `{room}` any more");
        }
    }
}

/// Ways to a file by its path, on which a link is followed.
const BY_PATH: [&str; 11] = [
    "fs::read(",
    "fs::read_to_string(",
    "fs::read_dir(",
    "fs::copy(",
    "fs::write(",
    "remove_dir_all(",
    "File::open(",
    ".exists()",
    ".is_file()",
    ".is_dir()",
    "canonicalize(",
];

/// Where the rooms that handle what builds wrote use one of them all the same, and on what: nothing that a build can have
/// put there. What a build wrote is touched through `tree`.
const OURS: [(&str, usize); 5] = [
    // The folder itself, which the agent made; not what is in it.
    ("runner/keeping.rs", 1),
    // A list beside the slots' trees.
    ("runner/flat.rs", 2),
    // The agent's own shelf.
    ("runner/tools.rs", 1),
    // The folder of a build, before anything runs in it.
    ("runner/workspace.rs", 1),
    // Of what is there itself, not of what it leads to.
    ("runner/phases.rs", 1),
];

#[test]
fn what_builds_wrote_is_not_opened_by_its_path() {
    let mut files = Vec::new();
    sources(&root().join("runner"), &mut files);
    sources(&root().join("worker"), &mut files);
    let mut wrong = Vec::new();
    for file in files
        .iter()
        .filter(|file| !file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests")))
    {
        let name = file.strip_prefix(root()).expect("under src").to_string_lossy().into_owned();
        let text = fs::read_to_string(file).expect("src is UTF-8");
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found: Vec<&str> = lines.filter(|line| BY_PATH.iter().any(|way| line.contains(way))).collect();
        let allowed = OURS.iter().find(|(ours, _)| *ours == name).map_or(0, |(_, count)| *count);
        if found.len() != allowed {
            wrong.push(format!("{name}: {allowed} were looked at, there are {}: {found:#?}", found.len()));
        }
    }
    assert!(wrong.is_empty(), "paths that a build may have laid a link into:\n{}", wrong.join("\n"));
}

#[test]
fn the_test_sees_arrows() {
    assert_eq!(arrows("use crate::floors::store::Store;"), ["store"]);
    assert_eq!(arrows("use crate::floors::{web::{a, b}, cli};"), ["web", "cli"]);
    assert_eq!(arrows("// crate::floors::web\nlet x = crate::floors::live::Hub::new();"), ["live"]);
}
