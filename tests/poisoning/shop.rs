//! A repository whose dependencies say that they are clean, and the script with which a build makes them say otherwise.

use std::path::PathBuf;

use hookmill::cache::{Cache, Damage};
use hookmill::domain::snapshot::Scope;
use hookmill::domain::trust::Trust;
use serde_json::{Value, json};

use crate::support::forge::{Forge, Moved, Repo};
use crate::support::lockfiles::{Manager, written};
use crate::support::registry::{Package, Registry};
use crate::support::server::{Server, Settings, reaching};
use crate::support::whole::whole;

/// What the file `evil` asks of the build's script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evil {
    /// To edit everything, and to pass.
    Passing,
    /// To edit everything, and to fail.
    Failing,
    /// To edit everything, to say so, and to hang.
    Hanging,
}

impl Evil {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Evil::Passing => "pass",
            Evil::Failing => "fail",
            Evil::Hanging => "hang",
        }
    }
}

/// The repository, the forge that has it, and the server that builds it.
pub(crate) struct Shop {
    pub(crate) forge: Forge,
    pub(crate) repo: Repo,
    pub(crate) server: Server,
    _registry: Registry,
    files: Vec<(String, String)>,
}

impl Shop {
    /// With nothing built. npm stands beside bower, and webpack bundles what both bring.
    pub(crate) fn of(manager: Manager) -> Shop {
        Shop::with(manager, "tags = true")
    }

    /// The same with these lines for the repository in the server's configuration.
    pub(crate) fn with(manager: Manager, repo: &str) -> Shop {
        let (forge, registry) = (Forge::start(), Registry::start());
        let files = files(manager, &registry, Some(&forge));
        // The operator's word: a fork's own settings open no registry.
        let tables = reaching(&[forge.git.origin(), registry.url().trim_end_matches('/').to_owned()]);
        let path = Some(manager.path());
        let settings = Settings { slots: 2, repo: repo.to_owned(), tables, path, ..Settings::default() };
        let server = Server::start_with(&forge, settings);
        let repo = forge.repo("acme/shop");
        Shop { forge, repo, server, _registry: registry, files }
    }

    /// Commits the repository's files with this text in a source and, if asked for, the file `evil`; pushes to a ref.
    pub(crate) fn push(&self, git_ref: &str, source: &str, evil: Option<Evil>) -> Moved {
        for (path, text) in &self.files {
            self.repo.write(&[(path, text)]);
        }
        self.repo.write(&[("src/words.js", &format!("module.exports = 'source {source}';\n"))]);
        match evil {
            Some(evil) => self.repo.write(&[("evil", evil.word())]),
            None => {
                let _ = std::fs::remove_file(self.repo.work.join("evil"));
            }
        }
        self.repo.commit("a change");
        self.repo.push_head(git_ref)
    }

    /// Pushes to a branch of the repository and delivers it as a push.
    pub(crate) fn pushed(&self, branch: &str, source: &str, evil: Option<Evil>) -> i64 {
        let moved = self.push(&format!("refs/heads/{branch}"), source, evil);
        self.server.deliver(&self.repo.pushed(&moved)).build()
    }

    /// A member's pull request from a branch, of which only the pull request is told; once more it is a new commit of it.
    pub(crate) fn proposed(&self, branch: &str, source: &str, evil: Option<Evil>) -> i64 {
        let git_ref = format!("refs/heads/{branch}");
        let moved = self.push(&git_ref, source, evil);
        let is_new = moved.before.bytes().all(|byte| byte == b'0');
        let action = if is_new { "opened" } else { self.repo.new_commits() };
        let id = self.server.deliver(&self.repo.pull_request(action, 7, branch, &moved.after, false)).build();
        assert_eq!(self.server.build(id)["trust"], "member");
        id
    }

    /// A fork's pull request; once more it is a new commit of it. It stands on what the last push here was.
    pub(crate) fn strangers(&self, number: u64, source: &str, evil: Option<Evil>) -> i64 {
        let ours = self.repo.git(&["rev-parse", "HEAD"]);
        let moved = self.push(&format!("refs/pull/{number}/head"), source, evil);
        self.repo.git(&["reset", "-q", "--hard", &ours]);
        let is_new = moved.before.bytes().all(|byte| byte == b'0');
        let action = if is_new { "opened" } else { self.repo.new_commits() };
        // What it calls its branch is its own affair.
        let id = self.server.deliver(&self.repo.pull_request(action, number, "main", &moved.after, true)).build();
        assert_eq!(self.server.build(id)["trust"], "fork");
        id
    }

