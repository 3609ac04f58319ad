//! `hookmill run`: a folder on a developer's machine, built as the agent would build it. Uses node, npm and git.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

const BUNDLE: &str = "[bundle]\ncommand = ['node', 'bundle.js']\n";
/// Writes into its tree and says which files it sees.
const WRITER: &str = "const fs = require('fs');\nfs.mkdirSync('dist');\nfs.writeFileSync('dist/out.js', '1');\n\
                      fs.writeFileSync('bundle.js', 'changed');\n\
                      console.log('sees ' + fs.readdirSync('.').sort().join(' '));\n";

/// A folder to build, beside a cache of the test's own.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Bench {
        let bench = Bench { dir: tempfile::tempdir().expect("a folder") };
        fs::create_dir(bench.folder()).expect("a folder");
        bench.write(files);
        bench
    }

    /// With a repository in which everything is committed.
    fn committed(files: &[(&str, &str)]) -> Bench {
        let bench = Bench::new(files);
        bench.git(&["init", "-q", "-b", "main"]);
        bench.commit();
        bench
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("shop")
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn write(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = self.folder().join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.folder())
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@acme.dev")])
            .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@acme.dev")])
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn commit(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "a change"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookmill"));
        command.arg("run").arg(self.folder()).args(words);
        command.env("XDG_CACHE_HOME", self.cache()).env("NO_COLOR", "1").current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it, and fails when anything in the folder is not as it was.
    fn run(&self, words: &[&str]) -> Ran {
        let before = everything(&self.folder());
        let ran = Ran::from(self.command(words).output().expect("it runs"));
        assert_unchanged(&self.folder(), &before);
        ran
    }
}

/// How it ended and what it said.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Ran {
    /// Standard output as the one document that it has to be.
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A folder's files by their paths, each with its content, when it was changed, and its mode.
type Files = BTreeMap<PathBuf, (Vec<u8>, i64, i64, u32)>;

fn assert_unchanged(folder: &Path, before: &Files) {
    let now = everything(folder);
    let changed: Vec<_> =
        now.iter().filter(|(path, file)| before.get(*path) != Some(file)).map(|(path, _)| path).collect();
    let gone: Vec<_> = before.keys().filter(|path| !now.contains_key(*path)).collect();
    assert!(changed.is_empty() && gone.is_empty(), "it wrote into the folder: {changed:?}, gone: {gone:?}");
}

fn everything(folder: &Path) -> Files {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let (path, about) = (entry.path(), entry.metadata().expect("there"));
        let content = if about.is_dir() { Vec::new() } else { fs::read(&path).expect("readable") };
        if about.is_dir() {
            found.extend(everything(&path));
        }
        found.insert(path, (content, about.mtime(), about.mtime_nsec(), about.mode()));
    }
    found
}

fn step<'b>(build: &'b Value, name: &str) -> &'b Value {
    let steps = build["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {build:#}"))
}

#[test]
fn npm_and_the_build_script_of_a_folder_pass() {
    let package = json!({"name": "shop", "version": "1.0.0", "scripts": {"build": "node bundle.js"},
                         "dependencies": {"is-number": "7.0.0"}});
    let script = "console.log('7 is a number:', require('is-number')(7));\n";
    let bench = Bench::committed(&[("package.json", &package.to_string()), ("bundle.js", script)]);
    let ran = bench.run(&[]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("7 is a number:"), "{ran:#?}");
    assert!(ran.stdout.contains("passed: Passed in "), "{ran:#?}");
}

