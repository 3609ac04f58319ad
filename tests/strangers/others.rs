//! What a step does with the things of other repositories, of which it is told every path: it sees none, and changes none,
//! whoever's commit it is. A build of theirs runs beside it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::strangers::settings;
use crate::support::forge::{Forge, Repo};
use crate::support::server::{Server, Settings};

const ATTACK: &str = include_str!("attack.cjs");

/// What stands in everything that the other repository's builds write.
const WORD: &str = "canary-of-the-other-repository";

/// Leaves the word wherever a build may keep something, and may stay.
const LEAVE: &str = r"
const fs = require('fs'), os = require('os'), path = require('path');
const word = fs.readFileSync('word.txt', 'utf8').trim();
const home = os.homedir();
for (const folder of ['node_modules/own', 'dist', home, `${home}/.cache/own`, `${home}/.downloads/own`, `${home}/.hookmill/webpack`, os.tmpdir()]) {
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'left.js'), `module.exports = '${word}';\n`);
}
console.log(`left ${word}`);
if (process.argv[2] === 'bundle' && fs.existsSync('stay')) {
  console.log('it stays');
  setInterval(() => {}, 1000);
}
";

const LOCK: &str = r#"{"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {"": {"name": "shop", "version": "1.0.0"}}}"#;

fn manifest(postinstall: &str) -> String {
    json!({"name": "shop", "version": "1.0.0", "private": true, "scripts": {"postinstall": postinstall}}).to_string()
}

/// Builds a repository once, so that all is kept of it that can be, and again, so that one of its builds runs: its id.
fn others(server: &Server, repo: &Repo) -> i64 {
    let file = "[cache]\ninputs = [\"leave.cjs\", \"word.txt\"]\n[bundle]\ncommand = [\"node\", \"leave.cjs\", \"bundle\"]\n\
                [artifacts]\npaths = [\"dist\"]\n";
    let files = [
        ("package.json", &*manifest("node leave.cjs install")),
        ("package-lock.json", LOCK),
        ("leave.cjs", LEAVE),
        ("word.txt", WORD),
        (".hookmill.toml", file),
    ];
    let moved = repo.push("main", &files);
    let first = server.deliver(&repo.pushed(&moved)).build();
    let build = server.wait_for(first, |build| build["kept"].as_array().is_some_and(|kept| !kept.is_empty()));
    assert_eq!(build["outcome"], "passed", "{build:#}\n{}", server.log(first, ""));
    let moved = repo.push("main", &[("stay", "")]);
    let second = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(second, "bundle", "it stays");
    second
}

/// Everything below a folder, without what the kernel needs of an overlay.
fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
        }
    }
}

/// What each of these is; of what goes on by itself (the store, logs, the times of use) only that it is there.
fn state(paths: &[PathBuf]) -> BTreeMap<&Path, String> {
    let goes_on = |path: &Path| {
        let names = ["logs", "scopes", "hookmill.db", "hookmill.db-wal", "hookmill.db-shm", "lease", "reserve"];
        path.iter().any(|part| names.iter().any(|name| part == *name))
    };
    let of = |path: &PathBuf| {
        let Ok(meta) = fs::symlink_metadata(path) else { return "gone".to_owned() };
        let content = if meta.is_file() && !goes_on(path) { fs::read(path).unwrap_or_default() } else { Vec::new() };
        let word = hex::encode(Sha256::digest(&content));
        format!("{:o} {} {word}", meta.mode(), if meta.is_file() && !goes_on(path) { meta.mtime() } else { 0 })
    };
    paths.iter().map(|path| (path.as_path(), of(path))).collect()
}

