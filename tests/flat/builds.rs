//! Builds where nothing can be stacked: what one leaves comes into the next one's tree, and back out of it.
//!
//! Uses node and npm, and no network: the only dependency is a tarball of the repository's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hookmill::confine::{self, Layers, Missing};
use hookmill::domain::build::BuildId;
use hookmill::domain::outcome::Outcome;
use hookmill::domain::trust::Trust;
use hookmill::runner::build::{Built, build};
use hookmill::runner::{Happening, Job, Parts, Stop, Tell};

use crate::support::runner as support;

/// Appends to what a bundler might keep, and says how long that is by now.
const BUILD: &str = r"const fs = require('fs');
console.log('alpha says ' + require('alpha'));
fs.mkdirSync('node_modules/.cache/mine', { recursive: true });
fs.appendFileSync('node_modules/.cache/mine/log', 'x');
console.log('kept ' + fs.readFileSync('node_modules/.cache/mine/log').length);
fs.mkdirSync('dist', { recursive: true });
fs.writeFileSync('dist/main.js', require('alpha') + fs.readFileSync('src.js', 'utf8'));
";

/// A repository, and an agent that builds it.
struct Agent {
    _dir: tempfile::TempDir,
    source: PathBuf,
    parts: Parts,
    built: i64,
}

impl Agent {
    /// With as many files in its dependency.
    async fn new(files: usize, layers: impl FnOnce(Layers, &Path) -> Layers) -> Agent {
        // Temporary directories may be in memory, where nothing is lent by a rename.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (source, data) = (dir.path().join("source"), dir.path().join("data"));
        fs::create_dir(&data).expect("a folder");
        let package = dir.path().join("tarball/package");
        for folder in [&source, &package] {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::write(package.join("package.json"), r#"{"name": "alpha", "version": "1.0.0"}"#).expect("a file");
        fs::write(package.join("index.js"), "module.exports = 'alpha';\n").expect("a file");
        for at in 0..files {
            let folder = package.join(format!("lib/{}", at / 50));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(format!("{at}.js")), format!("module.exports = '{at:0900}';\n")).expect("a file");
        }
        let tarball = source.join("alpha-1.0.0.tgz");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&tarball).arg("-C").arg(dir.path().join("tarball")).arg("package");
        assert!(tar.status().expect("tar is here").success());
        let manifest = r#"{"name": "shop", "version": "1.0.0", "private": true,
            "scripts": {"build": "node build.js"}, "dependencies": {"alpha": "file:alpha-1.0.0.tgz"}}"#;
        let lock = r#"{"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {
            "": {"name": "shop", "version": "1.0.0", "dependencies": {"alpha": "file:alpha-1.0.0.tgz"}},
            "node_modules/alpha": {"version": "1.0.0", "resolved": "file:alpha-1.0.0.tgz"}}}"#;
        let settings = "[bundle]\ncommand = [\"npm\", \"run\", \"build\"]\n";
        let texts = [("package.json", manifest), ("package-lock.json", lock), (".hookmill.toml", settings)];
        for (path, text) in texts.into_iter().chain([("build.js", BUILD), ("src.js", "// 1\n")]) {
            fs::write(source.join(path), text).expect("a file");
        }
        let mut parts = support::parts_in(&data, None).await;
        parts.layers = Arc::new(layers(Layers::clone(&parts.layers), &data));
        Agent { _dir: dir, source, parts, built: 0 }
    }

    /// Without a fence, each step behind what it can put around itself.
    async fn bare() -> Agent {
        let mut agent = Agent::new(3, |layers, _| layers).await;
        let probed = confine::probe_bare(&agent.parts.exe, &agent.parts.data_dir, "asked for").await;
        agent.parts.layers = Arc::new(probed.expect("a folder of ours"));
        agent
    }

    fn change(&self, path: &str, text: &str) {
        fs::write(self.source.join(path), text).expect("a file");
    }

    fn job(&mut self) -> Job {
        self.built += 1;
        // No verdict of an earlier build holds.
        self.change("src.js", &format!("// {}\n", self.built));
        let mut job = support::job_of(&self.source, Trust::Trusted);
        (job.build.id, job.build.use_cache) = (BuildId(self.built), true);
        job
    }

    /// Builds, keeps what that leaves, and tells how it went.
    async fn build(&mut self) -> (Outcome, String) {
        let job = self.job();
        let (built, log) = run(&job, &self.parts, 0).await;
        let outcome = built.verdict.outcome;
        built.keep().await;
        (outcome, log)
    }
}

async fn run(job: &Job, parts: &Parts, slot: usize) -> (Built, String) {
    let (tell, mut happenings) = Tell::channel();
    let stop = Stop::new();
    let hear = async {
        let mut log = String::new();
        while let Some(happening) = happenings.recv().await {
            log.push_str(&line(&happening));
        }
        log
    };
    tokio::join!(build(job, parts, slot, tell, &stop), hear)
}

