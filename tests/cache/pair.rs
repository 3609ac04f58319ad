//! A server that keeps, a server that does not, and the repository that both build.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use hookmill::cache::Cache;
use hookmill::domain::snapshot::Record;
use serde_json::{Value, json};

use crate::cache::shop::{BRANCHES, Change, NODES, PACKAGES, Shop, TAGS, VERSIONS, words_of};
use crate::support::forge::{Forge, Repo};
use crate::support::lockfiles::Manager;
use crate::support::registry::{Package, Registry};
use crate::support::server::{Server, Settings};
use crate::support::whole::whole;

/// Files by their paths in the tree.
type Files = BTreeMap<String, String>;

/// Both servers and what they share.
pub(crate) struct Pair {
    forge: Forge,
    repo: Repo,
    registry: Registry,
    /// What every state of the repository needs, by name and version.
    tools: Vec<(String, String)>,
    keeping: Server,
    forgetting: Server,
    /// The repository on each branch that was built.
    branches: BTreeMap<&'static str, Shop>,
    branch: &'static str,
    /// What builds of each branch have kept, by [`Shop::keys`].
    kept: BTreeMap<&'static str, BTreeSet<String>>,
    /// The last build of each branch whose steps ran.
    ran: BTreeMap<&'static str, i64>,
    /// What was done so far, for whoever has to repeat it.
    done: Vec<Change>,
}

impl Pair {
    /// Starts both and has the first state built.
    pub(crate) fn of(manager: Manager) -> Pair {
        let (forge, registry) = (Forge::start(), Registry::start());
        let tools = publish(&registry);
        component(&forge);
        let env = vec![("npm_config_registry".to_owned(), registry.url())];
        let settings = |repo: &str| Settings {
            repo: repo.to_owned(),
            env: env.clone(),
            path: Some(manager.path()),
            ..Settings::default()
        };
        let mut pair = Pair {
            keeping: Server::start_with(&forge, settings("")),
            forgetting: Server::start_with(&forge, settings("cache = false")),
            repo: forge.repo("acme/shop"),
            forge,
            registry,
            tools,
            branches: BTreeMap::from([("main", Shop::of(manager))]),
            branch: "main",
            kept: BTreeMap::new(),
            ran: BTreeMap::new(),
            done: Vec::new(),
        };
        pair.make(Change::Nothing);
        pair
    }

    /// Makes a change, has it built twice, and fails unless both bundles are the same, and unless the server that keeps
    /// has taken what it had, and nothing else. Answers with that server's build.
    pub(crate) fn make(&mut self, change: Change) -> Value {
        self.done.push(change);
        if let Change::Switched(to) = change {
            self.branch = BRANCHES[to];
        }
        let main = self.branches["main"].clone();
        let shop = self.branches.entry(self.branch).or_insert(main);
        shop.change(change);
        let shop = shop.clone();
        let moved = self.push(&shop);
        let delivery = self.repo.pushed(&moved);
        let servers = [&self.keeping, &self.forgetting];
        let builds = servers.map(|server| server.deliver(&delivery).build());
        let [kept, fresh] = [0, 1].map(|at| self.bundle(servers[at], builds[at]));
        assert!(!fresh.is_empty(), "no bundle after {:?}", self.done);
        assert_eq!(kept, fresh, "after {:?}", self.done);
        self.took(&shop, change, builds[0])
    }

    /// Fails unless a build took over everything that was kept, and only that. What it keeps itself is there afterwards.
    fn took(&mut self, shop: &Shop, change: Change, id: i64) -> Value {
        // A branch's first build with the files of another one's is not like one of its own.
        if let Some(same) = self.ran.get(self.branch).filter(|_| change == Change::Same) {
            let build = self.keeping.build(id);
            assert_eq!(build["same_as"], *same, "after {:?}: {build:#}", self.done);
            return build;
        }
        let build = self.keeping.wait_for(id, |build| build["kept"].as_array().is_some_and(|kept| !kept.is_empty()));
        let readable = [self.branch, "main"].map(|branch| self.kept.get(branch).cloned().unwrap_or_default());
        let expected = shop.keys().map(|key| {
            let found = key.is_some_and(|key| readable.iter().any(|kept| kept.contains(&key)));
            if found { "hit" } else { "miss" }
        });
        let found = steps(&build).map(|step| step["cache"].as_str().unwrap_or_default());
        assert_eq!(found, expected, "packages, bower, bundle after {:?}: {build:#}", self.done);
        if !self.done.iter().any(|change| matches!(change, Change::EditedInPlace(_))) {
            let records = Cache::new(&self.keeping.data()).list().into_iter().map(|listed| listed.record);
            let noted: Vec<Record> = records.filter(|record| record.note.is_some()).collect();
            assert_eq!(noted, [], "nobody edited anything in place: {:?}", self.done);
        }
        self.kept.entry(self.branch).or_default().extend(shop.keys().into_iter().flatten());
        self.ran.insert(self.branch, id);
        build
    }

