//! A small repository, as its developers change it: every state of it is a set of files, made from nothing but the state.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::support::lockfiles::{Manager, written};
use crate::support::registry::Registry;

/// The packages that it can depend on, each with a text of its name and version.
pub(crate) const PACKAGES: [&str; 3] = ["alpha", "beta", "gamma"];
/// The versions of each that the registry has.
pub(crate) const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
/// What `.nvmrc` asks for: the first is this machine's node, if it is of that line; the other the registry's.
pub(crate) const NODES: [&str; 2] = ["20", "20.19.9"];
/// The component's tags.
pub(crate) const TAGS: [&str; 2] = ["1.0.0", "1.1.0"];

/// What a package says when it is bundled.
pub(crate) fn words_of(name: &str, version: &str) -> String {
    format!("module.exports = 'the words of {name} {version}';\n")
}

/// One thing that a developer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// A package is added, or another version of it is taken.
    Added(usize, usize),
    /// A package is no longer needed.
    Removed(usize),
    /// patch-package is given a patch of `alpha`, another one, or none.
    Patched(u8),
    /// The dependencies are as they were before the last change of them.
    Reverted,
    /// The component is of this tag.
    Component(usize),
    /// `.nvmrc` asks for another node.
    Node(usize),
    /// `webpack.config.js` has another text in a banner.
    Configured(u8),
    /// `.babelrc` says something else to the loader that reads it.
    Babel(u8),
    /// `[env]` has another value for `DefinePlugin`.
    Environment(u8),
    /// A module says something else, or is there for the first time.
    Source(u8, u8),
    /// A module is gone.
    Unsourced(u8),
    /// A script before the bundle edits `alpha` where it is installed: the same size, the same time.
    EditedInPlace(u8),
    /// Another branch, which begins where `main` is when it is switched to for the first time.
    Switched(usize),
    /// Nothing but a file that no bundle reads.
    Nothing,
    /// A commit without a change.
    Same,
}

/// The branches that can be switched to.
pub(crate) const BRANCHES: [&str; 2] = ["main", "feature"];

impl Change {
    /// One of them all, by numbers.
    pub(crate) fn any(mut number: impl FnMut(usize) -> usize) -> Change {
        let small = |number: usize| u8::try_from(number).expect("small");
        match number(15) {
            0 => Change::Added(number(PACKAGES.len()), number(VERSIONS.len())),
            // `alpha` stays: patches and edits are of it.
            1 => Change::Removed(1 + number(PACKAGES.len() - 1)),
            2 => Change::Patched(small(number(3))),
            3 => Change::Reverted,
            4 => Change::Component(number(TAGS.len())),
            5 => Change::Node(number(NODES.len())),
            6 => Change::Configured(small(number(3))),
            7 => Change::Babel(small(number(3))),
            8 => Change::Environment(small(number(3))),
            9 => Change::Source(small(number(3)), small(number(9))),
            10 => Change::Unsourced(small(number(3))),
            11 => Change::EditedInPlace(small(number(3))),
            12 => Change::Switched(number(BRANCHES.len())),
            13 => Change::Same,
            _ => Change::Nothing,
        }
    }
}

/// What the repository is on one branch.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    manager: Manager,
    dependencies: BTreeMap<&'static str, &'static str>,
    before: BTreeMap<&'static str, &'static str>,
    patch: u8,
    component: usize,
    node: usize,
    banner: u8,
    babel: u8,
    api: u8,
    modules: BTreeMap<u8, u8>,
    edit: u8,
    round: u32,
}

impl Shop {
    /// As it begins.
    pub(crate) fn of(manager: Manager) -> Shop {
        let dependencies = BTreeMap::from([("alpha", "1.0.0")]);
        Shop {
            manager,
            before: dependencies.clone(),
            dependencies,
            patch: 0,
            component: 0,
            node: 0,
            banner: 0,
            babel: 0,
            api: 0,
            modules: BTreeMap::from([(0, 0)]),
            edit: 0,
            round: 0,
        }
    }

