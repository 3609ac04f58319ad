//! What bower says about itself.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use url::Url;

use super::Toolchain;
use super::shelf::Shelf;

const PATIENCE: Duration = Duration::from_secs(10);

/// Where bower is configured to search, by its own defaults and the files of the agent's user. `tools` is where the
/// agent keeps its own. `None` when there is no bower yet, or it does not say.
pub async fn registry(toolchain: &Toolchain, tools: &Path) -> Option<Url> {
    const ASK: &str = "let r = require(process.argv[1]).read('/').registry; \
                       console.log(r.search ? [].concat(r.search)[0] : r)";
    let shelf = Shelf::new(tools.to_path_buf());
    let ours = || Some(shelf.home("bower", shelf.kept("bower").iter().max()?).join("bin/bower"));
    let program = toolchain.get("bower").map(|tool| tool.path.clone()).or_else(ours)?.canonicalize().ok()?;
    let reader = program.parent()?.parent()?.join("lib/node_modules/bower-config");
    let node = toolchain.get("node")?;
    let mut command = Command::new(&node.path);
    command.args(["-e", ASK, "--"]).arg(reader).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let said = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Url::parse(said.trim()).ok()
}
