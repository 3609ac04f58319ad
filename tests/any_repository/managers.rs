//! Package managers: each gets itself and installs for real.

use std::process::{Command, Stdio};

use crate::any_repository::components::Components;
use crate::any_repository::repository::Repository;

/// Where npm here goes; yarn 1 writes it into every entry of its lockfile.
fn registry() -> String {
    let output = Command::new("npm")
        .args(["config", "get", "registry"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("npm is installed");
    String::from_utf8_lossy(&output.stdout).trim().trim_end_matches('/').to_owned()
}

#[test]
fn yarn_1() {
    let repository = Repository::filled("yarn1", &[("@REGISTRY@", registry().as_str())]);
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["yarn", "bundle"]);
    assert_eq!(plan.command("yarn"), "yarn install --frozen-lockfile");
    plan.notices_nothing();
    repository.build().passed_by(&["yarn", "bundle"]).says(&["yarn install v1.", "built with node", "yarn/1."]);
}

#[test]
fn berry_with_plug_n_play() {
    let repository = Repository::of("berry-pnp");
    let plan = repository.explain();
    assert_eq!(plan.command("yarn"), "yarn install --immutable");
    assert_eq!(plan.tool("yarn", "yarn").map(|(version, _)| version).as_deref(), Some("4.9.2"));
    repository.build().passed_by(&["yarn", "bundle"]).says(&["built with node", "yarn/4.9.2"]);
}

#[test]
fn berry_with_node_modules() {
    let repository = Repository::of("berry-node-modules");
    repository.build().passed_by(&["yarn", "bundle"]).says(&["built with node", "yarn/3.8.7"]);
}

#[test]
fn pnpm() {
    let repository = Repository::of("pnpm");
    assert_eq!(repository.explain().command("pnpm"), "pnpm install --frozen-lockfile");
    repository.build().passed_by(&["pnpm", "bundle"]).says(&["built with node", "pnpm/9.15.9"]);
}

#[test]
fn bun() {
    let repository = Repository::of("bun");
    let plan = repository.explain();
    assert_eq!(plan.command("bun"), "bun install --frozen-lockfile");
    assert_eq!(plan.command("bundle"), "bun run build");
    repository.build().passed_by(&["bun", "bundle"]).says(&["bun install v1.", "built with node"]);
}

#[test]
fn bower_runs_once_where_a_postinstall_script_runs_it() {
    let components = Components::start();
    let repository = Repository::filled("bower-by-postinstall", &[("@BOWER_REGISTRY@", components.registry.as_str())]);
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["npm", "bundle"]);
    plan.notices(&["bower", "npm"]);
    repository.build().passed_by(&["npm", "bundle"]);
}

#[test]
fn a_component_from_the_registry_of_packages_by_a_resolver() {
    let repository = Repository::of("bower-npm-resolver");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["bower"]);
    let (_, asked_by) = plan.tool("bower", "bower-npm-resolver").expect("a resolver");
    assert_eq!(asked_by, ".bowerrc resolvers");
    plan.notices_nothing();
    let built = repository.build().passed_by(&["bower"]);
    built.says(&["bower-npm-resolver 0.", "npm:isarray#1.0.0", "isarray#1.0.0 bower_components/isarray"]);
}
