//! `.hookmill.toml`: what a repository says about its own build. Optional; without it everything is detected.
//!
//! It comes from whoever wrote the commit, so it can only choose commands and lower bounds. Trust,
//! secrets, sandbox and cache scope are not in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::spec::Network;

use super::document;
use super::problem::{Findings, Problem, Problems};
use super::repo_reader;

/// Where it is looked for: at the root of the tree, nowhere else.
pub const FILE_NAME: &str = ".hookmill.toml";

/// A file longer than this is not somebody's settings.
const MAX_BYTES: usize = 1 << 20;

/// `.hookmill.toml`, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RepoFile {
    /// `[env]`: for every step; a step's own wins.
    pub env: BTreeMap<String, String>,
    /// `[[install]]`: each replaces the detected install of that tool and folder.
    pub installs: Vec<Install>,
    /// `[bundle]`: what of the detected bundle is replaced.
    pub bundle: Bundle,
    /// `[[check]]`, in the order of the file.
    pub checks: Vec<Check>,
    /// `[cache]`.
    pub cache: Cache,
    /// `[toolchain]`: versions over what is detected, by tool (`node`, `npm`, `yarn`, `pnpm`, `bun`).
    pub toolchain: BTreeMap<String, String>,
    /// `[checkout]`.
    pub checkout: Checkout,
    /// `[budget]`.
    pub budget: Budget,
    /// `[paths] ignore`: globs from the tree's root; a change of only these needs no build.
    pub ignored_paths: Vec<String>,
    /// `[artifacts]`.
    pub artifacts: Artifacts,
    /// `[on."pattern"]`, in the order of the file.
    pub on: Vec<On>,
}

/// `[checkout]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// How many commits of history a step sees; 0 is all of it.
    pub depth: u32,
    /// Whether the repository's tags are there.
    pub tags: bool,
    /// Whether submodules are fetched, theirs too.
    pub submodules: bool,
    /// Whether the contents of Git LFS pointers are fetched.
    pub lfs: bool,
}

impl Default for Checkout {
    fn default() -> Self {
        Self { depth: 1, tags: false, submodules: true, lfs: true }
    }
}

/// How the sizes of a bundle's files are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Measure {
    /// Bytes on disk.
    #[default]
    Raw,
    /// Bytes of each file after gzip.
    Gzip,
}

/// `[budget]`: how large a bundle may be, in bytes. Empty: as large as it likes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budget {
    /// All files of the output together.
    pub total: Option<u64>,
    /// What is counted.
    pub measure: Measure,
    /// For each file of the output that a glob matches.
    pub assets: BTreeMap<String, u64>,
}

/// When artifacts are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// Of a build that passed.
    #[default]
    Passed,
    /// Of every build that came to its steps.
    Always,
}

/// `[artifacts]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// Files and folders from the tree's root; globs.
    pub paths: Vec<String>,
    /// When they are kept.
    pub when: Keep,
}

/// `[on."pattern"]`: what differs for some refs.
#[derive(Debug, Clone, PartialEq)]
pub struct On {
    /// A glob over branch names, or `pull_request`, or `tag`.
    pub pattern: String,
    /// Over `[env]`.
    pub env: BTreeMap<String, String>,
    /// What it names replaces that key of `[bundle]`.
    pub bundle: Bundle,
}

/// The package managers that an `[[install]]` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstallTool {
    /// npm.
    Npm,
    /// Bower.
    Bower,
    /// Yarn, classic or modern.
    Yarn,
    /// pnpm.
    Pnpm,
    /// Bun.
    Bun,
}

impl InstallTool {
    /// Every one of them.
    pub const ALL: [InstallTool; 5] = [Self::Npm, Self::Bower, Self::Yarn, Self::Pnpm, Self::Bun];

    /// The word in the file, in step names and in status contexts.
    pub fn as_str(self) -> &'static str {
        match self {
            InstallTool::Npm => "npm",
            InstallTool::Bower => "bower",
            InstallTool::Yarn => "yarn",
            InstallTool::Pnpm => "pnpm",
            InstallTool::Bun => "bun",
        }
    }
}

/// `[[install]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Install {
    /// Whose install it replaces.
    pub tool: InstallTool,
    /// The folder, relative to the tree's root; `.` is the root.
    pub dir: String,
    /// Program and arguments instead of the detected ones.
    pub command: Option<Vec<String>>,
    /// Added to the step's environment.
    pub env: BTreeMap<String, String>,
    /// Lower than the server's, or the server's holds.
    pub timeout: Option<Duration>,
    /// The detected install does not run.
    pub skip: bool,
}

