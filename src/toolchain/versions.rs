//! What the agent's tools say about themselves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A tool that does not answer within this time is taken as one without a version.
const PATIENCE: Duration = Duration::from_secs(30);

/// node, asked.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Without the `v`.
    pub(super) version: String,
    /// Its own file, also where what was found is a version manager's script.
    pub(super) program: PathBuf,
}

pub(super) async fn node(program: Option<&PathBuf>, path: &OsStr) -> Option<Node> {
    let said = ask(program?, &["-p", "process.version + '\\n' + process.execPath"], path).await?;
    let (version, program) = said.split_once('\n')?;
    Some(Node { version: version.trim_start_matches('v').to_owned(), program: PathBuf::from(program.trim()) })
}

/// The first word with a digit first of what `program --version` prints.
pub(super) async fn asked(program: Option<&PathBuf>, path: &OsStr) -> Option<String> {
    let said = ask(program?, &["--version"], path).await?;
    let mut words = said.split_whitespace();
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// Where npm is configured to go, by the configuration files and variables of the agent's own user.
pub(super) async fn registry(npm: Option<&PathBuf>, path: &OsStr) -> Option<String> {
    let said = ask(npm?, &["config", "get", "registry"], path).await?;
    let mut address = url::Url::parse(said.trim()).ok()?;
    // A password in it is the operator's, not the steps'.
    address.set_username("").ok()?;
    address.set_password(None).ok()?;
    Some(address.into())
}

/// Runs a tool of the agent's in `/`: in any other folder it might find a configuration to heed.
async fn ask(program: &Path, arguments: &[&str], path: &OsStr) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env("PATH", path).env_remove("NODE_OPTIONS");
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}

/// The version in the `package.json` of the package that a script belongs to. corepack's `yarn`
/// belongs to corepack, and which yarn it will be is a repository's word: no version.
pub(super) fn from_package(name: &str, real: &Path) -> Option<String> {
    let manifest =
        real.ancestors().skip(1).take(4).map(|folder| folder.join("package.json")).find(|file| file.is_file())?;
    let fields: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).ok()?).ok()?;
    let packages: &[&str] = match name {
        "npx" => &["npm"],
        // Since version 2 yarn's releases have a package of their own.
        "yarn" => &["yarn", "@yarnpkg/cli-dist"],
        _ => &[name],
    };
    let is_it = packages.iter().any(|package| fields["name"] == *package);
    fields.get("version")?.as_str().filter(|_| is_it).map(str::to_owned)
}