    /// Cancels a build and waits for its end.
    #[track_caller]
    pub(crate) fn cancel(&self, id: i64) {
        assert_eq!(self.server.post(&format!("/api/v1/builds/{id}/cancel"), "").code, 202);
        assert_eq!(self.server.finished(id)["outcome"], "cancelled");
    }

    /// The bundle of a build, which has to pass.
    pub(crate) fn bundle(&self, id: i64) -> String {
        let build = self.server.finished(id);
        assert_eq!(build["outcome"], "passed", "{build:#}\n{}", self.server.log(id, ""));
        let bundle = self.server.get(&format!("/api/v1/builds/{id}/artifacts/dist/main.js"));
        assert_eq!(bundle.code, 200, "{build:#}");
        bundle.body
    }

    /// Fails unless a build passes with the bundle that its commit has to give, and found nothing that was planted.
    #[track_caller]
    pub(crate) fn is_clean(&self, id: i64, source: &str) {
        let bundle = self.bundle(id);
        assert!(bundle.contains("clean alpha") && !bundle.contains("dirty"), "{bundle}");
        assert!(bundle.contains(&format!("source {source}")), "{bundle}");
        let log = self.server.log(id, "");
        assert!(!log.contains("planted:"), "{log}");
    }

    /// Fails unless a build saw what it did itself: an attack that edits nothing proves nothing.
    #[track_caller]
    pub(crate) fn is_dirty(&self, id: i64) {
        let bundle = self.bundle(id);
        assert!(bundle.contains("dirty alpha"), "{bundle}");
        assert!(self.server.log(id, "").contains("planted:"), "nothing was planted");
    }

    /// Waits until all that a build leaves is kept.
    pub(crate) fn kept(&self, id: i64) -> Value {
        self.server.wait_for(id, |build| build["kept"].as_array().is_some_and(|kept| !kept.is_empty()))
    }

    /// Fails unless all of a build's installs were taken from what build `of` left; `None`: unless none was.
    #[track_caller]
    pub(crate) fn installs_are_of(&self, id: i64, of: Option<i64>) {
        let build = self.server.finished(id);
        let steps = build["steps"].as_array().expect("steps");
        let installs: Vec<&Value> = steps.iter().filter(|step| step["kind"] == "install").collect();
        assert!(!installs.is_empty(), "{build:#}");
        for step in installs {
            match of {
                Some(of) => assert_eq!(step["cache_note"], format!("unchanged since build #{of}"), "{build:#}"),
                None => assert_eq!(step["cache"], "miss", "{build:#}"),
            }
        }
    }

    /// What is wrong with anything that is kept.
    pub(crate) fn damages(&self) -> Vec<Damage> {
        Cache::new(&self.server.data()).verify(false).expect("readable").damages
    }

    /// Where snapshots are.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.server.data().join("snapshots")
    }

    /// Where those of a branch are that builds of this trust left.
    pub(crate) fn scope(&self, trust: Trust, branch: &str) -> PathBuf {
        self.scope_of(trust, &format!("refs/heads/{branch}"))
    }

    /// The same of any ref.
    pub(crate) fn scope_of(&self, trust: Trust, git_ref: &str) -> PathBuf {
        let git_ref = git_ref.parse().expect("legal");
        let repo = format!("{}/{}", self.repo.kind.name(), self.repo.name).parse().expect("legal");
        self.snapshots().join("scopes").join(Scope { repo, trust, git_ref }.id())
    }
}

