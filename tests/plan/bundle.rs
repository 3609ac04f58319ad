//! What bundles.

use hookmill::domain::spec::Plan;
use hookmill::plan::{BundleWish, Wishes};

use super::{REACT, WEBPACK, check, check_with, planned, told};

/// The stages after the installs.
#[track_caller]
fn bundles(files: &[(&str, &str)], expected: &[&str]) -> Plan {
    let plan = planned(files, &Wishes::default());
    let stages = told(&plan);
    assert_eq!(stages.get(1..).unwrap_or_default(), expected, "{:#?}", plan.decisions);
    plan
}

/// A single package with a lockfile, and files of no content that plans only see.
#[track_caller]
fn package(package: &str, files: &[&str], expected: &str) -> Plan {
    let mut tree = vec![("package.json", package), ("package-lock.json", "")];
    tree.extend(files.iter().map(|file| (*file, "")));
    let expected: Vec<&str> = Some(expected).into_iter().filter(|text| !text.is_empty()).collect();
    bundles(&tree, &expected)
}

fn because<'p>(plan: &'p Plan, seen: &str) -> &'p str {
    let found = plan.decisions.iter().find(|decision| decision.seen == seen);
    &found.unwrap_or_else(|| panic!("{seen} in {:#?}", plan.decisions)).because
}

#[test]
fn a_build_script_goes_before_everything_detected() {
    let both = r#"{"devDependencies": {"webpack": "5", "webpack-cli": "6"}, "scripts": {"build": "node build.js"}}"#;
    let plan = package(both, &["webpack.config.js"], "bundle: npm run build");
    assert!(because(&plan, "webpack.config.js").contains("build script"));
    let watching =
        r#"{"devDependencies": {"webpack": "5", "webpack-cli": "6"}, "scripts": {"build": "webpack --watch"}}"#;
    let plan = package(watching, &["webpack.config.js"], "bundle: webpack --mode production");
    assert!(plan.notices[0].contains("would never end"), "{:?}", plan.notices);
}

