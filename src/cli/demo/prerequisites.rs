//! What the demo needs from the machine: asked for at once, before anything else, and everything missing is named in
//! one go with the command that mends it.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::sample::SMALL_PACKAGE;

/// How long the registry may take to answer.
const REGISTRY_LIMIT: Duration = Duration::from_secs(5);
/// npm's own start on a slow machine comes on top.
const NPM_START: Duration = Duration::from_secs(2);
/// A version is printed at once; a program that hangs here would hang in a build too.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// The oldest node for which webpack, babel and React of the sample are made.
const OLDEST_NODE: u32 = 18;

/// One line of the list: a name, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// `node`, `registry`, …
    pub name: &'static str,
    /// A version, an address, or what is lost without it.
    pub found: String,
}

/// Something without which the demo can't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// What it is called: `node`.
    pub name: &'static str,
    /// What is wrong with it: "not on PATH".
    pub fault: String,
    /// The command that mends it.
    pub mend: String,
}

/// All that is needed is there.
#[derive(Debug)]
pub(super) struct Ready {
    /// What was found, for the eye.
    pub items: Vec<Item>,
    /// Node's major version, which the sample is built with.
    pub node_major: u32,
    /// The certificate authorities that npm trusts on this machine, where the server would not know of them.
    pub ca_file: Option<String>,
}

/// Asks for everything, side by side.
pub(super) async fn look(system: System, quiet_folder: &Path) -> Result<Ready, Vec<Missing>> {
    let (node, npm, git, sandbox, registry) = tokio::join!(
        version("node", &["--version"]),
        version("npm", &["--version"]),
        git(),
        bubblewrap(system),
        registry(quiet_folder)
    );
    judge(system, node, npm, git, sandbox, registry)
}

/// What became of asking a program for its version.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Says(String),
    NotFound,
    /// It is there but fails; its first line.
    Fails(String),
}

/// What became of asking the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Registry {
    Answers {
        url: String,
        took: Duration,
        ca_file: Option<String>,
    },
    Silent {
        url: String,
        why: String,
    },
    /// npm itself does not run.
    NotAsked,
}

fn judge(
    system: System,
    node: Asked,
    npm: Asked,
    git: Asked,
    sandbox: Item,
    registry: Registry,
) -> Result<Ready, Vec<Missing>> {
    let mut items = Vec::new();
    let mut missing = Vec::new();
    let mut node_major = 0;
    match &node {
        Asked::Says(version) => match major(version) {
            Some(found) if found >= OLDEST_NODE => {
                node_major = found;
                items.push(Item { name: "node", found: version.clone() });
            }
            _ => missing.push(Missing {
                name: "node",
                fault: format!("{version} is too old: the sample needs {OLDEST_NODE} or newer"),
                mend: system.newer_node(),
            }),
        },
        other => missing.push(system.lacks("node", other)),
    }
    let has_node = matches!(node, Asked::Says(_));
    match &npm {
        Asked::Says(version) => items.push(Item { name: "npm", found: version.clone() }),
        // npm is a script for node: without node its failure says nothing about npm.
        Asked::Fails(_) if !has_node => {}
        other => missing.push(system.lacks("npm", other)),
    }
    match &git {
        Asked::Says(version) => items.push(Item { name: "git", found: version.replace("git version ", "") }),
        other => missing.push(system.lacks("git", other)),
    }
    items.push(sandbox);
    let mut trusted = None;
    match registry {
        Registry::Answers { url, took, ca_file } => {
            trusted = ca_file;
            items.push(Item { name: "registry", found: format!("{url} answers in {:.1} s", took.as_secs_f64()) });
        }
        Registry::Silent { url, why } => missing.push(Missing {
            name: "npm registry",
            fault: format!("{url}: {why}"),
            mend: format!(
                "npm ping --registry {url}   (shows the reason)\n\
                 npm config set proxy http://HOST:PORT && npm config set https-proxy http://HOST:PORT   (behind a proxy)\n\
                 npm config set registry URL   (another registry)\n\
                 npm config set cafile FILE   (a certificate authority of your own)"
            ),
        }),
        // Without npm there is nothing to ask with; npm's own line says so.
        Registry::NotAsked => {}
    }
    if missing.is_empty() { Ok(Ready { items, node_major, ca_file: trusted }) } else { Err(missing) }
}

fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

async fn run(program: &str, arguments: &[&str], folder: Option<&Path>, limit: Duration) -> Result<Output, Asked> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Err(Asked::NotFound),
        Ok(Err(error)) => Err(Asked::Fails(error.to_string())),
        Err(_) => Err(Asked::Fails(format!("it did not answer within {} s", limit.as_secs()))),
    }
}

async fn version(program: &str, arguments: &[&str]) -> Asked {
    match run(program, arguments, None, VERSION_LIMIT).await {
        Ok(output) if output.status.success() => Asked::Says(first_line(&output.stdout)),
        Ok(output) => Asked::Fails(first_line(&output.stderr)),
        Err(asked) => asked,
    }
}