/// `[bundle]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bundle {
    /// Program and arguments instead of the detected ones.
    pub command: Option<Vec<String>>,
    /// The folder, relative to the tree's root.
    pub dir: Option<String>,
    /// Where the bundle is written, relative to `dir`.
    pub output: Option<String>,
    /// Lower than the server's, or the server's holds.
    pub timeout: Option<Duration>,
    /// Added to the step's environment.
    pub env: BTreeMap<String, String>,
    /// Whether it may reach the network; heeded for trusted and member builds only. `None`: as the server says.
    pub network: Option<Network>,
}

/// When a check runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Beside the bundle, once every install is done.
    Install,
    /// Once the bundle is done.
    Bundle,
}

/// `[[check]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its step's name, unique in the build.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// When it runs.
    pub after: After,
    /// Its failure is shown and does not fail the build.
    pub allow_failure: bool,
    /// How often a failure is tried again.
    pub retry: u32,
    /// The folder, relative to the tree's root; `.` is the root.
    pub dir: String,
    /// Added to the step's environment.
    pub env: BTreeMap<String, String>,
    /// Lower than the server's, or the server's holds.
    pub timeout: Option<Duration>,
    /// What it may reach; heeded for trusted and member builds only.
    pub network: Option<Network>,
}

/// `[cache]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Whether installed dependencies may be kept and reused.
    pub dependencies: bool,
    /// Whether webpack's own cache may be kept and reused.
    pub webpack: bool,
    /// Folders that are kept between builds of a ref.
    pub paths: Vec<String>,
    /// Globs over the files that the repository's own install scripts read.
    pub inputs: Vec<String>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { dependencies: true, webpack: true, paths: Vec::new(), inputs: Vec::new() }
    }
}

impl RepoFile {
    /// Reads the file's text. `file_name` is what messages call it.
    ///
    /// # Errors
    /// Every fault, each with its place: unknown keys, wrong values, what is not built yet.
    pub fn parse(text: &str, file_name: &str) -> Result<RepoFile, Problems> {
        if text.len() > MAX_BYTES {
            return Err(Problems(vec![Problem::general(format!("{file_name} is longer than {MAX_BYTES} bytes"))]));
        }
        let table = document::parse(file_name.to_owned(), PathBuf::new(), text).map_err(Problems)?;
        let mut findings = Findings::default();
        let file = repo_reader::read(table, &mut findings);
        findings.verdict().map(|_warnings| file)
    }
}