fn line(happening: &Happening) -> String {
    match happening {
        Happening::Output(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Happening::Notice(notice) => format!("{notice}\n"),
        Happening::Step(_, step) => step.reason.as_ref().map(|reason| format!("{reason}\n")).unwrap_or_default(),
        _ => String::new(),
    }
}

fn has(log: &str, text: &str) {
    assert!(log.contains(text), "no {text:?} in:\n{log}");
}

fn has_not(log: &str, text: &str) {
    assert!(!log.contains(text), "{text:?} in:\n{log}");
}

/// What npm says when it ran.
const INSTALLED: &str = "added 1 package";

#[tokio::test]
async fn dependencies_come_by_rename_and_what_bundlers_keep_comes_too() {
    let mut agent = Agent::bare().await;
    let (outcome, log) = agent.build().await;
    has(&log, INSTALLED);
    has(&log, "kept 1");
    assert_eq!(outcome, Outcome::Passed, "{log}");
    for kept in ["kept 2", "kept 3", "kept 4"] {
        let (outcome, log) = agent.build().await;
        assert_eq!(outcome, Outcome::Passed, "{log}");
        has(&log, "unchanged since build #1: brought in by rename");
        has_not(&log, INSTALLED);
        has(&log, "alpha says alpha");
        has(&log, kept);
        has_not(&log, "not kept");
    }
}

#[tokio::test]
async fn an_edit_in_place_is_in_no_later_build() {
    let mut agent = Agent::bare().await;
    let edit = "require('fs').writeFileSync('node_modules/alpha/index.js', `module.exports = 'edited';\n`);\n";
    agent.change("build.js", &format!("{edit}{BUILD}"));
    let (outcome, log) = agent.build().await;
    assert_eq!(outcome, Outcome::Passed, "{log}");
    has(&log, "what was installed is not kept: a step after the installs changed node_modules/alpha/index.js in place");
    agent.change("build.js", BUILD);
    let (_, log) = agent.build().await;
    has(&log, INSTALLED);
    has(&log, "alpha says alpha");
    // What was kept meanwhile is not lost to the build that edits it, but by it.
    agent.change("build.js", &format!("{edit}{BUILD}"));
    let (_, log) = agent.build().await;
    has(&log, "unchanged since build #2: brought in by rename");
    has(&log, "alpha says edited");
    agent.change("build.js", BUILD);
    let (_, log) = agent.build().await;
    has(&log, INSTALLED);
    has(&log, "alpha says alpha");
}

#[tokio::test]
async fn a_build_that_fails_gives_back_what_it_took() {
    let mut agent = Agent::bare().await;
    assert_eq!(agent.build().await.0, Outcome::Passed);
    agent.change("build.js", &format!("{BUILD}process.exit(1);\n"));
    let (outcome, log) = agent.build().await;
    assert_eq!(outcome, Outcome::Failed, "{log}");
    has(&log, "brought in by rename");
    agent.change("build.js", BUILD);
    let (outcome, log) = agent.build().await;
    assert_eq!(outcome, Outcome::Passed, "{log}");
    has(&log, "unchanged since build #1: brought in by rename");
    has(&log, "kept 2");
}

#[tokio::test]
async fn a_build_that_is_killed_costs_the_next_one_an_install_and_no_more() {
    let mut agent = Agent::bare().await;
    assert_eq!(agent.build().await.0, Outcome::Passed);
    agent.change("build.js", &format!("{BUILD}console.log('waiting');\nsetInterval(() => {{}}, 1000);\n"));
    let (job, (tell, mut happenings), stop) = (agent.job(), Tell::channel(), Stop::new());
    let waits = async {
        while let Some(happening) = happenings.recv().await {
            if line(&happening).contains("waiting") {
                return;
            }
        }
        panic!("the build ended");
    };
    tokio::select! {
        built = build(&job, &agent.parts, 0, tell, &stop) => panic!("{:?}", built.verdict),
        () = waits => {}
    }
    agent.change("build.js", BUILD);
    for installs in [true, false] {
        let (outcome, log) = agent.build().await;
        assert_eq!(outcome, Outcome::Passed, "{log}");
        assert_eq!(log.contains(INSTALLED), installs, "{log}");
        has(&log, "alpha says alpha");
    }
}

#[tokio::test]
async fn two_builds_at_once_get_their_own() {
    let no_overlay = |layers, _: &Path| Layers { overlay: Err(Missing("not asked for".into())), ..layers };
    let mut agent = Agent::new(3, no_overlay).await;
    if agent.parts.layers.userns.is_err() || agent.parts.layers.bubblewrap.is_err() {
        eprintln!("NOT TRIED: in bare builds each slot has paths of its own, and here are no others");
        return;
    }
    assert_eq!(agent.build().await.0, Outcome::Passed);
    for round in 0..3 {
        let (one, other) = (agent.job(), agent.job());
        let ((one, log), (other, other_log)) = tokio::join!(run(&one, &agent.parts, 0), run(&other, &agent.parts, 1));
        for (built, log) in [(&one, &log), (&other, &other_log)] {
            assert_eq!(built.verdict.outcome, Outcome::Passed, "{log}");
            has(log, "alpha says alpha");
            // Who came to work on what the other one wrote would have one more.
            has(log, &format!("kept {}", round + 2));
        }
        tokio::join!(one.keep(), other.keep());
    }
    let (outcome, log) = agent.build().await;
    assert_eq!(outcome, Outcome::Passed, "{log}");
    has_not(&log, INSTALLED);
}

/// Milliseconds, for a person to read: `cargo nextest run flat::builds:: --run-ignored only --no-capture`.
#[tokio::test]
#[ignore = "measures"]
async fn figures() {
    for renames in [true, false] {
        let mut agent = Agent::new(9_000, |_, data| {
            let mut layers = Layers::none("asked for").on(data);
            layers.files.tells_changes &= renames;
            layers
        })
        .await;
        for _ in 0..3 {
            let (job, began) = (agent.job(), std::time::Instant::now());
            let (built, log) = run(&job, &agent.parts, 0).await;
            let told = began.elapsed();
            assert_eq!(built.verdict.outcome, Outcome::Passed, "{log}");
            built.keep().await;
            let way = log.lines().find(|line| line.contains("since build")).unwrap_or("installed").to_owned();
            println!("{way}: verdict {} ms, kept after {} ms", told.as_millis(), (began.elapsed() - told).as_millis());
        }
    }
}