/// git's version, if it can also serve repositories over HTTP (some distributions pack that apart).
async fn git() -> Asked {
    let (said, home) = tokio::join!(version("git", &["--version"]), run("git", &["--exec-path"], None, VERSION_LIMIT));
    match (said, home) {
        (Asked::Says(version), Ok(home)) => {
            let program = Path::new(&first_line(&home.stdout)).join("git-http-backend");
            if program.exists() {
                Asked::Says(version)
            } else {
                Asked::Fails(format!("{} is not there", program.display()))
            }
        }
        (said, _) => said,
    }
}

/// The sandbox is optional: what matters is that its absence is said.
async fn bubblewrap(system: System) -> Item {
    let name = "bubblewrap";
    let said = version("bwrap", &["--version"]).await;
    let found = match said {
        Asked::Says(version) => {
            let version = version.replace("bubblewrap ", "");
            match run("bwrap", &["--unshare-all", "--ro-bind", "/", "/", "true"], None, VERSION_LIMIT).await {
                Ok(output) if output.status.success() => version,
                Ok(output) => format!("{version}, but steps run without a sandbox: {}", first_line(&output.stderr)),
                Err(_) => format!("{version}, but it does not run: steps run without a sandbox"),
            }
        }
        _ => match system.install("bubblewrap") {
            Some(mend) => format!("none: steps run without a sandbox; to have it: {mend}"),
            None => "none on this system: steps run without a sandbox".to_owned(),
        },
    };
    Item { name, found }
}

/// npm is asked itself, so that its registry, proxy and certificates are those of a build.
async fn registry(quiet_folder: &Path) -> Registry {
    let folder = Some(quiet_folder);
    let limit = format!("--fetch-timeout={}", REGISTRY_LIMIT.as_millis());
    let begun = Instant::now();
    let view = ["view", SMALL_PACKAGE, "version", "--prefer-online", "--fetch-retries=0", "--loglevel=error", &limit];
    let settings = ["config", "get", "registry", "cafile", "--loglevel=error"];
    let (settings, view) = tokio::join!(
        run("npm", &settings, folder, VERSION_LIMIT),
        run("npm", &view, folder, REGISTRY_LIMIT + NPM_START)
    );
    let settings = match settings {
        Ok(output) if output.status.success() => output,
        _ => return Registry::NotAsked,
    };
    let printed = String::from_utf8_lossy(&settings.stdout);
    let url = npm_setting(&printed, "registry").unwrap_or_default();
    let took = begun.elapsed();
    match view {
        Ok(output) if output.status.success() => Registry::Answers { url, took, ca_file: ca_file(&printed) },
        Ok(output) if took < REGISTRY_LIMIT => {
            Registry::Silent { url, why: npm_complaint(&String::from_utf8_lossy(&output.stderr)) }
        }
        _ => Registry::Silent { url, why: format!("it did not answer within {} s", REGISTRY_LIMIT.as_secs()) },
    }
}

/// A value of `npm config get registry cafile`, which prints `name=value` lines; what is not set reads `null`.
fn npm_setting(printed: &str, name: &str) -> Option<String> {
    let mut lines = printed.lines().filter_map(|line| line.split_once('='));
    let value = lines.find(|(key, _)| key.trim() == name)?.1.trim().trim_matches('"');
    (!matches!(value, "" | "null")).then(|| value.to_owned())
}

/// What npm or node was told to trust. The server looks at `SSL_CERT_FILE` by itself.
fn ca_file(printed: &str) -> Option<String> {
    if std::env::var_os("SSL_CERT_FILE").is_some() {
        return None;
    }
    npm_setting(printed, "cafile").or_else(|| std::env::var("NODE_EXTRA_CA_CERTS").ok())
}

/// npm's own words, without the mark it puts before each line.
fn npm_complaint(stderr: &str) -> String {
    let lines = || stderr.lines().filter_map(|line| line.strip_prefix("npm error "));
    let telling = lines().find_map(|line| line.split_once("reason: ").map(|(_, reason)| reason));
    telling.or_else(|| lines().next()).unwrap_or("it refused to answer").to_owned()
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned()
}

/// Whose package manager the commands are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// Debian, Ubuntu and their children.
    Debian,
    /// Fedora and its relatives.
    Fedora,
    /// macOS with Homebrew.
    MacOs,
    /// Anything else: the package's name has to do.
    Other,
}

