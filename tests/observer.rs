//! The observer with real webpack 4 and 5 and rspack 1 and 2, however they are started, and on several nodes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use hookmill::runner::observer::{self, CacheOf, Observed, Settings};
use tempfile::TempDir;

const PACKAGES: [&str; 9] = [
    "webpack@5.112.2",
    "webpack-cli@6.0.1",
    "webpack4@npm:webpack@4.47.0",
    "cross-env@7.0.3",
    "@rspack/core@2.3.2",
    "@rspack/cli@2.2.8",
    "rspack1@npm:@rspack/core@1.7.12",
    "node18@npm:node-linux-ARCH@18.20.8",
    "node22@npm:node-linux-ARCH@22.12.0",
];

const QUIET: &str = "module.exports = { mode: 'production', entry: './src/index.js' };\n";
/// Answers when the bundler does, and ends at once.
const API: &str = "(config, (error, stats) => { if (error) throw error; console.log(stats.toString({ all: false, errors: true, assets: true })); });\n";
/// The same with a compiler that nobody closes.
const RUN: &str = "(config).run((error, stats) => { if (error) throw error; console.log(stats.hasErrors()); process.exit(stats.hasErrors() ? 1 : 0); });\n";

/// The bundlers, installed once for all tests.
fn installed() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundlers-1");
    let lock = File::create(home.with_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if !home.exists() {
        let staging = home.with_extension("new");
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).expect("a folder");
        fs::write(staging.join("package.json"), r#"{"name": "bundlers", "private": true}"#).expect("a file");
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
        let installed = Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(PACKAGES.map(|package| package.replace("ARCH", arch)))
            .current_dir(&staging)
            .stdin(Stdio::null())
            .output()
            .expect("npm is installed");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        // These nodes are chosen by their folders; as a command of the tree one of them would be everybody's.
        fs::remove_file(staging.join("node_modules/.bin/node")).expect("the packages have one");
        fs::rename(&staging, &home).expect("renamed");
    }
    home.join("node_modules")
}

/// A repository and a HOME, both at paths with a space.
struct Lab {
    dir: TempDir,
    settings: Settings,
    /// The folder of the node that runs; `None`: the machine's.
    node: Option<PathBuf>,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("a folder");
        let lab = Lab {
            settings: Settings {
                cache_dir: observer::cache_dir(&dir.path().join("my home")),
                managed: false,
                tree: dir.path().join("my app"),
                ready: SystemTime::UNIX_EPOCH,
                build_dependencies: ["webpack.config.js", "package-lock.json", "not-there.js"]
                    .map(|file| dir.path().join("my app").join(file))
                    .into(),
                version: "1".into(),
            },
            dir,
            node: None,
        };
        fs::create_dir(lab.home()).expect("a folder");
        lab.file("package.json", r#"{"name": "app", "private": true}"#);
        lab.file("package-lock.json", "{}");
        lab.file("webpack.config.js", QUIET);
        lab.file("src/index.js", "import { a } from './a'; import dep from 'dep'; console.log(a, dep, typeof SAYS === 'string' ? SAYS : '');\n");
        lab.file("src/a.js", "export const a = 'alpha';\n");
        lab.file("node_modules/dep/package.json", r#"{"name": "dep", "version": "1.0.0", "main": "i.js"}"#);
        lab.file("node_modules/dep/i.js", "module.exports = 'first';\n");
        for package in ["webpack", "webpack-cli", "webpack4", "@rspack", "rspack1", "cross-env", ".bin"] {
            let link = lab.app().join("node_modules").join(package);
            std::os::unix::fs::symlink(installed().join(package), link).expect("a link");
        }
        lab
    }

    fn app(&self) -> PathBuf {
        self.dir.path().join("my app")
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("my home")
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.app().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }

    /// A step with `script` in a shell; `options` are the repository's own for node.
    fn run(&self, observed: bool, options: &str, script: &str) -> Ran {
        let _ = fs::remove_dir_all(self.app().join("dist"));
        let node = self.node.clone().map(|folder| format!("{}:", folder.display())).unwrap_or_default();
        let machine = std::env::var("PATH").expect("set");
        let bin = self.app().join("node_modules/.bin");
        let (mut path, mut node_options) = (format!("{}:{node}{machine}", bin.display()), options.to_owned());
        let before = observer::observed(&self.home()).len();
        if observed {
            let settings = Settings { ready: SystemTime::now(), ..self.settings.clone() };
            observer::write(&self.home(), &self.home(), &settings).expect("written");
            path = format!("{}:{path}", observer::path_folder(&self.home()).display());
            node_options = format!("{} {options}", observer::node_options(&self.home())).trim().to_owned();
        }
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(self.app()).env_clear().stdin(Stdio::null());
        command.env("PATH", path).env("HOME", self.home()).env("TMPDIR", self.dir.path());
        if !node_options.is_empty() {
            command.env("NODE_OPTIONS", node_options);
        }
        let output = command.output().expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}: {stdout}{stderr}");
        Ran {
            dist: contents(&self.app().join("dist")),
            stdout: timeless(&stdout),
            stderr: timeless(&stderr),
            observed: observer::observed(&self.home()).split_off(before),
        }
    }