    /// Does what a developer does; switching branches is another's work.
    pub(crate) fn change(&mut self, change: Change) {
        self.round += u32::from(change != Change::Same);
        match change {
            Change::Added(package, version) => {
                self.before.clone_from(&self.dependencies);
                self.dependencies.insert(PACKAGES[package], VERSIONS[version]);
            }
            Change::Removed(package) => {
                self.before.clone_from(&self.dependencies);
                self.dependencies.remove(PACKAGES[package]);
            }
            Change::Reverted => std::mem::swap(&mut self.before, &mut self.dependencies),
            // patch-package reads npm's and yarn 1's lockfiles; of this repository it is npm's companion.
            Change::Patched(patch) if self.manager == Manager::Npm => self.patch = patch,
            Change::Component(tag) => self.component = tag,
            // With another node the agent fetches the other managers too, which are not the question here.
            Change::Node(node) if self.manager == Manager::Npm => self.node = node,
            Change::Configured(banner) => self.banner = banner,
            Change::Babel(babel) => self.babel = babel,
            Change::Environment(api) => self.api = api,
            Change::Source(module, words) => {
                self.modules.insert(module, words);
            }
            Change::Unsourced(module) => {
                self.modules.remove(&module);
            }
            Change::EditedInPlace(edit) => self.edit = edit,
            Change::Patched(_) | Change::Node(_) | Change::Switched(_) | Change::Nothing | Change::Same => {}
        }
    }

    /// What each step depends on beside what it compares by itself: packages, bower, and the bundle, whose tools look at
    /// sources and components, and which Berry's is made without.
    pub(crate) fn keys(&self) -> [Option<String>; 3] {
        let packages = format!("{:?}", (&self.dependencies, self.patch, self.node, self.api));
        let bower = format!("bower {:?}", (self.component, self.node, self.api));
        let bundle = format!("bundle {packages} {:?}", (self.banner, self.babel));
        [Some(packages), Some(bower), (self.manager != Manager::Berry).then_some(bundle)]
    }

    /// All of its files. `tools` are needed always; `components` is where git finds the component.
    pub(crate) fn files(
        &self,
        registry: &Registry,
        components: &str,
        tools: &[(String, String)],
    ) -> Vec<(String, String)> {
        let tools = if self.manager == Manager::Berry { &[] } else { tools };
        let tools = tools.iter().map(|(name, version)| (name.as_str(), version.as_str()));
        let dependencies: BTreeMap<&str, &str> =
            self.dependencies.iter().map(|(name, version)| (*name, *version)).chain(tools).collect();
        let scripts = match self.manager {
            Manager::Npm => json!({
                "postinstall": "patch-package --error-on-fail", "prebuild": "node edit.js", "build": "webpack",
            }),
            // It leaves out what a package has in its own `node_modules`, so that webpack would be a hundred packages.
            Manager::Berry => json!({"build": "node edit.js && node bundle.js"}),
            // Not every other one has scripts before scripts.
            _ => json!({"build": "node edit.js && webpack"}),
        };
        let package = json!({"name": "shop", "version": "1.0.0", "private": true, "scripts": scripts, "dependencies": dependencies});
        let bower = json!({"name": "shop", "dependencies": {"widget": format!("{components}/acme/widget.git#{}", TAGS[self.component])}});
        let babel = json!({"banner": format!("by babel {}", self.babel)});
        let mut files = vec![
            ("package.json".to_owned(), written(&package)),
            self.manager.lock(registry, &package),
            self.manager.settings(registry),
            ("bower.json".to_owned(), bower.to_string()),
            (".nvmrc".to_owned(), format!("{}\n", NODES[self.node])),
            (".babelrc".to_owned(), babel.to_string()),
            (".hookmill.toml".to_owned(), self.settings()),
            ("webpack.config.js".to_owned(), CONFIG.replace("@BANNER@", &self.banner.to_string())),
            ("bundle.js".to_owned(), BUNDLE.to_owned()),
            ("edit.js".to_owned(), EDIT.replace("@EDIT@", &self.edit.to_string())),
            ("src/index.js".to_owned(), self.index()),
            ("round".to_owned(), self.round.to_string()),
        ];
        for (module, words) in &self.modules {
            files.push((format!("src/module-{module}.js"), format!("export default 'source {module}, {words}';\n")));
        }
        if self.patch > 0 {
            let version = self.dependencies["alpha"];
            let (was, now) =
                (words_of("alpha", version), words_of("alpha", &format!("{version}, patched {}", self.patch)));
            let patch = format!(
                "diff --git a/node_modules/alpha/index.js b/node_modules/alpha/index.js\n\
                 --- a/node_modules/alpha/index.js\n+++ b/node_modules/alpha/index.js\n@@ -1 +1 @@\n-{was}+{now}"
            );
            files.push((format!("patches/alpha+{version}.patch"), patch));
        }
        files
    }

