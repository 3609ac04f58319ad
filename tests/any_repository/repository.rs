//! One repository of `tests/data/repositories`, as a developer has it on disk, and what `hookmill run` makes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A copy of a fixture with everything committed.
pub(crate) struct Repository {
    dir: TempDir,
    name: String,
}

impl Repository {
    /// The fixture of that name.
    pub(crate) fn of(name: &str) -> Repository {
        Repository::filled(name, &[])
    }

    /// The fixture, with addresses that only a run of the tests knows in place of their names.
    pub(crate) fn filled(name: &str, addresses: &[(&str, &str)]) -> Repository {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/repositories").join(name);
        let repository = Repository { dir: tempfile::tempdir().expect("a folder"), name: name.to_owned() };
        copy(&fixture, &repository.folder(), addresses);
        repository.git(&["init", "-q", "-b", "main"]);
        repository.commit();
        repository
    }

    /// With one more file, or another text in one that is there.
    pub(crate) fn with(self, path: &str, text: &str) -> Repository {
        fs::write(self.folder().join(path), text).expect("a file");
        self.commit();
        self
    }

    /// With one more line in a file.
    pub(crate) fn with_line(self, path: &str, line: &str) -> Repository {
        let text = fs::read_to_string(self.folder().join(path)).expect("a file");
        self.with(path, &format!("{text}\n{line}\n"))
    }

    /// With fields of `package.json` set.
    pub(crate) fn with_fields(self, fields: &Value) -> Repository {
        let path = self.folder().join("package.json");
        let mut package: Value = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
        for (key, value) in fields.as_object().expect("fields") {
            package[key] = value.clone();
        }
        self.with("package.json", &package.to_string())
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    fn commit(&self) {
        self.git(&["add", "-A", "-f"]);
        self.git(&["commit", "-q", "-m", "a change"]);
    }

    fn git(&self, args: &[&str]) {
        git(&self.folder(), args);
    }

    fn hookmill(&self, words: &[&str]) -> (Option<i32>, String, String) {
        // One cache for all rows: what the agent gets for them (node, managers, bower) is fetched once.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("any_repository");
        let output = Command::new(env!("CARGO_BIN_EXE_hookmill"))
            .args(words)
            .arg(self.folder())
            .env("XDG_CACHE_HOME", cache)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What would be done, and why.
    pub(crate) fn explain(&self) -> Explained {
        let (code, stdout, stderr) = self.hookmill(&["run", "--explain", "--json"]);
        assert_eq!(code, Some(0), "{}: {stdout}{stderr}", self.name);
        Explained(serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
    }

    /// Builds it from nothing: what an earlier run of the tests left would be taken for its outcome.
    pub(crate) fn build(&self) -> Built {
        self.build_by(&["run", "--json", "--no-cache"])
    }

    /// Builds it as a person does, with what earlier builds left.
    pub(crate) fn build_with_caches(&self) -> Built {
        self.build_by(&["run", "--json"])
    }

    fn build_by(&self, words: &[&str]) -> Built {
        let (_, stdout, log) = self.hookmill(words);
        let build = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{log}"));
        Built { build, log }
    }

    /// What `hookmill check --strict` ends with and says.
    pub(crate) fn check_strict(&self) -> (Option<i32>, String) {
        let (code, stdout, stderr) = self.hookmill(&["check", "--strict"]);
        (code, stdout + &stderr)
    }
}

/// git's command line with a configuration of its own.
pub(crate) fn git(dir: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@acme.dev")])
        .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@acme.dev")])
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn copy(from: &Path, to: &Path, addresses: &[(&str, &str)]) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &target, addresses);
            continue;
        }
        let mut text = fs::read_to_string(entry.path()).expect("a fixture is text");
        for (name, address) in addresses {
            text = text.replace(name, address);
        }
        fs::write(target, text).expect("a file");
    }
}

/// A plan, as `--explain --json` prints it.
#[derive(Debug)]
pub(crate) struct Explained(Value);

impl Explained {
    fn steps(&self) -> impl Iterator<Item = &Value> {
        list(&self.0["stages"]).iter().flat_map(|stage| list(&stage["steps"]))
    }

    /// The names of each stage's steps: `npm | bower`, `bundle`.
    pub(crate) fn stages(&self) -> Vec<String> {
        let names = |stage: &Value| list(&stage["steps"]).iter().map(|step| word(&step["name"])).collect::<Vec<_>>();
        list(&self.0["stages"]).iter().map(|stage| names(stage).join(" | ")).collect()
    }

