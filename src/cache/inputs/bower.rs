//! What bower's installs depend on. It has no lockfile: what it installs is decided by ranges, and kept for a day.

use serde_json::Value;

use super::scripts;
use super::settings::without_user;
use super::sources::{Sources, inside, upwards};
use super::{Facts, NotKept};
use crate::domain::listing::joined;
use crate::domain::snapshot::Inputs;

/// Adds what bower reads in a folder, and names the folder that it writes.
pub(super) fn add(inputs: &mut Inputs, facts: &Facts<'_>, sources: &Sources<'_>, dir: &str) -> Result<String, NotKept> {
    let mut at = dir.to_owned();
    let mut directory = None;
    // bower merges the settings of every folder above (<https://bower.io/docs/config/>); the nearest wins.
    for above in upwards(dir) {
        let path = inside(above, ".bowerrc");
        let Some(bytes) = sources.read(&path)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        inputs.add_bytes(format!("{path} (without users)"), without_user(&text).as_bytes());
        let Ok(settings) = serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) else { continue };
        check_code(facts, &path, &settings)?;
        let text = |field: &str| settings.get(field).and_then(Value::as_str);
        if above == dir
            && let Some(cwd) = text("cwd").and_then(|cwd| joined(dir, cwd))
        {
            at = cwd;
        }
        directory = directory.or_else(|| text("directory").map(str::to_owned));
    }
    sources.add(inputs, &inside(&at, "bower.json"))?;
    let directory = directory.unwrap_or_else(|| "bower_components".to_owned());
    joined(&at, &directory)
        .filter(|place| place != ".")
        .ok_or_else(|| NotKept::Outside { path: inside(dir, ".bowerrc"), text: directory })
}

/// Hooks and resolvers of the tree are programs, which may read any file.
fn check_code(facts: &Facts<'_>, path: &str, settings: &Value) -> Result<(), NotKept> {
    if !facts.declared.is_empty() {
        return Ok(());
    }
    let unknown = |script: &str, command: &str| NotKept::Script {
        place: format!("{path}'s {script}"),
        command: command.to_owned(),
    };
    let hooks = settings.get("scripts").and_then(Value::as_object).filter(|_| facts.scripts.run_own());
    for (name, line) in hooks.into_iter().flatten() {
        let line = line.as_str().unwrap_or_default();
        scripts::judge_line(line).map_err(|found| unknown(name, &found.0))?;
    }
    let resolvers = settings.get("resolvers").and_then(Value::as_array);
    let own = resolvers.into_iter().flatten().filter_map(Value::as_str).find(|name| name.starts_with(['.', '/']));
    own.map_or(Ok(()), |name| Err(unknown("resolver", name)))
}