    /// What the one compiler of a step found.
    fn one(&self, script: &str) -> (Observed, String) {
        let ran = self.run(true, "", script);
        assert_eq!(ran.observed.len(), 1, "{script}: {}{}", ran.stdout, ran.stderr);
        (ran.observed[0].clone(), ran.dist.iter().map(|(_, text)| text.as_str()).collect())
    }
}

struct Ran {
    dist: Vec<(String, String)>,
    stdout: String,
    stderr: String,
    observed: Vec<Observed>,
}

fn contents(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a result")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("text")))
        .collect();
    files.sort();
    files
}

/// Without the times, which no two runs share; what takes longer than a second may be told in seconds.
fn timeless(text: &str) -> String {
    text.replace(" ms", " s").split(' ').filter(|word| word.parse::<f64>().is_err()).collect::<Vec<_>>().join(" ")
}

/// Three runs: without us, with an empty cache, with a full one.
fn check_start(lab: &Lab, script: &str) {
    let without = lab.run(false, "", script);
    assert_eq!(without.observed, []);
    let first = lab.run(true, "", script);
    assert_eq!(first.dist, without.dist, "{script}");
    assert_eq!((&first.stdout, &first.stderr), (&without.stdout, &without.stderr), "{script}");
    let second = lab.run(true, "", script);
    assert_eq!(second.dist, without.dist, "{script}");
    assert_eq!(second.stderr, without.stderr, "{script}");
    for ran in [&first, &second] {
        assert!(ran.observed.iter().all(|one| one.cache == CacheOf::Ours), "{script}: {:?}", ran.observed);
    }
    let counts = |ran: &Ran| ran.observed.iter().map(|one| (one.built > 0, one.cached > 0)).collect::<Vec<_>>();
    let compilers = second.observed.len();
    assert!(compilers > 0, "{script}: not attached");
    assert_eq!(counts(&first), vec![(true, false); compilers], "{script}: {:?}", first.observed);
    assert_eq!(counts(&second), vec![(false, true); compilers], "{script}: {:?}", second.observed);
}

#[test]
fn webpack_5_however_it_is_started() {
    let lab = Lab::new();
    lab.file(
        "api.cjs",
        &format!("const webpack = require('webpack'), config = require('./webpack.config.js');\nwebpack{API}"),
    );
    lab.file(
        "api.mjs",
        &format!("import webpack from 'webpack'; import config from './webpack.config.js';\nwebpack{API}"),
    );
    lab.file(
        "run.cjs",
        &format!("const webpack = require('webpack'), config = require('./webpack.config.js');\nwebpack{RUN}"),
    );
    lab.file("esm.config.mjs", "import path from 'node:path';\nexport default { mode: 'production', name: path.basename('esm'), entry: './src/index.js' };\n");
    lab.file(
        "fn.config.js",
        "module.exports = async env => ({ mode: 'development', name: 'fn', entry: './src/index.js' });\n",
    );
    lab.file("both.config.js", "module.exports = ['web', 'node'].map(target => ({ mode: 'production', target, entry: './src/index.js', output: { filename: target + '.js' } }));\n");
    for script in [
        "webpack",
        "node api.cjs",
        "node api.mjs a",
        "node run.cjs b",
        "webpack --config esm.config.mjs",
        "webpack --config fn.config.js",
        "webpack --config both.config.js",
        "webpack --config both.config.js --config webpack.config.js",
    ] {
        check_start(&lab, script);
    }
}