    fn step(&self, name: &str) -> &Value {
        let found = self.steps().find(|step| step["name"] == name);
        found.unwrap_or_else(|| panic!("no step {name}: {:#}", self.0))
    }

    /// A step's command as one line.
    pub(crate) fn command(&self, name: &str) -> String {
        list(&self.step(name)["argv"]).iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// Where a step runs.
    pub(crate) fn dir(&self, name: &str) -> String {
        word(&self.step(name)["dir"])
    }

    /// The stages in which these folders are bundled.
    pub(crate) fn order_of(&self, dirs: &[&str]) -> Vec<usize> {
        let bundles = |stage: &Value, dir: &str| {
            list(&stage["steps"]).iter().any(|step| step["kind"] == "bundle" && step["dir"] == dir)
        };
        let stage_of = |dir: &&str| list(&self.0["stages"]).iter().position(|stage| bundles(stage, dir));
        dirs.iter().map(|dir| stage_of(dir).unwrap_or_else(|| panic!("{dir}: {:#}", self.0))).collect()
    }

    /// The version of a tool that a step is given, and who asked for it.
    pub(crate) fn tool(&self, name: &str, tool: &str) -> Option<(String, String)> {
        let wanted = list(&self.step(name)["tools"]).iter().find(|wanted| wanted["tool"] == tool)?;
        Some((word(&wanted["version"]), word(&wanted["asked_by"])))
    }

    /// Fails unless some notice holds every one of the words.
    #[track_caller]
    pub(crate) fn notices(&self, words: &[&str]) {
        let notices: Vec<String> = list(&self.0["notices"]).iter().map(word).collect();
        let holds = |notice: &String| words.iter().all(|word| notice.contains(word));
        assert!(notices.iter().any(holds), "{words:?} in {notices:#?}");
    }

    /// Fails when anything is noticed.
    #[track_caller]
    pub(crate) fn notices_nothing(&self) {
        assert!(list(&self.0["notices"]).is_empty(), "{:#}", self.0["notices"]);
    }

    /// Fails unless the account has a line about a file or script.
    #[track_caller]
    pub(crate) fn tells_of(&self, seen: &str) {
        let mut decisions = list(&self.0["decisions"]).iter();
        let tells = decisions.any(|decision| word(&decision["seen"]).contains(seen));
        assert!(tells, "{seen} in {:#}", self.0["decisions"]);
    }
}

/// A finished build, as `run --json` prints it, with its log.
#[derive(Debug)]
pub(crate) struct Built {
    build: Value,
    log: String,
}

impl Built {
    /// Fails unless it passed.
    #[track_caller]
    pub(crate) fn passed(self) -> Built {
        assert_eq!(self.build["outcome"], "passed", "{}\n{}", self.build["reason"], self.log);
        self
    }

    /// Fails unless it passed by these steps, in the plan's order.
    #[track_caller]
    pub(crate) fn passed_by(self, steps: &[&str]) -> Built {
        let built = self.passed();
        let ran = list(&built.build["steps"]).iter().map(|step| word(&step["name"]));
        assert_eq!(ran.filter(|name| name != "checkout").collect::<Vec<_>>(), steps, "{}", built.log);
        built
    }

    /// Fails unless a step was restored from what an earlier build left.
    #[track_caller]
    pub(crate) fn restored(self, name: &str) -> Built {
        let step = list(&self.build["steps"]).iter().find(|step| step["name"] == name);
        let step = step.unwrap_or_else(|| panic!("no step {name}: {:#}", self.build));
        let note = word(&step["cache_note"]);
        assert!(step["cache"] == "hit" && note.starts_with("unchanged since the run at "), "{step:#}\n{}", self.log);
        self
    }

    /// The sentence of its verdict.
    pub(crate) fn reason(&self) -> String {
        word(&self.build["reason"])
    }

    /// The lines of the log that begin with a word, whichever step printed them.
    pub(crate) fn lines(&self, first: &str) -> Vec<String> {
        let of_step = |line: &str| Some(line.split_once("| ")?.1.to_owned());
        self.log.lines().filter_map(of_step).filter(|line| line.starts_with(first)).collect()
    }

    /// Fails unless the log has these words.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Built {
        for word in words {
            assert!(self.log.contains(word), "{word:?} in {}", self.log);
        }
        self
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