impl System {
    /// The system this program runs on.
    pub(super) fn here() -> Self {
        if cfg!(target_os = "macos") {
            return System::MacOs;
        }
        System::from_os_release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// By os-release(5): `ID` and, for children, `ID_LIKE`.
    fn from_os_release(text: &str) -> Self {
        let values = text.lines().filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
        for word in values.flat_map(|value| value.trim_matches('"').split(' ')) {
            match word {
                "debian" | "ubuntu" => return System::Debian,
                "fedora" | "rhel" => return System::Fedora,
                _ => {}
            }
        }
        System::Other
    }

    /// The command that installs a Debian package's counterpart; `None` where there is none.
    fn install(self, package: &str) -> Option<String> {
        let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
        Some(match (self, package) {
            (System::MacOs, "bubblewrap") => return None,
            // Homebrew's node brings npm.
            (System::MacOs, "nodejs npm") => "brew install node".to_owned(),
            (System::MacOs, _) => format!("brew install {package}"),
            (System::Debian, _) => format!("{sudo}apt-get install -y {package}"),
            (System::Fedora, _) => format!("{sudo}dnf install -y {package}"),
            (System::Other, _) => format!("install the packages of your system that are called, on Debian: {package}"),
        })
    }

    /// Debian's and Fedora's node may itself be old: `n` is not.
    fn newer_node(self) -> String {
        let sudo = if self == System::MacOs || rustix::process::geteuid().is_root() { "" } else { "sudo " };
        format!("{sudo}npm install --global n && {sudo}n 22")
    }

    fn lacks(self, name: &'static str, asked: &Asked) -> Missing {
        let fault = match asked {
            Asked::Fails(words) if !words.is_empty() => format!("it does not run: {words}"),
            Asked::Fails(_) => "it does not run".to_owned(),
            Asked::NotFound | Asked::Says(_) => "not found on PATH".to_owned(),
        };
        let package = if name == "git" { "git" } else { "nodejs npm" };
        let mend = self.install(package).unwrap_or_default();
        Missing { name, fault, mend }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}: {}\n      {}", self.name, self.fault, self.mend.replace('\n', "\n      "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> Asked {
        Asked::Says(text.to_owned())
    }

    fn sandbox() -> Item {
        Item { name: "bubblewrap", found: "0.8.0".into() }
    }

    fn answers() -> Registry {
        Registry::Answers { url: "http://registry.invalid/".into(), took: Duration::from_millis(300), ca_file: None }
    }

    #[test]
    fn everything_missing_is_named_at_once_each_with_its_command() {
        let npm_without_node = Asked::Fails("/usr/bin/env: 'node': No such file or directory".into());
        let missing =
            judge(System::Debian, Asked::NotFound, npm_without_node, Asked::NotFound, sandbox(), Registry::NotAsked)
                .expect_err("nothing is there");
        let names: Vec<&str> = missing.iter().map(|one| one.name).collect();
        assert_eq!(names, ["node", "git"], "npm's own failure only repeats that node is missing");
        assert!(missing[0].mend.ends_with("apt-get install -y nodejs npm"), "{missing:?}");
        assert!(missing[1].mend.ends_with("apt-get install -y git"), "{missing:?}");
    }

    #[test]
    fn versions_are_shown_bare_and_an_old_node_is_missing() {
        let found = |node: &str| {
            judge(System::Fedora, says(node), says("10.8.2"), says("git version 2.47.3"), sandbox(), answers())
        };
        let ready = found("v20.20.2").expect("all there");
        assert_eq!(ready.node_major, 20);
        let shown: Vec<&str> = ready.items.iter().map(|item| item.found.as_str()).collect();
        assert_eq!(shown, ["v20.20.2", "10.8.2", "2.47.3", "0.8.0", "http://registry.invalid/ answers in 0.3 s"]);
        assert!(found("v16.20.0").expect_err("too old")[0].fault.contains("18 or newer"));
    }

    #[test]
    fn a_silent_registry_is_missing() {
        let silent =
            Registry::Silent { url: "http://registry.invalid/".into(), why: "it did not answer within 5 s".into() };
        let missing = judge(System::Debian, says("v22.1.0"), says("10.8.2"), says("2.1"), sandbox(), silent)
            .expect_err("no registry");
        assert_eq!(missing[0].name, "npm registry");
        assert!(missing[0].mend.starts_with("npm ping --registry http://registry.invalid/"), "{missing:?}");
    }

    #[test]
    fn systems_by_os_release() {
        let check = |text: &str, system| assert_eq!(System::from_os_release(text), system, "{text}");
        check("NAME=\"Debian\"\nID=debian\n", System::Debian);
        check("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", System::Debian);
        check("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", System::Fedora);
        check("ID=alpine\n", System::Other);
        check("", System::Other);
    }

    #[test]
    fn settings_of_npm() {
        let printed = "registry=http://registry.invalid/\ncafile=null\n";
        assert_eq!(npm_setting(printed, "registry").as_deref(), Some("http://registry.invalid/"));
        assert_eq!(npm_setting(printed, "cafile"), None);
        assert_eq!(npm_setting("cafile=\"/etc/ca.pem\"", "cafile").as_deref(), Some("/etc/ca.pem"));
    }

    #[test]
    fn npm_is_quoted_without_its_marks() {
        let stderr = "npm error code E1\nnpm error FetchError: request to http://h/ failed, reason: connect E1 h:9\n";
        assert_eq!(npm_complaint(stderr), "connect E1 h:9");
        assert_eq!(npm_complaint("npm error code E404\nnpm error 404 Not Found\n"), "code E404");
        assert_eq!(npm_complaint(""), "it refused to answer");
    }
}
