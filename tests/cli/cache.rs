//! `hookmill cache` on what builds would have left.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use hookmill::cache::{Cache, Found};
use hookmill::domain::build::BuildId;
use hookmill::domain::snapshot::{Inputs, Level, Lineage, Place, Record, Scope};
use hookmill::domain::time::Timestamp;
use hookmill::domain::trust::Trust;
use serde_json::{Value, json};

const CONFIG: &str = r#"
[[forge]]
name = "github"
kind = "github"
token = "a-token-of-enough-bytes"
hook_secret = "a-secret-of-enough-bytes"

[retention]
snapshots = "1MB"
"#;

/// A server's folder, as an operator would stand in it.
struct Machine {
    dir: tempfile::TempDir,
    cache: Cache,
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("hookmill.toml"), CONFIG).expect("written");
        fs::create_dir(dir.path().join("data")).expect("made");
        let cache = Cache::new(&dir.path().join("data"));
        Self { dir, cache }
    }

    fn run(&self, args: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_hookmill"))
            .arg("cache")
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("XDG_CACHE_HOME", self.dir.path().join("own"))
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Said { code: output.status.code().expect("it exits"), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self, args: &[&str]) -> Value {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).expect("one document")
    }

    /// Keeps a snapshot with one file of so many bytes.
    fn keep(&self, scope: &Scope, level: Level, inputs: &Inputs, build: u64, bytes: usize) -> Record {
        let tree = tempfile::tempdir_in(self.dir.path()).expect("a directory").keep();
        fs::write(tree.join("file"), "x".repeat(bytes)).expect("written");
        let sealed = self.cache.seal(&tree, u64::MAX).expect("sealed");
        // The clock of the file system is a coarse one, and this is all done in one tick of it.
        let kept = SystemTime::now() - Duration::from_secs(100 - build);
        let layers = if level == Level::Verdict { Vec::new() } else { vec![sealed.layer(Place::Tree)] };
        let record = Record {
            scope: scope.clone(),
            level,
            inputs: inputs.clone(),
            layers,
            build: BuildId(i64::try_from(build).expect("small")),
            sha: "9f8e7d6".repeat(6)[..40].parse().expect("legal"),
            kept_at: Timestamp::from(kept),
            note: None,
        };
        self.cache.put(&record).expect("kept");
        let file = format!("{}/{}/{}.json", scope.id(), level.as_str(), inputs.key());
        let file = fs::File::open(self.dir.path().join("data/snapshots/scopes").join(file)).expect("there");
        file.set_modified(kept).expect("ours");
        record
    }

    fn layer(&self, record: &Record) -> PathBuf {
        self.dir.path().join("data/snapshots/layers").join(&record.layers[0].id.0)
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn scope(repo: &str, trust: Trust, git_ref: &str) -> Scope {
    Scope { repo: repo.parse().expect("legal"), trust, git_ref: git_ref.parse().expect("legal") }
}

fn main_branch() -> Scope {
    scope("github/acme/shop", Trust::Trusted, "refs/heads/main")
}

fn inputs(list: &[(&str, &str)]) -> Inputs {
    let mut inputs = Inputs::default();
    list.iter().for_each(|(name, value)| inputs.add(*name, *value));
    inputs
}

#[test]
fn nothing_kept_is_said_and_is_no_fault() {
    let machine = Machine::new();
    let said = machine.run(&["ls"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    assert!(said.err.contains("nothing is kept under") && said.err.contains("the first build"), "{}", said.err);
    let said = machine.run(&["verify"]);
    assert!(said.code == 0 && said.out.contains("nothing is kept under"), "{}", said.out);
    assert_eq!(machine.run(&["gc"]).code, 0);
    assert_eq!(machine.run(&["rm", "--all"]).code, 0);
    let said = machine.run(&["explain", "acme/shop"]);
    assert_eq!((said.code, said.err.as_str()), (1, "hookmill: nothing is kept of acme/shop\n"));
    assert_eq!(machine.json(&["ls", "--json"])["snapshots"], json!([]));
    let said = machine.run(&["--local", "ls"]);
    assert!(said.code == 0 && said.err.contains("own/hookmill"), "{}", said.err);
}

#[test]
fn what_is_kept_is_listed_with_its_room() {
    let machine = Machine::new();
    let packages = machine.keep(&main_branch(), Level::Packages, &inputs(&[("node", "20.11.1")]), 12, 5000);
    let member = scope("github/acme/shop", Trust::Member, "refs/heads/topic");
    machine.keep(&member, Level::Work, &inputs(&[("node", "20.11.1")]), 13, 5000);
    let other = scope("github/acme/other", Trust::Trusted, "refs/heads/main");
    machine.keep(&other, Level::Verdict, &inputs(&[("tree", "1")]), 14, 0);

    let said = machine.run(&["ls"]);
    assert_eq!(said.code, 0);
    let rows: Vec<Vec<&str>> = said.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 3, "{}", said.out);
    assert_eq!(rows[2][..3], ["github/acme/shop", "main", "packages"]);
    assert_eq!(rows[1][..3], ["github/acme/shop", "topic (member)", "work"]);
    assert_eq!(rows[0][..4], ["github/acme/other", "main", "verdict", "0"]);
    assert!(said.err.contains("in all, of 1 MB"), "{}", said.err);

    let listed = machine.json(&["ls", "--json", "--repo", "acme/shop"]);
    assert_eq!(listed["quota_bytes"], 1_000_000);
    assert_eq!(listed["bytes"], machine.cache.bytes());
    let one = &listed["snapshots"][1];
    assert_eq!(one["key"], packages.inputs.key());
    assert_eq!(
        (&one["repo"], &one["ref"], &one["build"]),
        (&json!("github/acme/shop"), &json!("refs/heads/main"), &json!(12))
    );
    let said = machine.run(&["ls", "--repo", "acme/nothing"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("help: kept are github/acme/other, github/acme/shop"), "{}", said.err);
}

#[test]
fn a_miss_is_explained_by_the_first_input_that_differs() {
    let machine = Machine::new();
    let then = inputs(&[("node", "18.20.4"), ("package-lock.json", "sha256:00"), (".npmrc", "sha256:01")]);
    let now_ = inputs(&[("node", "18.20.4"), ("package-lock.json", "sha256:11"), (".npmrc", "sha256:02")]);
    machine.keep(&main_branch(), Level::Packages, &then, 12, 10);
    machine.cache.note_miss(&main_branch(), Level::Packages, &now_, BuildId(13), now()).expect("noted");
    // The build that missed passed and left its own: the miss is still explained by what there was before.
    machine.keep(&main_branch(), Level::Packages, &now_, 13, 10);

    let said = machine.run(&["explain", "acme/shop", "--ref", "main"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], "github/acme/shop main");
    assert!(lines[1].starts_with("  packages: left by build 13 (9f8e7d6) "), "{}", said.out);
    assert_eq!(lines[3], "    package-lock.json  sha256:11");
    assert!(lines[5].starts_with("    last miss, build 13 "), "{}", said.out);
    assert!(lines[5].ends_with(": package-lock.json changed since build #12"), "{}", said.out);

    let told = machine.json(&["explain", "github/acme/shop", "--json"]);
    let level = &told["scopes"][0]["levels"][0];
    let first = json!({ "name": "package-lock.json", "then": "sha256:00", "now": "sha256:11" });
    assert_eq!(level["last_miss"]["first_difference"], first);
    assert_eq!(level["last_miss"]["compared_with_build"], 12);
    assert_eq!(level["newest"]["inputs"].as_array().map(Vec::len), Some(3));
    let said = machine.run(&["explain", "acme/shop", "--ref", "nowhere"]);
    assert_eq!((said.code, said.err.as_str()), (1, "hookmill: nothing is kept of nowhere of github/acme/shop\n"));
}

#[test]
fn a_first_miss_is_told_from_what_a_branch_above_had() {
    let machine = Machine::new();
    let topic = scope("github/acme/shop", Trust::Fork, "refs/pull/7/head");
    machine.cache.note_miss(&topic, Level::Bower, &inputs(&[("bower", "1.8")]), BuildId(2), now()).expect("noted");
    let said = machine.run(&["explain", "acme/shop", "--ref", "#7"]);
    assert!(said.out.starts_with("github/acme/shop pull request 7 (fork)\n  bower: nothing is kept\n"), "{}", said.out);
    assert!(said.out.ends_with(": nothing is known that was kept before\n"), "{}", said.out);
    machine.keep(&main_branch(), Level::Bower, &inputs(&[("bower", "1.7")]), 3, 1);
    machine.cache.note_miss(&topic, Level::Bower, &inputs(&[("bower", "1.8")]), BuildId(4), now()).expect("noted");
    let said = machine.run(&["explain", "acme/shop", "--ref", "#7"]);
    assert!(said.out.ends_with(": bower 1.7 → 1.8 since build #3\n"), "{}", said.out);
}

#[test]
fn damage_is_found_and_repaired() {
    let machine = Machine::new();
    let kept = machine.keep(&main_branch(), Level::Packages, &inputs(&[("node", "20")]), 12, 10);
    let said = machine.run(&["verify"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "1 layer of 1 file or folder read: all of it is as it was sealed\n")
    );
    let layer = machine.layer(&kept);
    fs::write(layer.join("files/file"), "something else").expect("written");
    let said = machine.run(&["verify"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("file is of another size") && said.out.contains("verify --repair"), "{}", said.out);
    let said = machine.run(&["verify", "--repair"]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.contains("damaged: the packages snapshot of github/acme/shop main (trusted)"), "{}", said.out);
    assert!(!layer.exists());
    let trash = fs::read_dir(machine.dir.path().join("data/trash")).expect("there").count();
    assert_eq!((trash, machine.run(&["verify"]).code), (0, 0));
}

#[test]
fn what_is_named_is_removed_and_nothing_that_a_build_uses() {
    let machine = Machine::new();
    let topic = scope("github/acme/shop", Trust::Trusted, "refs/heads/topic");
    let some = inputs(&[("node", "20")]);
    for scope in [&main_branch(), &topic] {
        machine.keep(scope, Level::Packages, &some, 12, 10);
        machine.keep(scope, Level::Work, &some, 12, 10);
    }
    let held = machine.cache.find(&Lineage { own: main_branch(), above: Vec::new() }, Level::Packages, &some);
    assert!(matches!(held, Found::Hit(_)));

    let check = |args: &[&str], code, left| {
        let said = machine.run(args);
        assert_eq!((said.code, machine.cache.list().len()), (code, left), "{args:?}: {}{}", said.out, said.err);
        said
    };
    check(&["rm"], 2, 4);
    check(&["rm", "--level", "work"], 2, 4);
    check(&["rm", "acme/shop", "--all"], 2, 4);
    check(&["rm", "acme/shop", "--level", "nothing"], 2, 4);
    check(&["rm", "acme/none"], 1, 4);
    check(&["rm", "acme/shop", "--ref", "none"], 1, 4);
    check(&["rm", "acme/shop", "--ref", "topic", "--level", "work"], 0, 3);
    let said = check(&["rm", "acme/shop", "--ref", "topic"], 0, 2);
    assert!(said.out.starts_with("removed: packages of github/acme/shop topic, build 12\n"), "{}", said.out);
    let said = check(&["rm", "--all"], 1, 1);
    assert!(said.err.contains("a build is using packages of github/acme/shop main, build 12"), "{}", said.err);
    drop(held);
    check(&["rm", "--all"], 0, 0);
    assert_eq!(machine.cache.bytes(), 0);
}

#[test]
fn the_quota_is_brought_about() {
    let machine = Machine::new();
    for build in 1..=3 {
        machine.keep(&main_branch(), Level::Packages, &inputs(&[("node", &build.to_string())]), build, 600_000);
    }
    let said = machine.run(&["gc"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.out.matches("removed, for room: packages of github/acme/shop main").count(), 2, "{}", said.out);
    assert_eq!(machine.cache.list()[0].record.build, BuildId(3));
    assert_eq!(machine.run(&["gc"]).out, format!("0 B free; {} kept, of 1 MB ([retention] snapshots)\n", "602 kB"));
}

#[test]
fn a_name_that_two_forges_have_is_asked_back() {
    let machine = Machine::new();
    machine.keep(&main_branch(), Level::Packages, &inputs(&[("node", "20")]), 1, 10);
    let gitea = scope("gitea/acme/shop", Trust::Trusted, "refs/heads/main");
    machine.keep(&gitea, Level::Packages, &inputs(&[("node", "20")]), 1, 10);
    let said = machine.run(&["rm", "acme/shop"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("acme/shop may be gitea/acme/shop or github/acme/shop"), "{}", said.err);
    assert_eq!(machine.run(&["rm", "gitea/acme/shop"]).code, 0);
    assert_eq!(machine.run(&["explain", "shop"]).code, 0);
}

#[test]
fn without_a_configuration_it_says_how_to_come_to_one() {
    let machine = Machine::new();
    fs::remove_file(machine.dir.path().join("hookmill.toml")).expect("removed");
    let said = machine.run(&["ls"]);
    assert!(said.code == 2 && said.err.contains("hookmill init"), "{}", said.err);
    assert_eq!(machine.run(&["--local", "--config", "x", "ls"]).code, 2);
}
