//! One thing changes: either it is an input, and the key is another one, or it is none, and the key stays.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::domain::listing::Listing;
use crate::domain::spec::{Network, Plan, Stage, StepSpec};
use crate::domain::step::StepKind;

/// A small repository with a build of it.
struct Repository {
    folder: TempDir,
    plan: Plan,
    tools: BTreeMap<String, Vec<(String, String)>>,
    env: BTreeMap<String, String>,
    registry: String,
    registries: Vec<(String, Vec<String>)>,
    build_dir: String,
    scripts: Scripts,
    secrets: BTreeMap<String, Vec<String>>,
    declared: Vec<String>,
}

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
    fs::write(file, text).expect("a file");
}

fn step(kind: StepKind, tool: &str, command: &str) -> StepSpec {
    StepSpec {
        name: tool.to_owned(),
        tool: tool.to_owned(),
        kind,
        argv: command.split(' ').map(str::to_owned).collect(),
        dir: ".".to_owned(),
        then: Vec::new(),
        env: BTreeMap::new(),
        tools: Vec::new(),
        network: Network::Open,
        timeout: Duration::from_secs(60),
        allow_failure: false,
        retry: 0,
    }
}

impl Repository {
    fn new(tool: &str, command: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(path, text)| write(folder.path(), path, text));
        let steps = vec![step(StepKind::Install, tool, command)];
        let bundle = vec![step(StepKind::Bundle, "bundle", "npm run build")];
        let tools = ["node", tool].map(|tool| (tool.to_owned(), "20.1.0".to_owned())).to_vec();
        Self {
            folder,
            plan: Plan { stages: vec![Stage { steps }, Stage { steps: bundle }], ..Plan::default() },
            tools: BTreeMap::from([(tool.to_owned(), tools.clone()), ("bundle".to_owned(), tools)]),
            env: BTreeMap::from([("MIRROR".to_owned(), "a".to_owned()), ("NPM_TOKEN".to_owned(), "hush".to_owned())]),
            registry: "https://registry.acme.dev/".to_owned(),
            registries: Vec::new(),
            build_dir: "/build".to_owned(),
            scripts: Scripts::All,
            secrets: BTreeMap::new(),
            declared: Vec::new(),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&Facts<'_>) -> T) -> T {
        let mut listing = Listing::default();
        crate::tree::walk(self.folder.path(), |entry| {
            let path = entry.path.to_string_lossy().into_owned();
            let name = path.rsplit('/').next().unwrap_or_default();
            if name == "node_modules" {
                return Visit::Skip;
            }
            if Listing::matters(name) {
                listing.paths.insert(path);
            } else if Listing::is_setting(name) {
                listing.settings.insert(path);
            }
            Visit::Continue
        })
        .expect("readable");
        ask(&Facts {
            plan: &self.plan,
            listing: &listing,
            sources: self.folder.path(),
            tools: &self.tools,
            platform: Platform { os: "linux", arch: "x86_64", libc: "glibc" },
            root: None,
            build_dir: &self.build_dir,
            home: "/home/build",
            env: &self.env,
            registry: Some(&self.registry),
            registries: &self.registries,
            scripts: &self.scripts,
            secrets: &self.secrets,
            declared: &self.declared,
        })
    }

    fn group(&self) -> Group {
        self.with(|facts| installs(facts).pop().expect("a group"))
    }

    fn inputs(&self) -> Inputs {
        self.group().inputs.expect("kept")
    }

    fn refused(&self) -> String {
        self.group().inputs.expect_err("not kept").to_string()
    }

    fn install(&mut self) -> &mut StepSpec {
        &mut self.plan.stages[0].steps[0]
    }

    fn write(&self, path: &str, text: &str) {
        write(self.folder.path(), path, text);
    }

    /// Changes a file, and tells the first input that differs.
    #[track_caller]
    fn changed(&self, path: &str, text: &str, expected: Option<&str>) {
        let before = self.inputs();
        let old = fs::read(self.folder.path().join(path)).ok();
        self.write(path, text);
        let after = self.inputs();
        assert_eq!(after.first_difference(&before).map(|difference| difference.name), expected, "{path}: {text}");
        assert_eq!(before.key() == after.key(), expected.is_none());
        match old {
            Some(old) => fs::write(self.folder.path().join(path), old).expect("a file"),
            None => fs::remove_file(self.folder.path().join(path)).expect("it is there"),
        }
    }
}

