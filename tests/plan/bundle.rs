//! What bundles.

use hookmill::plan::Wishes;

use super::{REACT, WEBPACK, check, planned, told};

#[test]
fn webpack_by_its_configuration() {
    let bundle = |package: &str, config: &str, expected: &str| {
        let plan = planned(&[("package.json", package), ("package-lock.json", ""), (config, "")], &Wishes::default());
        assert_eq!(told(&plan).get(1).map(String::as_str), Some(expected).filter(|text| !text.is_empty()), "{config}");
        plan
    };
    bundle(WEBPACK, "webpack.config.cjs", "bundle: webpack --mode production");
    bundle(WEBPACK, "webpack.config.ts", "bundle: webpack --mode production");
    bundle(WEBPACK, "webpackfile.js", "bundle: webpack --mode production --config webpackfile.js");
    bundle(WEBPACK, "webpack.config.prod.js", "bundle: webpack --mode production --config webpack.config.prod.js");
    bundle(r#"{"devDependencies": {"webpack": "~3.12.0"}}"#, "webpack.config.js", "bundle: webpack -p");
    let without = bundle(REACT, "webpack.config.js", "");
    assert!(without.notices[0].contains("neither webpack nor webpack-cli is a dependency"), "{:?}", without.notices);
    let script = r#"{"devDependencies": {"webpack": "5"}, "scripts": {"build": "node build.js"}}"#;
    bundle(script, "webpack.config.js", "bundle: npm run build");
}

#[test]
fn else_the_build_script_by_the_manager_of_the_lockfile() {
    let package = r#"{"dependencies": {"react-scripts": "5"}, "scripts": {"build": "react-scripts build"}}"#;
    for (lockfile, expected) in [
        ("package-lock.json", "bundle: npm run build"),
        ("yarn.lock", "bundle: yarn run build"),
        ("pnpm-lock.yaml", "bundle: pnpm run build"),
        ("bun.lock", "bundle: bun run build"),
    ] {
        assert_eq!(told(&planned(&[("package.json", package), (lockfile, "")], &Wishes::default()))[1], expected);
    }
    let pnp = r#"{"packageManager": "yarn@4.0.0", "dependencies": {"webpack": "5", "webpack-cli": "5"}}"#;
    check(
        &[("package.json", pnp), ("yarn.lock", ""), (".yarnrc.yml", ""), ("webpack.config.js", "")],
        &["yarn: yarn install --immutable", "bundle: yarn run webpack --mode production"],
    );
}

#[test]
fn scripts_that_could_be_checks_are_named_with_the_lines_to_add() {
    let package = r#"{"dependencies": {"a": "1"}, "scripts": {"test": "jest", "lint": "eslint ."}}"#;
    let plan = check(&[("package.json", package), ("package-lock.json", "")], &["npm: npm ci"]);
    let because = |seen: &str| &plan.decisions.iter().find(|decision| decision.seen == seen).expect("seen").because;
    assert!(because("package.json scripts.test").contains(r#"[[check]] name = "test", command = ["npm", "test"]"#));
    assert!(because("package.json scripts.lint").contains(r#"command = ["npm", "run", "lint"]"#));
    let stub = r#"{"dependencies": {"a": "1"}, "scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
    let plan = check(&[("package.json", stub), ("package-lock.json", "")], &["npm: npm ci"]);
    assert_eq!(plan.decisions.len(), 1, "{:?}", plan.decisions);
}