#[test]
fn it_builds_what_a_commit_would_hold_now_and_writes_only_into_its_own_copy() {
    let bench = Bench::committed(&[
        (".hookmill.toml", BUNDLE),
        (".gitignore", "secret.env\nnode_modules\n"),
        ("bundle.js", "process.exit(9);\n"),
        ("kept.js", ""),
    ]);
    // Changed and new files count, ignored ones do not.
    bench.write(&[("bundle.js", WRITER), ("new.js", ""), ("secret.env", "TOKEN=1"), ("node_modules/x/index.js", "")]);
    let ran = bench.run(&[]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let sees = ran.stdout.lines().find_map(|line| line.split_once("sees ")).expect("the bundle's word").1;
    let files: Vec<&str> = sees.split(' ').filter(|file| !file.starts_with(".git")).collect();
    assert_eq!(files, [".hookmill.toml", "bundle.js", "dist", "kept.js", "new.js"]);

    // The copy of the run before is no part of the next.
    assert_eq!(bench.run(&[]).code, Some(0));
}

#[test]
fn a_failure_is_exit_code_1_and_one_document() {
    let script = "console.log('loud on standard output');\nthrow new Error('no price');\n";
    let bench = Bench::committed(&[(".hookmill.toml", BUNDLE), ("bundle.js", script)]);
    let head = bench.git(&["rev-parse", "HEAD"]);
    let ran = bench.run(&["--json"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let build = ran.document();
    let seen = (&build["state"], &build["outcome"], &build["event"], &build["built_sha"]);
    assert_eq!(seen, (&json!("finished"), &json!("failed"), &json!("local"), &json!(head)), "{build:#}");
    let bundle = step(&build, "bundle");
    assert_eq!((&bundle["outcome"], &bundle["exit_code"]), (&json!("failed"), &json!(1)), "{build:#}");
    assert!(build["reason"].as_str().is_some_and(|reason| reason.contains("no price")), "{build:#}");
    assert!(ran.stderr.contains("loud on standard output"), "logs go to standard error: {ran:#?}");

    let plain = bench.run(&[]);
    assert_eq!(plain.code, Some(1));
    assert!(plain.stdout.contains("failed: Bundle failed: ") && plain.stdout.contains("no price"), "{plain:#?}");
}

#[test]
fn explain_says_why_and_runs_nothing() {
    let package =
        json!({"name": "shop", "scripts": {"build": "node bundle.js"}, "dependencies": {"is-number": "7.0.0"}});
    let bench = Bench::new(&[
        ("package.json", &package.to_string()),
        ("bower.json", r#"{"name": "shop", "dependencies": {"icons": "1.0.0"}}"#),
        ("bundle.js", "throw new Error('it ran');\n"),
    ]);
    let ran = bench.run(&["--explain"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    for word in ["package.json", "bower.json", "What would run", "1  npm", "2  bundle", "Worth knowing"] {
        assert!(ran.stdout.contains(word), "{word:?} in {ran:#?}");
    }
    assert!(!ran.stdout.contains("it ran") && !ran.stderr.contains("it ran"), "{ran:#?}");

    let plan = bench.run(&["--explain", "--json"]).document();
    let stages = plan["stages"].as_array().expect("stages");
    let names: Vec<Vec<&str>> = stages
        .iter()
        .map(|stage| {
            stage["steps"].as_array().expect("steps").iter().filter_map(|step| step["name"].as_str()).collect()
        })
        .collect();
    assert_eq!(names, [vec!["npm", "bower"], vec!["bundle"]], "{plan:#}");
}

#[test]
fn check_plans_the_folder_and_strict_refuses_its_notices() {
    let package = json!({"name": "shop", "scripts": {"build": "node bundle.js"}, "dependencies": {"a": "1"}});
    let bench = Bench::committed(&[("package.json", &package.to_string()), ("yarn.lock", "# yarn lockfile v1\n")]);
    let check = |words: &[&str]| {
        let before = everything(&bench.folder());
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookmill"));
        command.arg("check").args(words).current_dir(bench.folder());
        let ran = Ran::from(command.env("XDG_CACHE_HOME", bench.cache()).output().expect("it runs"));
        assert_unchanged(&bench.folder(), &before);
        ran
    };
    bench.write(&[("package-lock.json", "{}")]);
    let ran = check(&["."]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("package-lock.json"), "it names the file to delete: {ran:#?}");
    // What is not committed yet was changed last.
    assert!(ran.stdout.contains("plan of . (npm, bundle): good, with "), "{ran:#?}");
    let ran = check(&["--strict"]);
    assert_eq!(ran.code, Some(2), "the folder that is here is planned, too: {ran:#?}");
    assert!(ran.stdout.contains("(--strict)"), "{ran:#?}");

    bench.write(&[("package.json", "{")]);
    let ran = check(&["."]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("package.json is not JSON"), "{ran:#?}");
}

#[test]
fn a_commit_is_built_instead_of_the_files() {
    let bench = Bench::committed(&[(".hookmill.toml", BUNDLE), ("bundle.js", "console.log('first');\n")]);
    let first = bench.git(&["rev-parse", "HEAD"]);
    bench.write(&[("bundle.js", "console.log('second');\n")]);
    let second = bench.commit();
    bench.write(&[("bundle.js", "console.log('not committed');\n")]);

    for (rev, sha, word) in [("HEAD~1", &first, "first"), ("main", &second, "second"), (&first[..9], &first, "first")] {
        // A tree that passed before passes at once.
        let ran = bench.run(&["--json", "--no-cache", "--commit", rev]);
        assert_eq!(ran.code, Some(0), "{rev}: {ran:#?}");
        assert_eq!(ran.document()["built_sha"], **sha, "{rev}");
        assert!(ran.stderr.contains(word) && !ran.stderr.contains("not committed"), "{rev}: {ran:#?}");
    }
    assert!(bench.run(&[]).stdout.contains("not committed"));

    let unknown = bench.run(&["--commit", "no-such-branch"]);
    assert!(unknown.code.is_some_and(|code| code != 0), "{unknown:#?}");
    assert!(format!("{unknown:?}").contains("no-such-branch"), "it names what is missing: {unknown:#?}");
}

#[test]
fn another_folder_of_the_same_name_and_one_whose_old_commits_are_pruned() {
    let files = |word: &str| format!("console.log('{word}');\n");
    let bench = Bench::committed(&[(".hookmill.toml", BUNDLE), ("bundle.js", &files("first")), ("old.js", "")]);
    assert!(bench.run(&[]).stdout.contains("first"));

    // Its objects went with it; what the slot remembers of it can't be compared with any more.
    fs::remove_dir_all(bench.folder()).expect("removed");
    fs::create_dir(bench.folder()).expect("a folder");
    bench.write(&[(".hookmill.toml", BUNDLE), ("bundle.js", &files("second"))]);
    bench.git(&["init", "-q", "-b", "main"]);
    bench.commit();
    let ran = bench.run(&[]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("second") && !ran.stdout.contains("trying again"), "{ran:#?}");

    bench.write(&[("bundle.js", &files("third"))]);
    bench.git(&["commit", "-q", "-a", "--amend", "-m", "another"]);
    bench.git(&["reflog", "expire", "--expire=now", "--all"]);
    bench.git(&["gc", "-q", "--prune=now"]);
    let ran = bench.run(&[]);
    assert!(ran.code == Some(0) && ran.stdout.contains("third"), "{ran:#?}");
}

#[test]
fn nothing_to_do_passes_and_a_missing_folder_is_wrong_usage() {
    let bench = Bench::new(&[("README.md", "# Shop\n")]);
    let ran = bench.run(&[]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("nothing to install or bundle"), "{ran:#?}");

    fs::remove_dir_all(bench.folder()).expect("removed");
    let ran = Ran::from(bench.command(&[]).output().expect("it runs"));
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("shop"), "{ran:#?}");
}

#[test]
fn an_interrupt_is_exit_code_130_and_leaves_nothing_of_the_build() {
    let script = "console.log('bundling');\nsetInterval(() => {}, 1000);\n";
    let bench = Bench::committed(&[(".hookmill.toml", BUNDLE), ("bundle.js", script)]);
    let before = everything(&bench.folder());
    let mut child = bench.command(&[]).stderr(Stdio::null()).spawn().expect("it runs");
    let mut told = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(told.any(|line| line.expect("text").contains("bundling")), "it ended before the bundle ran");

    kill_process(Pid::from_child(&child), Signal::INT).expect("sent");
    let last: Vec<String> = told.map(|line| line.expect("text")).collect();
    assert_eq!(child.wait().expect("ended").code(), Some(130), "{last:?}");
    assert!(last.iter().any(|line| line.contains("cancelled")), "{last:?}");
    assert_unchanged(&bench.folder(), &before);
    let builds = bench.cache().join("hookmill/slots/0/builds");
    let left: Vec<_> = fs::read_dir(&builds).map(|dir| dir.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}