#[test]
fn webpack_by_its_configuration() {
    package(WEBPACK, &["webpack.config.cjs"], "bundle: webpack --mode production");
    package(WEBPACK, &["webpack.config.ts"], "bundle: webpack --mode production");
    package(WEBPACK, &["webpack.config.babel.js"], "bundle: webpack --mode production");
    package(WEBPACK, &["webpackfile.js"], "bundle: webpack --mode production --config webpackfile.js");
    package(WEBPACK, &["webpack.config.prod.js"], "bundle: webpack --mode production --config webpack.config.prod.js");
    for version in ["~3.12.0", "^2.2.0", "1.13.1"] {
        let old = format!(r#"{{"devDependencies": {{"webpack": "{version}"}}}}"#);
        package(&old, &["webpack.config.js"], "bundle: webpack -p");
    }
    let without = package(REACT, &["webpack.config.js"], "");
    assert!(without.notices[0].contains("neither webpack nor webpack-cli is a dependency"), "{:?}", without.notices);
    let no_cli = package(r#"{"devDependencies": {"webpack": "5"}}"#, &["webpack.config.js"], "");
    assert!(no_cli.notices[0].contains("needs webpack-cli"), "{:?}", no_cli.notices);
}

#[test]
fn of_several_configurations_the_one_for_production() {
    let three = ["webpack.common.js", "webpack.dev.js", "webpack.prod.js"];
    let plan = package(WEBPACK, &three, "bundle: webpack --mode production --config webpack.prod.js");
    assert!(
        because(&plan, "webpack.dev.js")
            .contains(r#"[bundle] command = ["npx", "webpack", "--config", "webpack.dev.js"]"#)
    );
    let folder = ["config/webpack.dev.js", "config/webpack.prod.js"];
    package(WEBPACK, &folder, "bundle: webpack --mode production --config config/webpack.prod.js");
    let vue = ["build/webpack.base.conf.js", "build/webpack.dev.conf.js", "build/webpack.prod.conf.js"];
    package(WEBPACK, &vue, "bundle: webpack --mode production --config build/webpack.prod.conf.js");
    package(WEBPACK, &["config/webpack.prod.js", "webpack.config.js"], "bundle: webpack --mode production");
    package(WEBPACK, &["webpack.dev.js", "webpack.karma.js"], "");
    package(WEBPACK, &["webpack.client.js"], "bundle: webpack --mode production --config webpack.client.js");
    package(WEBPACK, &["webpack.client.js", "webpack.admin.js"], "");
    package(WEBPACK, &["docs/webpack.config.js"], "");
}

#[test]
fn scripts_of_other_names() {
    let scripts = |scripts: &str| format!(r#"{{"devDependencies": {{"webpack": "1"}}, "scripts": {scripts}}}"#);
    let config = ["webpack.config.js"];
    package(&scripts(r#"{"build:prod": "webpack -p"}"#), &config, "bundle: npm run build:prod");
    package(&scripts(r#"{"production": "node server.js"}"#), &config, "bundle: webpack -p");
    package(&scripts(r#"{"prod": "webpack -p && npm run publish:all"}"#), &config, "bundle: webpack -p");
    package(&scripts(r#"{"dist": "webpack -p"}"#), &config, "bundle: webpack -p");
    package(&scripts(r#"{"dist": "gulp dist"}"#), &[], "bundle: npm run dist");
    package(&scripts(r#"{"bundle": "webpack -w --watch"}"#), &[], "");
    package(&scripts(r#"{"webpack:build": "webpack -p"}"#), &[], "bundle: npm run webpack:build");
}

#[test]
fn what_the_install_builds_is_not_built_twice() {
    let text =
        r#"{"dependencies": {"a": "1"}, "scripts": {"build": "tsc", "prepare": "husky install && npm run build"}}"#;
    let plan = package(text, &[], "");
    assert!(because(&plan, "package.json scripts.build").contains("prepare"));
    let elsewhere =
        r#"{"dependencies": {"a": "1"}, "scripts": {"build": "tsc", "prepare": "cd server && npm run build"}}"#;
    package(elsewhere, &[], "bundle: npm run build");
}

#[test]
fn frameworks_and_task_runners_without_a_script() {
    let with = |dependency: &str, version: &str, files: &[&str], expected: &str| {
        package(&format!(r#"{{"devDependencies": {{"{dependency}": "{version}"}}}}"#), files, expected)
    };
    with("next", "14", &[], "bundle: next build");
    with("@angular/cli", "^17", &["angular.json"], "bundle: ng build");
    with("@angular/cli", "~7.3", &["angular.json"], "bundle: ng build --prod");
    with("gulp", "4", &["gulpfile.js"], "bundle: gulp");
    with("grunt-cli", "1", &["Gruntfile.js"], "bundle: grunt");
    with("grunt", "~0.4.5", &["Gruntfile.js"], "");
    with("parcel", "2", &[], "");
    with("esbuild", "0.21", &[], "");
}

#[test]
fn by_the_manager_of_the_lockfile() {
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
fn a_bundle_in_a_folder_finds_the_bundler_of_the_root() {
    let wishes =
        Wishes { bundle: Some(BundleWish { dir: Some("web".into()), ..BundleWish::default() }), ..Wishes::default() };
    let files = [("package.json", WEBPACK), ("package-lock.json", ""), ("web/webpack.config.js", "")];
    check_with(&files, &wishes, &["npm: npm ci", "bundle in web: webpack --mode production"]);
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

#[test]
fn the_packages_of_a_workspace_in_the_order_of_their_needs() {
    let core = r#"{"name": "core", "scripts": {"build": "tsc"}}"#;
    let app = r#"{"name": "app", "dependencies": {"core": "*"}, "scripts": {"build": "webpack -p"}}"#;
    let with = |root: &str, lockfile: &str, extra: &[(&str, &str)], expected: &[&str]| {
        let mut files = vec![("package.json", root), (lockfile, "")];
        files.extend([("packages/core/package.json", core), ("packages/app/package.json", app)]);
        files.extend_from_slice(extra);
        bundles(&files, expected)
    };
    let each =
        ["bundle:packages/core in packages/core: npm run build", "bundle:packages/app in packages/app: npm run build"];
    with(r#"{"workspaces": ["packages/*"]}"#, "package-lock.json", &[], &each);
    let built = r#"{"workspaces": ["packages/*"], "scripts": {"build": "node build-all.js"}}"#;
    with(built, "package-lock.json", &[], &["bundle: npm run build"]);
    let pnpm = [("pnpm-workspace.yaml", "packages:\n  - 'packages/*'\n")];
    with("{}", "pnpm-lock.yaml", &pnpm, &["bundle: pnpm -r run build"]);
    let turbo = r#"{"workspaces": ["packages/*"], "devDependencies": {"turbo": "2"}}"#;
    with(turbo, "package-lock.json", &[("turbo.json", "{}")], &["bundle: turbo run build"]);
}

#[test]
fn several_projects_are_bundled_side_by_side() {
    let package = r#"{"dependencies": {"a": "1"}, "scripts": {"build": "vite build"}}"#;
    let client = [("client/package.json", package), ("client/package-lock.json", "")];
    bundles(&client, &["bundle in client: npm run build"]);
    let admin = [("admin/package.json", package), ("admin/package-lock.json", "")];
    bundles(
        &[client, admin].concat(),
        &["bundle:admin in admin: npm run build | bundle:client in client: npm run build"],
    );
}