#[test]
fn other_nodes_start_it_from_es_modules_too() {
    for (node, way) in [("node18", "api.mjs"), ("node22", "api.mjs"), ("node22", "rspack.mjs")] {
        let lab = Lab { node: Some(installed().join(node).join("bin")), ..Lab::new() };
        lab.file(
            "api.mjs",
            &format!("import webpack from 'webpack'; import config from './webpack.config.js';\nwebpack{API}"),
        );
        lab.file("rspack.mjs", &format!("const config = await import('./webpack.config.js').then(one => one.default);\nconst {{ rspack }} = await import('@rspack/core');\nrspack{API}"));
        check_start(&lab, &format!("node {way}"));
    }
}

#[test]
fn rspack_1_and_2() {
    let lab = Lab::new();
    lab.file("rspack.config.cjs", QUIET);
    lab.file(
        "one.cjs",
        &format!("const {{ rspack }} = require('rspack1'), config = require('./webpack.config.js');\nrspack{API}"),
    );
    lab.file(
        "two.cjs",
        &format!("const {{ rspack }} = require('@rspack/core'), config = require('./webpack.config.js');\nrspack{API}"),
    );
    for script in ["rspack build", "node one.cjs", "node two.cjs a"] {
        check_start(&lab, script);
    }
}

#[test]
fn what_the_build_depends_on_is_noticed() {
    let mut lab = Lab::new();
    let defining = |value: &str| {
        format!(
            "const webpack = require('webpack');\nmodule.exports = {{ mode: 'production', entry: './src/index.js', plugins: [new webpack.DefinePlugin({{ SAYS: '\"{value}\"' }})] }};\n"
        )
    };
    lab.file("webpack.config.js", &defining("before"));
    assert!(lab.one("webpack").1.contains("before"));
    assert_eq!(lab.one("webpack").0.built, 0);

    lab.file("webpack.config.js", &defining("after"));
    let (found, dist) = lab.one("webpack");
    assert!(found.built > 0 && dist.contains("after"), "configuration: {found:?}");
    assert_eq!(lab.one("webpack").0.built, 0);

    lab.file("package-lock.json", "{ }");
    assert_eq!(lab.one("webpack").0.cached, 0, "the lockfile");
    assert_eq!(lab.one("webpack").0.built, 0);

    lab.node = Some(installed().join("node22/bin"));
    assert_eq!(lab.one("webpack").0.cached, 0, "another node");
    assert_eq!(lab.one("webpack").0.built, 0);

    lab.settings.version = "2".into();
    assert_eq!(lab.one("webpack").0.cached, 0, "our own version");
    lab.file("src/a.js", "export const a = 'omega';\n");
    let (found, dist) = lab.one("webpack");
    assert!(found.cached > 0 && dist.contains("omega"), "a source: {found:?}");
}

#[test]
fn a_configuration_that_a_variable_changes_has_no_use_for_the_cache_of_another() {
    let lab = Lab::new();
    lab.file(
        "loader.js",
        "module.exports = function (text) { return text.replace('alpha', this.getOptions().word); };\n",
    );
    lab.file("webpack.config.js", "module.exports = { mode: 'production', entry: './src/index.js', module: { rules: [{ test: /a\\.js$/, use: [{ loader: './loader.js', options: { word: process.env.WORD } }] }] } };\n");
    for word in ["red", "green"] {
        let (found, dist) = lab.one(&format!("WORD={word} webpack"));
        assert!(dist.contains(word) && found.cached == 0, "{word}: {found:?}");
    }
}

#[test]
fn an_edit_in_place_in_node_modules_is_in_the_result_unless_the_repository_says_otherwise() {
    let lab = Lab::new();
    let own = "module.exports = { mode: 'production', entry: './src/index.js', snapshot: { managedPaths: [__dirname + '/node_modules'] } };\n";
    lab.file("managed.config.js", own);
    for (script, seen) in [
        ("webpack", true),
        ("rspack build --config webpack.config.js", true),
        ("webpack --config managed.config.js", false),
    ] {
        lab.file("node_modules/dep/i.js", "module.exports = 'first';\n");
        lab.one(script);
        lab.file("node_modules/dep/i.js", "module.exports = 'other';\n");
        let (found, dist) = lab.one(script);
        assert_eq!((dist.contains("other"), found.built), (seen, u64::from(seen)), "{script}: {found:?}");
    }
}

