//! Which node and which manager a step is given.

use hookmill::plan::{Wishes, plan};

use super::{REACT, planned, settings, tree};

/// The tools of the first step, as `tool version by asker`.
fn tools(files: &[(&str, &str)], wishes: &Wishes) -> Vec<String> {
    let plan = planned(files, wishes);
    let told = plan.stages[0].steps[0].tools.iter();
    told.map(|tool| format!("{} {} by {}", tool.tool, tool.version, tool.asked_by)).collect()
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(tools(files, &Wishes::default()), expected, "{files:?}");
}

const SERVER: &str = "node 22 by the server's [toolchain] node";

#[test]
fn the_node_of_a_folder() {
    let node = |files: &[(&str, &str)], expected: &str| {
        let all: Vec<(&str, &str)> = files.iter().chain(&[("package-lock.json", "")]).copied().collect();
        assert_eq!(tools(&all, &Wishes::default())[0], expected, "{files:?}");
    };
    node(&[("package.json", REACT)], SERVER);
    node(&[("package.json", REACT), (".nvmrc", "v18\n"), (".node-version", "20")], "node 18 by .nvmrc");
    node(&[("package.json", REACT), (".nvmrc", "lts/iron")], "node lts/iron by .nvmrc");
    node(&[("package.json", REACT), (".nvmrc", "system"), (".node-version", "20")], "node 20 by .node-version");
    node(&[("package.json", REACT), (".tool-versions", "ruby 3\nnodejs 20.1.0\n")], "node 20.1.0 by .tool-versions");
    let with = |fields: &str| format!(r#"{{{fields}, "dependencies": {{"react": "19"}}}}"#);
    let engines = with(r#""engines": {"node": ">=16"}"#);
    node(&[("package.json", &engines)], "node >=16 by package.json engines.node");
    let volta = with(r#""engines": {"node": ">=16"}, "volta": {"node": "18.1.0"}"#);
    node(&[("package.json", &volta)], "node 18.1.0 by package.json volta.node");
    let runtime = with(r#""devEngines": {"runtime": [{"name": "bun"}, {"name": "node", "version": "^20"}]}"#);
    node(&[("package.json", &runtime)], "node ^20 by package.json devEngines.runtime");
    // npm only warns about engines, so a build does not end by words there.
    node(&[("package.json", &with(r#""engines": {"node": "please use 18"}"#))], SERVER);
}

#[test]
fn the_nearest_folder_goes_first() {
    let files = [(".nvmrc", "16"), ("client/package.json", REACT), ("client/package-lock.json", "")];
    check(&files, &["node 16 by .nvmrc", "npm * by client/package-lock.json"]);
    let nearer = [files[0], files[1], files[2], ("client/.node-version", "20")];
    check(&nearer, &["node 20 by client/.node-version", "npm * by client/package-lock.json"]);
    let wishes = Wishes { toolchain: [("node".to_owned(), "lts/*".to_owned())].into(), ..Wishes::default() };
    assert_eq!(tools(&nearer, &wishes)[0], "node lts/* by [toolchain] node");
}

#[test]
fn the_manager_by_its_field_else_by_the_lockfiles_format() {
    let manager = |package: &str, lockfile: &str, text: &str, expected: &str| {
        let told = tools(&[("package.json", package), (lockfile, text)], &Wishes::default());
        assert_eq!(told.last().map(String::as_str), Some(expected), "{package}");
    };
    let exact = r#"{"packageManager": "pnpm@9.1.0+sha512.abc", "dependencies": {"a": "1"}}"#;
    manager(exact, "pnpm-lock.yaml", "", "pnpm 9.1.0 by package.json packageManager");
    let plan = planned(&[("package.json", exact), ("pnpm-lock.yaml", "")], &Wishes::default());
    let hash = plan.stages[0].steps[0].tools.last().and_then(|tool| tool.hash.clone());
    assert_eq!(hash.as_deref(), Some("sha512.abc"));
    let engines = r#"{"engines": {"pnpm": ">=8"}, "dependencies": {"a": "1"}}"#;
    manager(engines, "pnpm-lock.yaml", "", "pnpm >=8 by package.json engines.pnpm");
    for (lockfile, text, expected) in [
        ("pnpm-lock.yaml", "lockfileVersion: 5.4\n", "pnpm 7 by pnpm-lock.yaml"),
        ("pnpm-lock.yaml", "lockfileVersion: '6.0'\n", "pnpm 8 by pnpm-lock.yaml"),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm >=9 <11 by pnpm-lock.yaml"),
        ("yarn.lock", "# yarn lockfile v1\n", "yarn 1 by yarn.lock"),
        ("yarn.lock", "__metadata:\n  version: 6\n", "yarn >=3.2 <4 by yarn.lock"),
        ("yarn.lock", "__metadata:\n  version: 8\n", "yarn 4 by yarn.lock"),
        ("package-lock.json", r#"{"lockfileVersion": 2, "packages": {}}"#, "npm >=7 by package-lock.json"),
        ("package-lock.json", r#"{"lockfileVersion": 1}"#, "npm * by package-lock.json"),
        ("README.md", "", "npm * by no file"),
    ] {
        manager(REACT, lockfile, text, expected);
    }
    let newer = r#"{"engines": {"pnpm": ">=11"}, "dependencies": {"a": "1"}}"#;
    manager(newer, "pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm >=11 by package.json engines.pnpm");
    let plan = planned(&[("package.json", newer), ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n")], &Wishes::default());
    assert!(!plan.notices.iter().any(|notice| notice.contains("wrote it")), "{:?}", plan.notices);
}

#[test]
fn nonsense_is_named_with_its_place() {
    let refuse = |files: &[(&str, &str)], text: &str| {
        let error = plan(&tree(files), &Wishes::default(), &settings()).expect_err(text).to_string();
        assert!(error.starts_with(text), "{error}");
    };
    refuse(
        &[("package.json", REACT), (".nvmrc", "# ours\neighteen\n")],
        ".nvmrc:2: \"eighteen\" is no version of node",
    );
    let field = r#"{"packageManager": "yarn@newest", "dependencies": {"a": "1"}}"#;
    refuse(&[("package.json", field)], "package.json packageManager: \"newest\" is no version of yarn");
}
