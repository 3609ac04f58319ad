//! The keys of what is made from sources and dependencies: caches of bundlers, and verdicts.

use serde_json::{Map, Value};

use super::sources::Sources;
use super::{Facts, NotKept, manifests};
use crate::domain::snapshot::Inputs;
use crate::domain::step::StepKind;

/// Fields of a manifest that no bundler, compiler or linter reads.
const UNREAD: [&str; 9] =
    ["description", "keywords", "author", "contributors", "license", "repository", "bugs", "funding", "publishConfig"];

/// What the caches of bundlers and compilers depend on beside the sources, which they compare themselves: tools,
/// dependencies (`packages`: what the installs depend on; `None` where they are not kept), commands, and
/// configurations, which loaders and presets read unseen.
///
/// # Errors
/// A manifest or a configuration that can't be read.
pub fn work(facts: &Facts<'_>, packages: Option<&Inputs>) -> Result<Inputs, NotKept> {
    let sources = Sources::open(facts.sources)?;
    let mut inputs = Inputs::default();
    for step in facts.plan.steps().filter(|step| step.kind != StepKind::Install) {
        facts.step(&mut inputs, step);
    }
    inputs.add("dependencies", packages.map_or_else(|| "not kept".to_owned(), Inputs::key));
    for path in &facts.listing.paths {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name == "package.json" {
            let dir = super::sources::parent(path);
            let fields = manifests::read(&sources, dir)?.unwrap_or_default();
            inputs.add_bytes(format!("{path} (what tools read)"), &what_tools_read(fields));
        } else if !is_of_installs(name) {
            sources.add(&mut inputs, path)?;
        }
    }
    for path in &facts.listing.settings {
        sources.add(&mut inputs, path)?;
    }
    facts.surroundings(&mut inputs);
    Ok(inputs)
}

fn what_tools_read(mut fields: Map<String, Value>) -> Vec<u8> {
    fields.retain(|name, _| !UNREAD.contains(&name.as_str()));
    serde_json::to_vec(&fields).unwrap_or_default()
}

/// Files that are part of the packages' key, and those that are about the checkout or about us.
fn is_of_installs(name: &str) -> bool {
    crate::domain::lockfile::NAMES.contains(&name)
        || matches!(
            name,
            ".npmrc"
                | ".yarnrc"
                | ".yarnrc.yml"
                | ".pnpmfile.cjs"
                | "bunfig.toml"
                | "bower.json"
                | ".bowerrc"
                | ".hookmill.toml"
                | ".gitmodules"
                | ".gitattributes"
                | ".nvmrc"
                | ".node-version"
                | ".tool-versions"
        )
}

/// What a verdict depends on: the tree, every step with its tools, and where it all runs. `also` is what else the flow
/// knows: bounds, the sandbox, whether the network is open.
pub fn verdict(facts: &Facts<'_>, tree: &str, also: &[(String, String)]) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add("tree", tree);
    for step in facts.plan.steps() {
        facts.step(&mut inputs, step);
    }
    // Order, bounds, retries, and what may be reached.
    let stages = serde_json::to_vec(&facts.plan.stages).unwrap_or_default();
    inputs.add_bytes("plan", &stages);
    facts.surroundings(&mut inputs);
    for (name, value) in also {
        inputs.add(name.as_str(), value.as_str());
    }
    inputs.add("hookmill", env!("CARGO_PKG_VERSION"));
    inputs
}