#[test]
fn a_step_sees_and_changes_nothing_of_another_repository() {
    let forge = Forge::start();
    let server = Server::start_with(&forge, Settings { repo: "forks = \"build\"\n".to_owned(), ..settings() });
    let running = others(&server, &forge.repo("acme/others"));
    if server.build(running)["sandbox"].as_str().is_some_and(|name| name.starts_with("NONE")) {
        eprintln!("NOT TRIED, this host has no fence: {}", server.build(running)["sandbox"]);
        return;
    }
    // What every build is given and none may change.
    let tools = server.data().join("tools");
    fs::create_dir_all(tools.join("npm-0.0.1/bin")).expect("a folder");
    fs::write(tools.join("npm-0.0.1/bin/npm"), "#!/bin/false\n").expect("a file");
    let mut paths = vec![server.config_file()];
    below(&server.data(), &mut paths);
    // A step is given its own repository's mirror, and so has a folder of that name, of its own.
    paths.retain(|path| *path != server.data().join("mirrors"));
    for kind in
        ["snapshots/layers/", "snapshots/scopes/", "tools/", "mirrors/", "slots/", "logs/", "artifacts/", "hookmill.db"]
    {
        let of_it = |path: &PathBuf| path.starts_with(server.data()) && path.to_string_lossy().contains(kind);
        assert!(paths.iter().filter(|path| of_it(path)).count() > 0, "nothing is in {kind}: {paths:#?}");
    }
    // What is in the trash is removed meanwhile.
    let stays: Vec<PathBuf> =
        paths.iter().filter(|path| !path.starts_with(server.data().join("trash"))).cloned().collect();
    let before = state(&stays);
    let told = json!({"paths": paths, "shared": [tools], "hidden": WORD.chars().rev().collect::<String>()});

    let thief = forge.repo("acme/thief");
    let attack = "[cache]\ninputs = [\"attack.cjs\"]\n[bundle]\ncommand = [\"node\", \"attack.cjs\", \"bundle\"]\n\
                  [[check]]\nname = \"lint\"\ncommand = [\"node\", \"attack.cjs\", \"lint\"]\n";
    let files = [
        ("package.json", &*manifest("node attack.cjs install")),
        ("package-lock.json", LOCK),
        ("paths.json", &told.to_string()),
        ("planted-path.txt", ""),
        ("planted-word.txt", WORD),
        (".hookmill.toml", attack),
    ];
    thief.write(&files);
    for trust in ["trusted", "member", "fork"] {
        // Another input each time, so that each installs by itself.
        thief.write(&[("attack.cjs", &format!("// {trust}\n{ATTACK}"))]);
        let id = server.deliver(&thief.offered(trust)).build();
        let build = server.finished(id);
        let log = server.log(id, "");
        assert_eq!((&build["outcome"], &build["trust"]), (&json!("passed"), &json!(trust)), "{build:#}\n{log}");
        let (own, got): (Vec<&str>, Vec<&str>) =
            log.lines().filter(|line| line.starts_with("GOT ")).partition(|line| line.contains("/planted-"));
        assert!(got.is_empty(), "{trust}: {got:#?}");
        for step in ["npm", "bundle", "lint"] {
            let log = server.log(id, step);
            let tried = log.lines().find_map(|line| line.strip_prefix("TRIED ")?.parse::<usize>().ok());
            assert!(tried.is_some_and(|tried| tried > paths.len() * 5), "{trust}, {step}: {log}");
        }
        // It can: of what the first step left each of its own files is in its reach.
        for what in ["sees", "reads", "adds to", "changes the mode of", "renames", "finds the word in"] {
            assert!(own.iter().any(|line| line.contains(&format!(": {what} "))), "{trust}, {what}: {own:#?}");
        }
        assert_eq!(state(&stays), before, "{trust}");
        let mut now = Vec::new();
        below(&server.data(), &mut now);
        now.retain(|path| path.ends_with("put-there") || path.extension().is_some_and(|ext| ext == "moved"));
        now.retain(|path| !path.ends_with("planted-path.txt.moved"));
        assert!(now.is_empty(), "{trust}: {now:#?}");
    }
    assert_eq!(server.build(running)["state"], "running");
    assert_eq!(server.post(&format!("/api/v1/builds/{running}/cancel"), "").code, 202);
    server.finished(running);
    forge.finish();
}
