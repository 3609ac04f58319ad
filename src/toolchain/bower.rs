//! What bower says about itself.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use url::Url;

use super::Toolchain;
use super::shelf::Shelf;

const PATIENCE: Duration = Duration::from_secs(10);

/// Where bower is configured to go, by its own defaults and the files of the agent's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BowerPlaces {
    /// Where it looks names up, the first first.
    pub registries: Vec<Url>,
    /// Where it looks for `owner/name`.
    pub shorthand: Option<Url>,
}

impl Default for BowerPlaces {
    /// Those of a bower that nobody configured.
    fn default() -> Self {
        let url = |text: &str| Url::parse(text).expect("a constant that parses");
        Self { registries: vec![url("https://registry.bower.io/")], shorthand: Some(url("https://github.com/")) }
    }
}

#[derive(Deserialize)]
struct Said {
    search: Vec<String>,
    shorthand: String,
}

/// Asks bower where it goes. `tools` is where the agent keeps its own. `None` when there is no bower yet, or it does not
/// say.
pub async fn places(toolchain: &Toolchain, tools: &Path) -> Option<BowerPlaces> {
    let toolchain = toolchain.of_host();
    const ASK: &str = "let c = require(process.argv[1]).read('/'), r = c.registry; \
                       console.log(JSON.stringify({search: [].concat(r.search || r), shorthand: c.shorthandResolver || ''}))";
    let shelf = Shelf::new(tools.to_path_buf());
    let ours = || Some(shelf.home("bower", shelf.kept("bower").iter().max()?).join("bin/bower"));
    let program = toolchain.get("bower").map(|tool| tool.path.clone()).or_else(ours)?.canonicalize().ok()?;
    let reader = program.parent()?.parent()?.join("lib/node_modules/bower-config");
    let node = toolchain.get("node")?;
    let mut command = Command::new(&node.path);
    command.args(["-e", ASK, "--"]).arg(reader).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let said: Said = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
    let registries: Vec<Url> = said.search.iter().filter_map(|text| Url::parse(text).ok()).collect();
    (!registries.is_empty()).then(|| BowerPlaces { registries, shorthand: Url::parse(&said.shorthand).ok() })
}