    /// Makes the clone's tree what the state is, and nothing else, and pushes it.
    fn push(&self, shop: &Shop) -> crate::support::forge::Moved {
        // The branch as it is, without its files; the first time it begins where `main` is.
        self.repo.git(&["symbolic-ref", "HEAD", &format!("refs/heads/{}", self.branch)]);
        if self.branch != "main" && !self.repo.git(&["branch", "--list", self.branch]).contains(self.branch) {
            self.repo.git(&["update-ref", "HEAD", "refs/heads/main"]);
        }
        for entry in std::fs::read_dir(&self.repo.work).expect("a clone").flatten() {
            match entry.file_type().expect("known").is_dir() {
                true if entry.file_name() == ".git" => {}
                true => std::fs::remove_dir_all(entry.path()).expect("removed"),
                false => std::fs::remove_file(entry.path()).expect("removed"),
            }
        }
        let files = shop.files(&self.registry, &self.forge.git.origin(), &self.tools);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        self.repo.push(self.branch, &files)
    }

    /// The files of `dist/` that a build left, which has to pass.
    fn bundle(&self, server: &Server, id: i64) -> Files {
        let build = server.finished(id);
        let told = || format!("after {:?}: {build:#}\n{}", self.done, server.log(id, ""));
        assert_eq!(build["outcome"], "passed", "{}", told());
        let at = format!("/api/v1/builds/{id}/artifacts");
        let list = server.get(&at).json();
        let paths = list["artifacts"].as_array().unwrap_or_else(|| panic!("{list}")).iter();
        paths
            .map(|entry| {
                let path = entry["path"].as_str().expect("a path");
                let file = server.get(&format!("{at}/{path}"));
                assert_eq!(file.code, 200, "{path}");
                (path.to_owned(), file.body)
            })
            .collect()
    }
}

/// The steps of packages, of bower, and of the bundle.
pub(crate) fn steps(build: &Value) -> [&Value; 3] {
    let steps = build["steps"].as_array().expect("steps");
    let find = |kind: &str, is_bower: bool| {
        let found = steps.iter().find(|step| step["kind"] == kind && (step["name"] == "bower") == is_bower);
        found.unwrap_or_else(|| panic!("no such step: {build:#}"))
    };
    [find("install", false), find("install", true), find("bundle", false)]
}

/// webpack, patch-package, bower, npm, a loader, the small packages, and a second node. Answers with what is installed always.
fn publish(registry: &Registry) -> Vec<(String, String)> {
    let mut tools = vec![("tiny-babel-loader".to_owned(), "1.0.0".to_owned())];
    for (name, version) in [("webpack", "5"), ("webpack-cli", "6"), ("patch-package", "8")] {
        let package = whole(name, version);
        registry.publish(&package);
        tools.push((name.to_owned(), package.version()));
    }
    // The agent's own tools: a node that is not this machine's has an npm fetched for it.
    for (name, version) in [("bower", "1.8.14"), ("npm", "11")] {
        registry.publish(&whole(name, version));
    }
    let loader = "const fs = require('fs');\n\
        module.exports = (source) => `${source}\\nconsole.log(${JSON.stringify(JSON.parse(fs.readFileSync('.babelrc')).banner)});\\n`;\n";
    registry.publish(&Package::new("tiny-babel-loader", "1.0.0").file("index.js", loader));
    for name in PACKAGES {
        for version in VERSIONS {
            registry.publish(&Package::new(name, version).file("index.js", &words_of(name, version)));
        }
    }
    // This machine's node under another name, which the bundle is told of.
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let node = Command::new("node").args(["-p", "process.execPath"]).output().expect("node is installed").stdout;
    let program =
        format!("#!/bin/sh\nNODE_AS=v{} exec {} \"$@\"\n", NODES[1], String::from_utf8(node).expect("UTF-8").trim());
    registry.publish(&Package::new(&format!("node-linux-{arch}"), NODES[1]).program("bin/node", &program));
    tools
}

/// The component of bower, in a repository of the forge.
fn component(forge: &Forge) {
    let repo = forge.repo("acme/widget");
    for tag in TAGS {
        let manifest = json!({"name": "widget", "main": "widget.js"}).to_string();
        let words = format!("module.exports = 'the component {tag}';\n");
        repo.push("main", &[("bower.json", &manifest), ("widget.js", &words)]);
        repo.git(&["tag", tag]);
        repo.git(&["push", "-q", "origin", tag]);
    }
}
