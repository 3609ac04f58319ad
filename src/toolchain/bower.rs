//! What bower says about itself.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;
use url::Url;

use super::Toolchain;
use super::search::{find, is_program};
use super::shelf::Shelf;
use super::supply::{Supply, bower};
use super::versions::answer;

/// Where bower is configured to go, by its own defaults and the files of the agent's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BowerPlaces {
    /// Where it looks names up, the first first.
    pub registries: Vec<Url>,
    /// Where it looks for `owner/name`.
    pub shorthand: Option<Url>,
}

#[derive(Deserialize)]
struct Said {
    search: Vec<String>,
    shorthand: String,
}

/// Asks the agent's bower where it goes: the one on `PATH`, else the newest that is kept. `tools` is where the agent keeps
/// its own. `None` when there is no bower yet, or it does not say.
pub async fn places(toolchain: &Toolchain, tools: &Path) -> Option<BowerPlaces> {
    let toolchain = toolchain.of_host();
    let shelf = Shelf::new(tools.to_path_buf());
    let ours = || Some(shelf.home("bower", shelf.kept("bower").iter().max()?).join("bin/bower"));
    asked(toolchain, toolchain.get("bower").map(|tool| tool.path.clone()).or_else(ours)?).await
}

/// Asks the bower that steps are given, which is fetched where there is none yet. `None` where none is to be had.
pub async fn places_of(supply: &Supply) -> Option<BowerPlaces> {
    let outfit = supply.outfit(&[bower()]).await.ok()?;
    asked(supply.toolchain(), find("bower", &outfit.path, is_program)?).await
}

async fn asked(toolchain: &Toolchain, program: PathBuf) -> Option<BowerPlaces> {
    const ASK: &str = "let c = require(process.argv[1]).read('/'), r = c.registry; \
                       console.log(JSON.stringify({search: [].concat(r.search || r), shorthand: c.shorthandResolver || ''}))";
    let program = program.canonicalize().ok()?;
    let reader = program.parent()?.parent()?.join("lib/node_modules/bower-config");
    let mut command = Command::new(&toolchain.get("node")?.path);
    command.args(["-e", ASK, "--"]).arg(reader);
    let said: Said = serde_json::from_str(&answer(command).await?).ok()?;
    let registries: Vec<Url> = said.search.iter().filter_map(|text| Url::parse(text).ok()).collect();
    (!registries.is_empty()).then(|| BowerPlaces { registries, shorthand: Url::parse(&said.shorthand).ok() })
}