use crate::tree::Visit;

const ROOT: &str = "package.json (what installing reads)";
const LIB: &str = "packages/a/package.json (what installing reads)";
const PACKAGE: &str = r#"{"version": "1.0.0", "dependencies": {"left-pad": "1"}, "scripts": {"test": "x"}}"#;
const WORKSPACE: &str = r#"{"workspaces": ["packages/*"], "dependencies": {"left-pad": "1"}}"#;

fn npm() -> Repository {
    Repository::new("npm", "npm ci", &[("package.json", PACKAGE), ("package-lock.json", "{}")])
}

#[test]
fn npm_by_files() {
    let repository = npm();
    repository.changed("package-lock.json", "{ }", Some("package-lock.json"));
    repository.changed("package.json", &PACKAGE.replace("left-pad", "right-pad"), Some(ROOT));
    repository.changed("package.json", &PACKAGE.replace(r#""x""#, r#""y""#), None);
    repository.changed("package.json", &PACKAGE.replace("1.0.0", "1.0.1"), None);
    repository.changed("package.json", &PACKAGE.replace(r#""test": "x""#, r#""prepare": "husky""#), Some(ROOT));
    repository.changed(".npmrc", "legacy-peer-deps=true\n", Some(".npmrc (without tokens)"));
    repository.changed("patches/left-pad+1.patch", "x", Some("patches/left-pad+1.patch"));
    repository.changed("src/index.js", "x", None);
    repository.changed("sub/package.json", PACKAGE, None);
    repository.changed("tsconfig.json", "{}", None);
    repository.write(".npmrc", "//n/:_authToken=a\nregistry=https://n/");
    repository.changed(".npmrc", "//n/:_authToken=b\nregistry=https://n/ \n# c", None);
    repository.changed(".npmrc", "registry=https://m/", Some(".npmrc (without tokens)"));
}

#[test]
fn npm_by_surroundings() {
    let check = |change: &dyn Fn(&mut Repository), expected: Option<&str>| {
        let mut repository = npm();
        let before = repository.inputs();
        change(&mut repository);
        let after = repository.inputs();
        assert_eq!(after.first_difference(&before).map(|difference| difference.name), expected);
    };
    check(&|_| {}, None);
    check(&|it| it.tools.get_mut("npm").expect("given")[0].1 = "20.1.1".to_owned(), Some("node of npm"));
    check(&|it| it.build_dir = "/other".to_owned(), Some("folder of the build"));
    check(&|it| it.registry = "https://other.acme.dev/".to_owned(), Some("registry"));
    check(&|it| it.registry = "https://me:pass@registry.acme.dev/".to_owned(), None);
    check(&|it| it.registries.push(("https://n/".to_owned(), vec!["@a".to_owned()])), Some("registry of @a"));
    check(&|it| drop(it.env.insert("MIRROR".to_owned(), "b".to_owned())), Some("env MIRROR"));
    check(&|it| drop(it.env.insert("NPM_TOKEN".to_owned(), "other".to_owned())), None);
    check(&|it| drop(it.env.remove("NPM_TOKEN")), Some("env NPM_TOKEN"));
    check(&|it| drop(it.env.insert("CI_BUILD_ID".to_owned(), "7".to_owned())), None);
    check(&|it| drop(it.install().env.insert("A".to_owned(), "b".to_owned())), Some("npm: env A"));
    check(&|it| it.install().argv.push("--omit=dev".to_owned()), Some("npm: command"));
    check(&|it| it.scripts = Scripts::None, Some("install scripts"));
    check(&|it| it.install().timeout = Duration::from_secs(1), None);
    let told = format!("{:?}", npm().inputs());
    assert!(!told.contains("hush"), "{told}");
}

#[test]
fn members_of_workspaces() {
    for (tool, command, lockfile) in [
        ("npm", "npm ci", "package-lock.json"),
        ("yarn", "yarn install --frozen-lockfile", "yarn.lock"),
        ("pnpm", "pnpm install --frozen-lockfile", "pnpm-lock.yaml"),
        ("bun", "bun install --frozen-lockfile", "bun.lock"),
    ] {
        let member = r#"{"name": "a", "version": "1.0.0", "bin": "cli.js", "license": "MIT"}"#;
        let files = [
            ("package.json", WORKSPACE),
            (lockfile, "x"),
            ("packages/a/package.json", member),
            ("packages/a/cli.js", "x"),
        ];
        let repository = Repository::new(tool, command, &files);
        repository.changed(lockfile, "y", Some(lockfile));
        repository.changed("packages/a/package.json", &member.replace("1.0.0", "1.0.1"), Some(LIB));
        repository.changed("packages/a/package.json", &member.replace("MIT", "ISC"), None);
        // It is made executable by the install, and so becomes part of what it wrote.
        repository.changed("packages/a/cli.js", "y", Some("packages/a/cli.js"));
        repository.changed("other/a/package.json", member, None);
        let cli = repository.folder.path().join("packages/a/cli.js");
        fs::set_permissions(cli, fs::Permissions::from_mode(0o755)).expect("ours");
        repository.changed("packages/a/cli.js", "y", None);
    }
}

#[test]
fn settings_of_each_manager() {
    let yarn =
        [("package.json", PACKAGE), ("yarn.lock", "x"), (".yarnrc.yml", "yarnPath: tools/yarn.cjs\nnpmAuthToken: a\n")];
    let yarn = Repository::new("yarn", "yarn install --immutable", &yarn);
    yarn.write("tools/yarn.cjs", "1");
    yarn.changed("tools/yarn.cjs", "2", Some("tools/yarn.cjs"));
    yarn.changed(".yarnrc.yml", "# c\nyarnPath: 'tools/yarn.cjs'\nnpmAuthToken: b\n", None);
    yarn.changed(".yarnrc.yml", "yarnPath: tools/yarn.cjs\nnodeLinker: pnp\n", Some(".yarnrc.yml (without tokens)"));
    yarn.changed(".yarn/patches/x.patch", "x", Some(".yarn/patches/x.patch"));
    yarn.changed(".yarn/plugins/p.cjs", "x", Some(".yarn/plugins/p.cjs"));
    let pnpm = [("package.json", PACKAGE), ("pnpm-lock.yaml", "x"), ("pnpm-workspace.yaml", "overrides: {}\n")];
    let pnpm = Repository::new("pnpm", "pnpm install --frozen-lockfile", &pnpm);
    pnpm.changed("pnpm-workspace.yaml", "overrides: {a: '1'}\n", Some("pnpm-workspace.yaml"));
    pnpm.changed(".pnpmfile.cjs", "module.exports = {}", Some(".pnpmfile.cjs"));
    pnpm.write(".pnpmfile.cjs", "const x = require('./hooks')");
    assert!(pnpm.refused().contains(".pnpmfile.cjs is a program"), "{}", pnpm.refused());
    let bun =
        [("package.json", PACKAGE), ("bun.lock", "x"), ("bunfig.toml", "[install]\nregistry = \"https://u:a@n/\"\n")];
    let bun = Repository::new("bun", "bun install --frozen-lockfile", &bun);
    bun.changed("bunfig.toml", "[install]\nregistry = \"https://u:b@n/\" # c\n", None);
    bun.changed("bunfig.toml", "[install]\nregistry = \"https://m/\"\n", Some("bunfig.toml (without tokens)"));
}

#[test]
fn packages_that_lie_in_the_tree() {
    let package = r#"{"dependencies": {"a": "file:libs/a", "b": "link:libs/b", "c": "file:c.tgz"}}"#;
    let files = [
        ("package.json", package),
        ("package-lock.json", "{}"),
        ("libs/a/package.json", "{}"),
        ("libs/a/index.js", "1"),
        ("libs/b/package.json", "{}"),
        ("libs/b/index.js", "1"),
        ("c.tgz", "1"),
    ];
    let repository = Repository::new("npm", "npm ci", &files);
    repository.changed("libs/a/index.js", "2", Some("libs/a/index.js"));
    repository.changed("libs/a/node_modules/x/index.js", "2", None);
    repository.changed("libs/b/index.js", "2", None);
    repository.changed(
        "libs/b/package.json",
        r#"{"dependencies": {"d": "1"}}"#,
        Some("libs/b/package.json (what installing reads)"),
    );
    repository.changed("c.tgz", "2", Some("c.tgz"));
    repository.write("package.json", r#"{"dependencies": {"a": "file:../a"}}"#);
    assert!(repository.refused().contains("outside the repository"), "{}", repository.refused());
}

#[test]
fn what_scripts_read() {
    let script = |line: &str| {
        let package = serde_json::json!({ "scripts": { "postinstall": line, "icons": "node icons.js" } }).to_string();
        Repository::new("npm", "npm ci", &[("package.json", &package), ("package-lock.json", "{}")])
    };
    let mut own = script("npm run icons");
    assert_eq!(
        own.refused(),
        "package.json's postinstall `node icons.js` may read any file; name what it reads under [cache] inputs in .hookmill.toml"
    );
    own.declared = vec!["icons.js".to_owned(), "icons/**".to_owned()];
    own.changed("icons/a/b.svg", "x", Some("icons/a/b.svg"));
    own.changed("icons.js", "x", Some("icons.js"));
    own.changed("other.js", "x", None);
    own.declared.clear();
    own.scripts = Scripts::None;
    own.changed("icons.js", "x", None);
    let prisma = script("prisma generate");
    prisma.changed("prisma/schema.prisma", "x", Some("prisma/schema.prisma"));
    assert_eq!(prisma.group().expires, None);
    let client =
        [("package.json", PACKAGE), ("package-lock.json", r#"{"packages": {"node_modules/@prisma/client": {}}}"#)];
    Repository::new("npm", "npm ci", &client).changed("schema.prisma", "x", Some("schema.prisma"));
    let bower = script("bower install");
    bower.changed("bower.json", "{}", Some("bower.json"));
    assert_eq!(
        (bower.group().expires, bower.group().directories),
        (Some(UNLOCKED), vec!["bower_components".to_owned()])
    );
    let gyp = npm();
    gyp.write("binding.gyp", "{}");
    assert!(gyp.refused().starts_with("binding.gyp `node-gyp rebuild` may read any file"), "{}", gyp.refused());
}

#[test]
fn what_is_not_kept() {
    let check = |tool: &str, command: &str, file: &str, expected: &str| {
        let refused = Repository::new(tool, command, &[("package.json", PACKAGE), (file, "x")]).refused();
        assert!(refused.contains(expected), "{refused}");
    };
    check("npm", "npm install", "README.md", "npm has no lockfile");
    check("npm", "npm ci", "yarn.lock", "npm has no lockfile");
    check("npm", "npm install", "package-lock.json", "install with `npm ci`");
    check(
        "yarn",
        "yarn install --no-immutable",
        "yarn.lock",
        "`yarn install --no-immutable` may install what yarn.lock",
    );
    check("pnpm", "pnpm install --no-frozen-lockfile", "pnpm-lock.yaml", "pnpm install --frozen-lockfile");
    check("bun", "bun install", "bun.lock", "bun install --frozen-lockfile");
    check("npm", "make deps", "package-lock.json", "the step npm `make deps` may read any file");
}

#[test]
fn bower() {
    let files = [("bower.json", "{}"), (".bowerrc", r#"{"directory": "web/lib", "registry": "https://u:p@b/"}"#)];
    let repository = Repository::new("bower", "bower install --allow-root", &files);
    let group = repository.group();
    assert_eq!(
        (group.level, group.directories, group.expires),
        (Level::Bower, vec!["web/lib".to_owned()], Some(UNLOCKED))
    );
    repository.changed("bower.json", r#"{"a": 1}"#, Some("bower.json"));
    repository.changed(".bowerrc", r#"{"directory": "web/lib", "registry": "https://u:q@b/"}"#, None);
    repository.changed(".bowerrc", "{}", Some(".bowerrc (without users)"));
    repository.write(".bowerrc", r#"{"scripts": {"postinstall": "node x.js"}}"#);
    assert!(repository.refused().starts_with(".bowerrc's postinstall `node x.js` may read any file"));
    repository.write(".bowerrc", r#"{"directory": "../lib"}"#);
    assert!(repository.refused().contains("outside the repository"));
}

#[test]
fn what_tools_keep_and_verdicts() {
    let repository = npm();
    let key = |repository: &Repository, packages: Option<&Inputs>| {
        repository.with(|facts| work(facts, packages)).expect("readable").key()
    };
    let installed = repository.inputs();
    let before = key(&repository, Some(&installed));
    assert_ne!(before, key(&repository, None));
    for (path, text, same) in [
        ("src/index.js", "x", true),
        ("package-lock.json", "{}", true),
        ("tsconfig.json", "{}", false),
        ("web/.babelrc", "{}", false),
        ("webpack.config.js", "x", false),
        ("web/package.json", r#"{"sideEffects": false}"#, false),
    ] {
        let repository = npm();
        repository.write(path, text);
        assert_eq!(key(&repository, Some(&installed)) == before, same, "{path}");
    }
    let verdict = |repository: &Repository, tree: &str| repository.with(|facts| verdict(facts, tree, &[])).key();
    let mut other = npm();
    assert_eq!(verdict(&repository, "a"), verdict(&other, "a"));
    assert_ne!(verdict(&repository, "a"), verdict(&other, "b"));
    other.plan.stages[1].steps[0].env.insert("A".to_owned(), "b".to_owned());
    assert_ne!(verdict(&repository, "a"), verdict(&other, "a"));
}

#[test]
fn what_installs_wrote() {
    let check = |files: &[(&str, &str)], expected: Result<&[&str], &str>| {
        let repository = npm();
        repository.write("src/index.js", "1");
        repository.write("icons/a.svg", "1");
        let upper = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(path, text)| write(upper.path(), path, text));
        let groups = [repository.group()];
        let kept = repository.with(|facts| keepable(Written::Layer(upper.path()), facts, &groups));
        let kept = kept.map_err(|why| why.to_string());
        match expected {
            Ok(expected) => {
                let kept = kept.expect("kept");
                let all: Vec<String> =
                    kept.packages.iter().chain(&kept.files).map(|path| path.display().to_string()).collect();
                assert_eq!(all, expected);
                assert!(!upper.path().join(".git/index").exists() && !upper.path().join("src/index.js").exists());
            }
            Err(expected) => assert!(kept.as_ref().is_err_and(|why| why.contains(expected)), "{kept:?}"),
        }
    };
    check(
        &[("node_modules/a/index.js", "x"), ("web/node_modules/b.js", "x")],
        Ok(&["node_modules", "web/node_modules"]),
    );
    check(
        &[(".pnp.cjs", "x"), (".yarn/unplugged/a", "x"), (".yarn/install-state.gz", "x")],
        Ok(&[".pnp.cjs", ".yarn/install-state.gz", ".yarn/unplugged"]),
    );
    check(
        &[(".git/index", "x"), (".git/hooks/pre-commit", "x"), (".husky/_/husky.sh", "x")],
        Ok(&[".husky/_/husky.sh"]),
    );
    // Copied up without a change.
    check(&[("src/index.js", "1")], Ok(&[]));
    check(&[("src/index.js", "2")], Err("an install changed src/index.js"));
    check(&[("src/index.js/x", "2")], Err("an install removed src"));
    check(&[("package-lock.json", "2")], Ok(&["package-lock.json"][..0]));
}

#[test]
fn what_flat_installs_wrote_and_what_hides() {
    let repository = npm();
    repository.write("node_modules/a/index.js", "1");
    let groups = [repository.group()];
    let written = |changed: &[&str], tracked: &dyn Fn(&Path) -> bool| {
        let (root, changed) = (repository.folder.path(), changed.iter().map(PathBuf::from).collect());
        repository.with(|facts| keepable(Written::Flat { root, tracked, changed: &changed }, facts, &groups))
    };
    let of_the_commit = |path: &Path| !path.starts_with("node_modules");
    let kept = written(&[], &of_the_commit).expect("kept");
    assert_eq!(kept, Cleaned { packages: vec!["node_modules".into()], ..Cleaned::default() });
    let refused = |changed: &[&str], tracked: &dyn Fn(&Path) -> bool, why: &str| {
        let error = written(changed, tracked).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&["package.json"], &of_the_commit, "an install changed package.json");
    refused(&["gone.js"], &of_the_commit, "an install removed gone.js");
    refused(&[], &|_| true, "node_modules is committed");
    assert!(written(&["package-lock.json"], &of_the_commit).is_ok());
    let made = written(&[], &|path| path != Path::new("package.json") && of_the_commit(path)).expect("kept");
    assert_eq!(made.files, [Path::new("package.json")]);

    let layer = tempfile::tempdir().expect("a folder");
    write(layer.path(), "node_modules/a", "x");
    write(layer.path(), "src/made.js", "x");
    let found = || repository.with(|facts| hidden(layer.path(), facts, &groups[0])).expect("readable");
    assert_eq!(found(), None);
    repository.write("src/made.js", "ours");
    assert_eq!(found().as_deref(), Some(Path::new("src/made.js")));
}
