//! What the forges publish of their APIs, as judges of our requests. Installed once for all tests, by the npm of this
//! machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use serde_json::{Map, Value, json};

/// Answers by a published description, and refuses what does not follow it (Apache-2.0).
const PRISM: &str = "@stoplight/prism-cli@5.16.0";
/// GitHub's own description of its REST API (MIT).
const GITHUB: &str = "@octokit/openapi@23.0.2";
/// A client that is generated from Gitea's own swagger (MIT), and the compiler for its types (Apache-2.0).
const GITEA: [&str; 2] = ["gitea-js@1.23.0", "typescript@5.9.3"];

/// GitHub, as far as its description goes; it ends when it is dropped.
pub(crate) struct Github {
    pub(crate) url: url::Url,
    description: Value,
    child: Child,
}

impl Github {
    /// Serves these paths of the description, written as there: `/repos/{owner}/{repo}/statuses/{sha}`.
    pub(crate) fn with(paths: &[&str]) -> Github {
        let home = installed("prism", &[PRISM], |home| {
            run(Command::new("npm").args(["pack", "--silent", GITHUB]).current_dir(home));
            let archive = fs::read_dir(home)
                .expect("read")
                .flatten()
                .find(|entry| entry.path().extension().is_some_and(|extension| extension == "tgz"));
            let archive = archive.expect("packed").path();
            // One description of many: unpacked they are 400 MB.
            let inside = "package/generated/api.github.com.json";
            run(Command::new("tar").arg("-xzf").arg(&archive).arg(inside).current_dir(home));
            fs::remove_file(archive).expect("removed");
        });
        let whole = fs::read(home.join("package/generated/api.github.com.json")).expect("unpacked");
        let whole: Value = serde_json::from_slice(&whole).expect("JSON");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("github.json");
        let description = trimmed(&whole, paths);
        fs::write(&file, description.to_string()).expect("written");
        let mut child = Command::new("node")
            .arg(home.join("node_modules/@stoplight/prism-cli/dist/index.js"))
            // Without `--errors`: that is about answers too, and GitHub's own examples are not all as it describes them.
            .args(["mock", "--host", "127.0.0.1", "--port", "0"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed");
        let mut said = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // A port of its own choice: one that was free a moment ago may be somebody else's by now.
        let url = said.find_map(|line| Some(line.split_once("listening on ")?.1.trim().to_owned()));
        let url = url.expect("prism listens before it ends");
        // It writes a line for each request, and waits while nobody reads them.
        thread::spawn(move || said.for_each(drop));
        Github { url: url.parse().expect("a URL"), description, child }
    }

    /// The names of what may stand in the query of a request.
    pub(crate) fn queries(&self, method: &str, path: &str) -> BTreeSet<String> {
        let described = &self.description["paths"][path][method.to_ascii_lowercase()];
        let parameters = described["parameters"].as_array().expect("GitHub describes it").iter();
        let resolved = parameters.map(|parameter| match parameter["$ref"].as_str() {
            Some(pointer) => self.description.pointer(pointer.trim_start_matches('#')).expect("kept"),
            None => parameter,
        });
        let queries = resolved.filter(|parameter| parameter["in"] == "query");
        queries.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect()
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A description of these paths, with whatever they refer to.
fn trimmed(whole: &Value, paths: &[&str]) -> Value {
    let mut kept = Map::new();
    let mut parts: BTreeMap<String, Value> = BTreeMap::new();
    for path in paths {
        let described = whole["paths"].get(path).unwrap_or_else(|| panic!("GitHub describes no {path}"));
        refer(whole, described, &mut parts);
        kept.insert((*path).to_owned(), described.clone());
    }
    let mut components = json!({});
    for (pointer, part) in parts {
        let (kind, name) = pointer.trim_start_matches("/components/").split_once('/').expect("kind/name");
        components[kind][name] = part;
    }
    json!({"openapi": whole["openapi"], "info": whole["info"], "paths": kept, "components": components})
}

/// Gathers what a value refers to, and what that refers to.
fn refer(whole: &Value, value: &Value, parts: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            if let Some(pointer) = fields.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#'))
                && !parts.contains_key(pointer)
            {
                let part = whole.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"));
                parts.insert(pointer.to_owned(), part.clone());
                refer(whole, part, parts);
            }
            fields.values().for_each(|value| refer(whole, value, parts));
        }
        Value::Array(values) => values.iter().for_each(|value| refer(whole, value, parts)),
        _ => {}
    }
}

/// Gitea's published types and the client that is made with them.
pub(crate) struct Gitea {
    home: PathBuf,
}

impl Gitea {
    pub(crate) fn installed() -> Gitea {
        Gitea { home: installed("gitea", &GITEA, |_| {}) }
    }

    /// Compiles a module that uses the types; the compiler's complaints, if it has any.
    pub(crate) fn compile(&self, name: &str, text: &str) -> Result<(), String> {
        let file = self.home.join(format!("{name}.mts"));
        fs::write(&file, text).expect("written");
        let output = Command::new("node")
            .arg(self.home.join("node_modules/typescript/bin/tsc"))
            .args(["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"])
            .arg(&file)
            .output()
            .expect("node is installed");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
    }

    /// Runs a module that uses the client; what it wrote.
    pub(crate) fn run(&self, name: &str, text: &str) -> String {
        let file = self.home.join(format!("{name}.mjs"));
        fs::write(&file, text).expect("written");
        String::from_utf8(run(Command::new("node").arg(file)).stdout).expect("text")
    }
}

/// A folder with these packages, and what `more` adds to it; made once.
fn installed(name: &str, packages: &[&str], more: impl Fn(&Path)) -> PathBuf {
    let versions: String =
        packages.concat().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{versions}"));
    // The lock is given back with the file, also when another test's process is killed.
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.lock"))).expect("a lock");
    lock.lock().expect("locked");
    if !home.exists() {
        let staging = home.with_file_name(format!("{name}.new"));
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).expect("a folder");
        let install = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"];
        run(Command::new("npm").args(install).arg(&staging).args(packages));
        more(&staging);
        fs::rename(&staging, &home).expect("renamed");
    }
    home
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("it is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