/// As an overlay shows it: with the file its folders are made anew. Size and time of the file stay.
#[test]
fn where_a_step_edits_a_dependency_there_is_no_cache() {
    let mut lab = Lab::new();
    lab.settings.managed = true;
    let edit = "cp -p node_modules/dep/i.js kept; sed s/first/other/ kept >node_modules/dep/i.js; \
                touch -r kept node_modules/dep/i.js; chmod 755 node_modules node_modules/dep";
    for (bundler, config) in [("webpack", ""), ("rspack build", " --config webpack.config.js")] {
        lab.file("node_modules/dep/i.js", "module.exports = 'first';\n");
        let script = format!("{bundler}{config}");
        lab.one(&script);
        let (warm, dist) = lab.one(&script);
        assert!(warm.cache == CacheOf::Ours && dist.contains("first"), "{bundler}: {warm:?}");
        let (edited, dist) = lab.one(&format!("{edit}; {script}"));
        assert_eq!((edited.cache, dist.contains("other")), (CacheOf::None, true), "{bundler}: {edited:?}");
    }
}

#[test]
fn what_the_repository_says_of_its_cache_is_left_alone() {
    let lab = Lab::new();
    lab.file(
        "rspack1.cjs",
        &format!("const {{ rspack }} = require('rspack1'), config = require('./one.config.js');\nrspack{API}"),
    );
    lab.file("one.config.js", "module.exports = { mode: 'production', entry: './src/index.js', experiments: { cache: { type: 'persistent' } } };\n");
    let config =
        |cache: &str| format!("module.exports = {{ mode: 'development', entry: './src/index.js', cache: {cache} }};\n");
    for (cache, script, expected) in [
        ("false", "webpack", CacheOf::None),
        ("true", "webpack", CacheOf::None),
        ("{ type: 'memory' }", "webpack", CacheOf::None),
        ("{ type: 'filesystem' }", "webpack", CacheOf::Repositorys),
        ("{ type: 'persistent' }", "rspack build --config webpack.config.js", CacheOf::Repositorys),
        ("false", "rspack build --config webpack.config.js", CacheOf::None),
    ] {
        lab.file("webpack.config.js", &config(cache));
        assert_eq!(lab.one(script).0.cache, expected, "{cache}");
        assert!(!lab.settings.cache_dir.exists(), "{cache}");
    }
}

#[test]
fn options_for_node_add_up_and_come_back_where_a_script_replaces_them() {
    let lab = Lab::new();
    lab.file("mine.cjs", "require('fs').appendFileSync('mine.txt', process.execArgv.concat(process.env.NODE_OPTIONS).join(' ') + '\\n');\n");
    for script in [
        "webpack",
        "cross-env NODE_OPTIONS='--require ./mine.cjs --max-old-space-size=300' webpack",
        "NODE_OPTIONS='--require ./mine.cjs --max-old-space-size=300' webpack",
        "unset NODE_OPTIONS; webpack",
    ] {
        let _ = fs::remove_file(lab.app().join("mine.txt"));
        let ran = lab.run(true, "--require ./mine.cjs --max-old-space-size=400", script);
        assert_eq!(ran.observed.len(), 1, "{script}");
        let mine = fs::read_to_string(lab.app().join("mine.txt")).unwrap_or_default();
        let size = if script == "webpack" { "=400" } else { "=300" };
        assert!(
            script.starts_with("unset") || mine.lines().last().is_some_and(|line| line.contains(size)),
            "{script}: {mine}"
        );
    }
}

#[test]
fn the_launcher_is_the_next_node_with_the_same_arguments() {
    let lab = Lab::new();
    lab.file("args.js", "require('fs').mkdirSync('dist'); require('fs').writeFileSync('dist/args', JSON.stringify(process.argv.slice(2)));\n");
    let ran = lab.run(
        true,
        "",
        "node args.js 'a b' '*' '' \"\\$x\"; status=$(node -e 'process.exit(7)'; echo $?); test \"$status\" = 7",
    );
    assert_eq!(ran.dist[0].1, r#"["a b","*","","$x"]"#);
}

#[test]
fn webpack_4_is_told_of_and_not_changed() {
    let lab = Lab::new();
    lab.file(
        "four.cjs",
        &format!("const webpack = require('webpack4'), config = require('./webpack.config.js');\nwebpack{API}"),
    );
    let legacy = "--openssl-legacy-provider";
    let without = lab.run(false, legacy, "node four.cjs");
    for _ in 0..2 {
        let ran = lab.run(true, legacy, "node four.cjs");
        assert_eq!((&ran.dist, &ran.stdout, &ran.stderr), (&without.dist, &without.stdout, &without.stderr));
        let [one] = ran.observed.as_slice() else { panic!("{:?}", ran.observed) };
        assert_eq!((one.cache, one.version.starts_with('4')), (CacheOf::None, true), "{one:?}");
    }
    assert!(!lab.settings.cache_dir.exists());
}
