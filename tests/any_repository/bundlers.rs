//! Bundlers of today and of ten years ago, each run for real.

use crate::any_repository::components::Components;
use crate::any_repository::repository::Repository;

#[test]
fn react_with_webpack_5_by_its_build_script() {
    let repository = Repository::of("react-webpack5");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["npm", "bundle"]);
    assert_eq!((plan.command("npm"), plan.command("bundle")), ("npm ci".to_owned(), "npm run build".to_owned()));
    plan.notices_nothing();
    for seen in ["package-lock.json", "scripts.build", "webpack.config.js", "scripts.test", "scripts.lint"] {
        plan.tells_of(seen);
    }
    repository.build().passed_by(&["npm", "bundle"]).says(&["asset main.js", "compiled successfully"]);
}

#[test]
fn webpack_4_on_the_node_of_nvmrc_with_a_lockfile_of_its_time() {
    let repository = Repository::of("webpack4-nvmrc");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["npm", "bundle"]);
    assert_eq!(plan.command("bundle"), "webpack --mode production");
    for step in ["npm", "bundle"] {
        let (version, asked_by) = plan.tool(step, "node").expect("a node");
        assert!(version.trim_start_matches('v').starts_with("16") && asked_by.contains(".nvmrc"), "{plan:#?}");
    }
    // webpack 4 hashes by MD4, which node's OpenSSL has until node 16.
    repository.build().passed_by(&["npm", "bundle"]).says(&["Version: webpack 4.47.0", "main.js"]);
}

#[test]
fn angularjs_with_bower_and_webpack_1_on_node_8() {
    let components = Components::start();
    let repository =
        Repository::filled("angularjs-bower-webpack1", &[("@BOWER_REGISTRY@", components.registry.as_str())]);
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["npm | bower", "bundle"]);
    assert_eq!((plan.command("npm"), plan.command("bundle")), ("npm install".to_owned(), "webpack -p".to_owned()));
    let (version, asked_by) = plan.tool("bundle", "node").expect("a node");
    assert!(version.starts_with('8') && asked_by.contains("engines"), "{plan:#?}");
    plan.notices(&["package.json", "lockfile"]);
    let built = repository.build().passed_by(&["npm", "bower", "bundle"]);
    // Its `.bowerrc` asks for JSON, which nobody reads; its folder is heeded.
    built.says(&["angular#1.8.3", "app/vendor/angular", "Version: webpack 1.", "bundle.js"]);
}

#[test]
fn rspack_by_its_configuration() {
    let repository = Repository::of("rspack");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["npm", "bundle"]);
    let command = plan.command("bundle");
    assert!(command.starts_with("rspack build") && command.contains("production"), "{command}");
    repository.build().passed_by(&["npm", "bundle"]).says(&["Rspack compiled"]);
}

#[test]
fn vue_with_vite() {
    let repository = Repository::of("vue-vite");
    assert_eq!(repository.explain().stages(), ["npm", "bundle"]);
    repository.build().passed_by(&["npm", "bundle"]).says(&["vite build", "built in"]);
}

#[test]
fn a_configuration_for_production_where_there_is_no_build_script() {
    let plan = Repository::of("webpack-prod-config").explain();
    assert_eq!(plan.stages(), ["npm", "bundle"]);
    let command = plan.command("bundle");
    assert!(command.starts_with("webpack ") && command.contains("--config webpack.prod.js"), "{command}");
    assert!(command.contains("--mode production"), "{command}");
    for considered in ["webpack.common.js", "webpack.dev.js"] {
        plan.tells_of(considered);
    }
}

#[test]
fn task_runners_and_frameworks_by_their_build_script() {
    for (name, script) in
        [("grunt", "grunt build"), ("gulp4", "gulp build"), ("next", "next build"), ("angular", "ng build")]
    {
        let plan = Repository::of(name).explain();
        assert_eq!(plan.stages(), ["npm", "bundle"], "{name}: {script}");
        assert_eq!(plan.command("bundle"), "npm run build", "{name}");
    }
}

#[test]
fn grunt_runs() {
    Repository::of("grunt").build().passed_by(&["npm", "bundle"]).says(&["Running \"build\" task", "Done."]);
}
