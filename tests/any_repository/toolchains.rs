//! Who may ask for a node, and for a package manager.

use serde_json::json;

use crate::any_repository::repository::Repository;

#[track_caller]
fn check(repository: Repository, tool: &str, version: &str, asked_by: &str) {
    let plan = repository.explain();
    for step in ["npm", "bundle"] {
        let (wanted, by) = plan.tool(step, tool).unwrap_or_else(|| panic!("no {tool} for {step}: {plan:#?}"));
        assert_eq!(wanted, version, "{plan:#?}");
        assert!(by.contains(asked_by), "{asked_by} in {by}");
    }
}

#[test]
fn the_files_and_fields_that_ask_for_a_node() {
    let repository = || Repository::of("react-webpack5");
    check(repository().with(".nvmrc", "20\n"), "node", "20", ".nvmrc");
    check(repository().with(".node-version", "v20.11.1\n"), "node", "20.11.1", ".node-version");
    check(repository().with(".tool-versions", "ruby 3.3.0\nnodejs 18.20.8\n"), "node", "18.20.8", ".tool-versions");
    check(repository().with_fields(&json!({"volta": {"node": "20.19.2"}})), "node", "20.19.2", "volta");
    check(repository().with_fields(&json!({"engines": {"node": ">=18 <21"}})), "node", ">=18 <21", "engines");
    let both = repository().with(".nvmrc", "20\n").with_fields(&json!({"engines": {"node": ">=18"}}));
    check(both, "node", "20", ".nvmrc");
    let own = std::process::Command::new("node").arg("--version").output().expect("node is there");
    let own = String::from_utf8(own.stdout).expect("a version");
    check(repository(), "node", own.trim().trim_start_matches('v'), "no file");
}

#[test]
fn the_fields_that_ask_for_a_manager() {
    let repository = || Repository::of("react-webpack5");
    check(repository().with_fields(&json!({"packageManager": "npm@10.9.2"})), "npm", "10.9.2", "packageManager");
    let engines = json!({"devEngines": {"packageManager": {"name": "npm", "version": "10.9.2"}}});
    check(repository().with_fields(&engines), "npm", "10.9.2", "devEngines");
}

#[test]
fn a_native_module_is_compiled_against_the_headers_of_its_node() {
    // Its `.npmrc` names a place for headers that nobody can reach.
    let repository = Repository::of("native-module");
    let (node, _) = repository.explain().tool("npm", "node").expect("a node");
    assert_eq!(node, "22");
    repository.build().passed_by(&["npm", "bundle"]).says(&["compiled for v22."]);
}