    fn settings(&self) -> String {
        let command = match self.manager {
            Manager::Npm => "npm",
            Manager::Yarn1 | Manager::Berry => "yarn",
            Manager::Pnpm => "pnpm",
        };
        let bundle = format!("[bundle]\ncommand = [\"{command}\", \"run\", \"build\"]\n");
        format!("[env]\nAPI = \"https://api-{}.acme.test\"\n{bundle}[artifacts]\npaths = [\"dist\"]\n", self.api)
    }

    fn index(&self) -> String {
        let packages: BTreeSet<&str> = self.dependencies.keys().copied().collect();
        let mut text = String::from("import widget from 'widget/widget.js';\nconsole.log(widget, API, NODE);\n");
        for name in packages {
            text.push_str(&format!("import {name} from '{name}';\nconsole.log({name});\n"));
        }
        for module in self.modules.keys() {
            text.push_str(&format!(
                "import module{module} from './module-{module}.js';\nconsole.log(module{module});\n"
            ));
        }
        text
    }
}

/// What a loader does that reads a configuration file and tells webpack nothing of it.
const CONFIG: &str = r"const webpack = require('webpack');
module.exports = {
  mode: 'production',
  entry: './src/index.js',
  output: { filename: '[name].[contenthash].js' },
  resolve: { modules: ['node_modules', 'bower_components'] },
  module: { rules: [{ test: /\.js$/, include: /src/, use: 'tiny-babel-loader' }] },
  plugins: [
    new webpack.DefinePlugin({
      API: JSON.stringify(process.env.API),
      NODE: JSON.stringify(process.env.NODE_AS || process.version),
    }),
    new webpack.BannerPlugin('banner @BANNER@'),
  ],
  performance: { hints: false },
};
";

/// What webpack does, in its simplest form.
const BUNDLE: &str = r"const fs = require('fs');
const imported = [...fs.readFileSync('src/index.js', 'utf8').matchAll(/from '(.*)'/g)].map(([, name]) => {
  if (name.startsWith('./')) return fs.readFileSync('src/' + name, 'utf8');
  return name.startsWith('widget/') ? fs.readFileSync('bower_components/' + name, 'utf8') : require(name);
});
const { banner } = JSON.parse(fs.readFileSync('.babelrc', 'utf8'));
fs.mkdirSync('dist');
fs.writeFileSync('dist/main.js', JSON.stringify([imported, banner, process.env.API, process.version]));
";

/// Edits what is installed, so that neither size nor time tells of it.
const EDIT: &str = r"const fs = require('fs');
const file = 'node_modules/alpha/index.js';
const edit = @EDIT@;
if (edit > 0) {
  const { atime, mtime } = fs.statSync(file);
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/words|word\d/, 'word' + edit));
  fs.utimesSync(file, atime, mtime);
}
";