/// Reads a text for the keys that are asked for; what is wrong in it does not matter.
pub(super) fn note_keys(text: &str, findings: &mut Findings) {
    if let Ok(table) = document::parse(FILE_NAME.to_owned(), PathBuf::new(), text) {
        repo_reader::read(table, findings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match RepoFile::parse(text, FILE_NAME) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.into_iter().map(|problem| problem.message).collect(),
        }
    }

    #[test]
    fn everything_that_is_built() {
        let file = RepoFile::parse(
            r#"
            [env]
            NODE_OPTIONS = "--openssl-legacy-provider"
            [[install]]
            tool = "npm"
            dir = "./client/"
            command = ["npm", "ci"]
            timeout = "10m"
            [[install]]
            tool = "bower"
            skip = true
            [bundle]
            command = ["npx", "webpack"]
            output = "dist"
            network = true
            [[check]]
            name = "test"
            command = ["npm", "test"]
            after = "bundle"
            retry = 1
            [cache]
            webpack = false
            paths = [".next/cache/"]
            inputs = ["./prisma/**"]
            [toolchain]
            node = ">=18 <21"
            npm = "9"
            [checkout]
            depth = 0
            tags = true
            [budget]
            total = "1.2MB"
            measure = "gzip"
            [budget.assets]
            "main.*.js" = "300kB"
            [paths]
            ignore = ["docs/**", "./*.md"]
            [artifacts]
            paths = ["dist/"]
            when = "always"
            [on."release/**"]
            env = { API = "https://api.acme.dev" }
            [on.pull_request.bundle]
            network = ["Fonts.GoogleAPIs.com:443", "*.acme.dev:8443"]
            "#,
            FILE_NAME,
        )
        .expect("legal");
        assert_eq!(file.env["NODE_OPTIONS"], "--openssl-legacy-provider");
        assert_eq!(file.installs[0].dir, "client");
        assert_eq!(file.installs[0].timeout, Some(Duration::from_secs(600)));
        assert!(file.installs[1].skip);
        assert_eq!((file.bundle.dir.as_deref(), file.bundle.network.clone()), (None, Some(Network::Open)));
        assert_eq!((file.checks[0].after, file.checks[0].retry), (After::Bundle, 1));
        assert_eq!(
            file.cache,
            Cache {
                webpack: false,
                paths: vec![".next/cache".to_owned()],
                inputs: vec!["prisma/**".to_owned()],
                ..Cache::default()
            }
        );
        assert_eq!((file.toolchain["node"].as_str(), file.toolchain["npm"].as_str()), (">=18 <21", "9"));
        assert_eq!(file.checkout, Checkout { depth: 0, tags: true, ..Checkout::default() });
        assert_eq!((file.budget.total, file.budget.measure), (Some(1_200_000), Measure::Gzip));
        assert_eq!(file.budget.assets["main.*.js"], 300_000);
        assert_eq!(file.ignored_paths, ["docs/**", "*.md"]);
        assert_eq!(file.artifacts, Artifacts { paths: vec!["dist".to_owned()], when: Keep::Always });
        assert_eq!((file.on[0].pattern.as_str(), file.on[1].pattern.as_str()), ("release/**", "pull_request"));
        assert_eq!(file.on[0].env["API"], "https://api.acme.dev");
        let hosts = ["fonts.googleapis.com:443", "*.acme.dev:8443"].map(str::to_owned).to_vec();
        assert_eq!(file.on[1].bundle.network, Some(Network::Hosts(hosts)));
        assert_eq!(RepoFile::parse("", FILE_NAME).expect("legal"), RepoFile::default());
    }

    #[test]
    fn each_fault_is_named() {
        let check = |text: &str, message: &str| assert_eq!(faults(text), [message], "{text}");
        check("[bundel]\n", "unknown key `bundel`");
        check("[bundle]\ncomand = ['a']\n", "unknown key `comand` in `bundle`");
        check("[bundle]\ncommand = 'a'\n", "`bundle.command` must be a list of strings");
        check("[bundle]\ncommand = []\n", "`bundle.command` is empty");
        check("[bundle]\ndir = '../x'\n", "\"../x\" is not a folder of the repository");
        check("[bundle]\ntimeout = 'soon'\n", "\"soon\" is not a duration");
        check("[bundle]\nnetwork = 'all'\n", "`bundle.network` must be true, false or a list of hosts");
        check("[bundle]\nnetwork = ['a.dev']\n", "\"a.dev\" has no port");
        check(
            "[bundle]\nnetwork = ['https://a.dev/x']\n",
            "\"https://a.dev/x\" is an address, not a host with its port",
        );
        check("[bundle]\nnetwork = ['a.dev:0']\n", "\"a.dev:0\" has a port that is not one of 1 to 65535");
        check("[bundle]\nnetwork = ['*:443']\n", "\"*:443\" is not a host with its port");
        check("[env]\nA = 1\n", "the variable A must be a string, not an integer");
        check("[[install]]\ndir = 'a'\n", "an [[install]] needs a `tool`");
        check(
            "[[install]]\ntool = 'npm'\n[[install]]\ntool = 'npm'\ndir = './'\n",
            "a second [[install]] of npm in \".\"",
        );
        check("[[check]]\nname = 'npm'\ncommand = ['a']\n", "\"npm\" is the name of another step");
        check("[matrix]\n", "`matrix` is reserved for a later format");
        check("[toolchain]\nnode = 18\n", "`toolchain.node` must be a string, not an integer");
        check("[toolchain]\nnode = '$(id)'\n", "\"$(id)\" is not a version of node");
        check("[toolchain]\nnode-js = '18'\n", "unknown key `node-js` in `toolchain`");
        check("[checkout]\ndepth = -1\n", "`checkout.depth` must be a whole number, 0 or more");
        check("[checkout]\nlfs = 'no'\n", "`checkout.lfs` must be true or false, not a string");
        check("[budget]\ntotal = '1.2 megs'\n", "\"1.2 megs\" is not a size");
        check("[budget]\nmeasure = 'brotli'\n", "`budget.measure` is \"raw\" or \"gzip\", not \"brotli\"");
        check(
            "[budget.assets]\n'*.js' = true\n",
            "`budget.assets.\"*.js\"` must be a size like \"300kB\", not a boolean",
        );
        check("[budget.assets]\n'a[.js' = '1kB'\n", "\"a[.js\" is not a glob");
        check("[paths]\nignore = ['!docs']\n", "\"!docs\" takes away, and a list can only add");
        check("[cache]\npaths = ['../x']\n", "\"../x\" is not a folder of the repository");
        check("[artifacts]\n", "[artifacts] needs `paths`");
        check("[artifacts]\npaths = ['/etc']\n", "\"/etc\" is not a path of the repository");
        check("[on]\nmain = 1\n", "`on.\"main\"` must be a table, not an integer");
        check("[on.tags]\n", "\"tags\" is not what an [on] is called");
        check("[on.main.bundle]\ncomand = ['x']\n", "unknown key `comand` in `on.\"main\".bundle`");
    }

    #[test]
    fn all_faults_at_once_in_the_order_of_the_file() {
        assert_eq!(faults("nope = 1\n[bundle]\ndir = 3\n[deploy]\n").len(), 3);
        assert_eq!(faults("[bundle]\ndir = 3\n[deploy]\n")[0], "`bundle.dir` must be a string, not an integer");
    }
}
