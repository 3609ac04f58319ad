//! What the agent's tools say about themselves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use url::Url;

use super::place::Place;
use crate::confine::Visit;

/// A tool that does not answer within this time is taken as one without a version.
const PATIENCE: Duration = Duration::from_secs(10);

/// What node (`module.enableCompileCache`) and yarn 1 compiled they keep under a known name in `/tmp`, and run it the next
/// time as it lies there. Who else writes to that folder would choose what runs beside the agent, so it is not looked into.
pub(super) const NO_COMPILED_CODE: [(&str, &str); 2] =
    [("NODE_DISABLE_COMPILE_CACHE", "1"), ("DISABLE_V8_COMPILE_CACHE", "1")];

/// node, asked.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Without the `v`.
    pub(super) version: String,
    /// Its own file, also where what was found is a version manager's script.
    pub(super) program: PathBuf,
    /// Where its headers are published.
    pub(super) headers: Option<Url>,
}

/// Who starts a program to hear what it says.
pub(super) enum Asker<'a> {
    /// This process, with this `PATH`.
    Host(&'a OsStr),
    /// A fence in another root, with that one's `PATH`.
    Root(&'a Visit, String),
}

impl Asker<'_> {
    async fn ask(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        match self {
            Asker::Host(path) => ask(program, arguments, path).await,
            Asker::Root(visit, path) => visit.ask(program, arguments, path).await,
        }
    }
}

pub(super) async fn node(program: Option<&PathBuf>, asker: &Asker<'_>) -> Option<Node> {
    const ASK: &str = "[process.version, process.execPath, process.release.headersUrl].join('\\n')";
    let said = asker.ask(program?, &["-p", ASK]).await?;
    let mut lines = said.lines().map(str::trim);
    let (version, program) = (lines.next()?, lines.next()?);
    Some(Node {
        version: version.trim_start_matches('v').to_owned(),
        program: PathBuf::from(program),
        headers: lines.next().and_then(|address| Url::parse(address).ok()),
    })
}

/// The first word with a digit first of what `program --version` prints.
pub(super) async fn asked(program: Option<&PathBuf>, asker: &Asker<'_>) -> Option<String> {
    let said = asker.ask(program?, &["--version"]).await?;
    let mut words = said.split_whitespace();
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// Where npm is configured to go, by the configuration files and variables of the agent's own user.
pub(super) async fn registry(npm: Option<&PathBuf>, asker: &Asker<'_>) -> Option<String> {
    let said = asker.ask(npm?, &["config", "get", "registry"]).await?;
    let mut address = Url::parse(said.trim()).ok()?;
    // A password in it is the operator's, not the steps'.
    address.set_username("").ok()?;
    address.set_password(None).ok()?;
    Some(address.into())
}

async fn ask(program: &Path, arguments: &[&str], path: &OsStr) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path);
    answer(command).await
}

/// Runs a tool of the agent's in `/`: in any other folder it might find a configuration to heed.
pub(super) async fn answer(mut command: Command) -> Option<String> {
    command.current_dir("/").env_remove("NODE_OPTIONS").envs(NO_COMPILED_CODE);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}

/// The version in the `package.json` of the package that a script belongs to. corepack's `yarn`
/// belongs to corepack, and which yarn it will be is a repository's word: no version.
pub(super) fn from_package(name: &str, real: &Path, place: &Place) -> Option<String> {
    let mut manifests = real.ancestors().skip(1).take(4).map(|folder| place.on_host(&folder.join("package.json")));
    let manifest = manifests.find(|file| file.is_file())?;
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
