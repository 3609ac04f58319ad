//! A server that keeps, a server that does not, and the repository that both build.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;

use crate::forge::{Forge, Repo};
use crate::lockfiles::Manager;
use crate::registry::{Package, Registry};
use crate::server::{Server, Settings};
use crate::shop::{BRANCHES, Change, NODES, PACKAGES, Shop, TAGS, VERSIONS, words_of};
use crate::whole::whole;

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
            done: Vec::new(),
        };
        pair.make(Change::Nothing);
        pair
    }

    /// Makes a change, has it built twice, and fails unless both bundles are the same.
    pub(crate) fn make(&mut self, change: Change) {
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
    }

    /// Makes the clone's tree what the state is, and nothing else, and pushes it.
    fn push(&self, shop: &Shop) -> crate::forge::Moved {
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
