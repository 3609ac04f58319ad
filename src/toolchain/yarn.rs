//! What yarn 1 says about itself.

use tokio::process::Command;
use url::Url;

use super::search::{find, is_program};
use super::supply::Supply;
use super::versions::answer;
use crate::domain::spec::Wanted;

/// Where nobody has settings of yarn's.
const NO_HOME: &str = "/nonexistent";

/// Where yarn 1 goes when nobody told it anything. Its lockfiles name that registry, and whatever it was told since, it
/// takes them at their word.
///
/// Asked is the yarn 1 that the agent has, or would take for a step that wants any, with neither the agent's settings
/// nor a repository's. `None` where there is none to be had.
pub async fn own_registry(supply: &Supply) -> Option<Url> {
    let (tool, version) = ("yarn".to_owned(), "1".to_owned());
    let wanted = Wanted { tool, version, asked_by: "yarn.lock".to_owned(), hash: None };
    let outfit = supply.outfit(&[wanted]).await.ok()?;
    let mut command = Command::new(find("yarn", &outfit.path, is_program)?);
    command.args(["config", "get", "registry"]);
    command.env_clear().env("PATH", std::env::join_paths(&outfit.path).ok()?).env("HOME", NO_HOME);
    Url::parse(&answer(command).await?).ok()
}