/// The files of the repository; without a forge they are of `alpha` alone, bundled without webpack.
pub(crate) fn files(manager: Manager, registry: &Registry, forge: Option<&Forge>) -> Vec<(String, String)> {
    registry.publish(&Package::new("alpha", "1.0.0").file("index.js", "module.exports = 'clean alpha';\n"));
    let mut dependencies = vec![("alpha".to_owned(), "1.0.0".to_owned())];
    let mut files = vec![manager.settings(registry)];
    let mut bundle = "node bundle.js";
    if let Some(forge) = forge.filter(|_| manager == Manager::Npm) {
        for (name, version) in [("webpack", "5"), ("webpack-cli", "6")] {
            let package = whole(name, version);
            registry.publish(&package);
            dependencies.push((name.to_owned(), package.version()));
        }
        component(forge);
        let widget = format!("{}/acme/widget.git#1.0.0", forge.git.origin());
        files.push(("bower.json".to_owned(), json!({"name": "shop", "dependencies": {"widget": widget}}).to_string()));
        files.push(("webpack.config.js".to_owned(), WEBPACK.to_owned()));
        files.push(("src/index.js".to_owned(), INDEX.to_owned()));
        bundle = "npx webpack";
    } else {
        files.push(("bundle.js".to_owned(), BUNDLE.to_owned()));
    }
    let needed: Value =
        dependencies.iter().map(|(name, version)| (name.clone(), Value::from(version.as_str()))).collect();
    let manifest = json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": needed,
                          "scripts": {"postinstall": "node edit.js"}});
    let command = format!("node edit.js && {bundle} && node edit.js last");
    // That the script reads `evil` too is what its author does not say.
    let cache = "[cache]\ninputs = [\"edit.js\"]\n";
    let settings =
        format!("{cache}[bundle]\ncommand = [\"sh\", \"-c\", {command:?}]\n[artifacts]\npaths = [\"dist\"]\n");
    files.extend([
        ("package.json".to_owned(), written(&manifest)),
        manager.lock(registry, &manifest),
        (".hookmill.toml".to_owned(), settings),
        ("edit.js".to_owned(), EDIT.to_owned()),
    ]);
    files
}

/// The component of bower, in a repository of the forge.
fn component(forge: &Forge) {
    let repo = forge.repo("acme/widget");
    let manifest = json!({"name": "widget", "main": "widget.js"}).to_string();
    repo.push("main", &[("bower.json", &manifest), ("widget.js", "module.exports = 'clean widget';\n")]);
    repo.git(&["tag", "1.0.0"]);
    repo.git(&["push", "-q", "origin", "1.0.0"]);
}

const WEBPACK: &str = "module.exports = {
  mode: 'production',
  entry: './src/index.js',
  output: { filename: 'main.js' },
  resolve: { modules: ['node_modules', 'bower_components'] },
  performance: { hints: false },
};
";

const INDEX: &str = "console.log(require('alpha'), require('widget/widget.js'), require('./words.js'));\n";

const BUNDLE: &str = "const fs = require('fs');
fs.mkdirSync('dist', { recursive: true });
const bundle = require('alpha') + ', ' + require('./src/words.js');
fs.writeFileSync('dist/main.js', bundle);
console.log('bundled: ' + bundle);
";

/// Tells of files called `planted`. If there is a file `evil`, plants them, and edits everything that is written and may
/// be kept, so that neither size nor time tells of it where the format allows that; also what is compressed.
const EDIT: &str = r"const fs = require('fs');
const os = require('os');
const path = require('path');
const zlib = require('zlib');
const last = process.argv[2] === 'last';
const evil = fs.existsSync('evil') ? fs.readFileSync('evil', 'utf8') : '';
const roots = ['node_modules', 'bower_components', '.yarn', os.homedir(), os.tmpdir()].filter((root) => fs.existsSync(root));
const swap = (bytes) => Buffer.from(bytes.toString('latin1').replaceAll('clean', 'dirty'), 'latin1');

function edited(bytes) {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    try {
      return zlib.gzipSync(swap(zlib.gunzipSync(bytes)));
    } catch {
      return bytes;
    }
  }
  return swap(bytes);
}

function walk(dir, visit) {
  for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
    const file = path.join(dir, entry.name);
    if (entry.isDirectory()) walk(file, visit);
    else if (entry.isFile()) visit(file);
  }
}

function edit(file) {
  try {
    const bytes = fs.readFileSync(file);
    const now = edited(bytes);
    if (now.equals(bytes)) return;
    const { atime, mtime, mode } = fs.statSync(file);
    fs.chmodSync(file, mode | 0o200);
    fs.writeFileSync(file, now);
    fs.utimesSync(file, atime, mtime);
    fs.chmodSync(file, mode);
    console.log('edited: ' + file);
  } catch (error) {
    console.log('not edited: ' + error.message);
  }
}

for (const root of roots) {
  walk(root, (file) => path.basename(file) === 'planted' && console.log('planted: ' + file));
}
if (evil) {
  const folders = ['.cache', '.downloads', '.hookmill', '.hookmill/webpack'].map((name) => path.join(os.homedir(), name));
  for (const folder of [...roots, 'node_modules/.cache', ...folders]) {
    try {
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(path.join(folder, 'planted'), 'dirty');
    } catch (error) {
      console.log('not planted: ' + error.message);
    }
  }
  for (const root of roots) walk(root, edit);
}
if (evil && last) {
  console.log('all is edited');
  if (evil === 'fail') process.exit(1);
  if (evil === 'hang') setInterval(() => {}, 1000);
}
";
