//! Which folders are projects.

use hookmill::domain::spec::Plan;
use hookmill::plan::{InstallWish, PlanSettings, Wishes, plan};

use super::{BOWER, JQUERY, REACT, check, check_with, install, settings, told, tree};

/// Why a manifest is not installed.
#[track_caller]
fn reason<'a>(plan: &'a Plan, manifest: &str) -> &'a str {
    let decision = plan.decisions.iter().find(|decision| decision.seen == manifest);
    &decision.unwrap_or_else(|| panic!("{manifest}: {:?}", plan.decisions)).because
}

const VITE: &str = r#"{"devDependencies": {"vite": "6"}}"#;

#[test]
fn several_side_by_side() {
    check(
        &[
            ("client/package.json", REACT),
            ("client/package-lock.json", ""),
            ("admin/package.json", REACT),
            ("admin/pnpm-lock.yaml", ""),
            ("pom.xml", ""),
        ],
        &["pnpm:admin in admin: pnpm install --frozen-lockfile | npm:client in client: npm ci"],
    );
    check(
        &[
            ("package.json", REACT),
            ("package-lock.json", ""),
            ("src/main/webapp/package.json", REACT),
            ("src/main/webapp/yarn.lock", ""),
        ],
        &["npm: npm ci | yarn:src/main/webapp in src/main/webapp: yarn install --frozen-lockfile"],
    );
}

#[test]
fn something_must_speak_for_a_folder() {
    // A bundler's configuration does where nothing above is installed.
    let alone = [("web/package.json", VITE), ("web/vite.config.ts", "")];
    let plan = check(&alone, &["npm:web in web: npm install", "bundle in web: vite build"]);
    assert!(plan.notices[0].starts_with("web/package.json has no lockfile"), "{:?}", plan.notices);
    let below = [("package.json", REACT), ("yarn.lock", ""), alone[0], alone[1]];
    let plan = check(&below, &["yarn: yarn install --frozen-lockfile"]);
    let why = reason(&plan, "web/package.json");
    assert!(why.starts_with("it has no lockfile of its own and is in no workspace of package.json"), "{why}");
    assert!(why.ends_with(r#"[[install]] tool = "npm", dir = "web""#), "{why}");
    let plan = check(&[("web/package.json", REACT)], &[]);
    assert!(reason(&plan, "web/package.json").starts_with("it has neither a lockfile nor something to build"));
    assert!(plan.notices[0].starts_with("web/package.json is not built"), "{:?}", plan.notices);
}

#[test]
fn vendored_fixture_and_example_folders_are_not_roots() {
    for dir in [
        "vendor/x",
        "test/fixtures/app",
        "examples/basic",
        "e2e",
        ".github/actions/x",
        "templates/react",
        "third_party",
    ] {
        let files = [(format!("{dir}/package.json"), REACT), (format!("{dir}/package-lock.json"), "")];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let plan = check(&files, &[]);
        assert!(reason(&plan, files[0].0).contains("holds no product"), "{:?}", plan.decisions);
    }
    let docs = [("docs/package.json", REACT), ("docs/yarn.lock", "")];
    check(&docs, &["yarn:docs in docs: yarn install --frozen-lockfile"]);
    let beside = [docs[0], docs[1], ("package.json", REACT), ("package-lock.json", "")];
    let plan = check(&beside, &["npm: npm ci"]);
    assert!(reason(&plan, "docs/package.json").starts_with("it looks like the documentation"), "{:?}", plan.decisions);
    // A broken manifest of somebody's test data stops nobody.
    check(&[("package.json", REACT), ("package-lock.json", ""), ("test/bad/package.json", "{")], &["npm: npm ci"]);
}

#[test]
fn what_a_script_installs_is_not_installed_twice() {
    let root = r#"{"scripts": {"postinstall": "cd client && npm ci"}, "dependencies": {"a": "1"}}"#;
    let client = [("client/package.json", REACT), ("client/package-lock.json", "")];
    let plan = check(&[("package.json", root), ("package-lock.json", ""), client[0], client[1]], &["npm: npm ci"]);
    assert!(reason(&plan, "client/package.json").starts_with("the postinstall script of package.json installs it"));
    // A build has no network to install with, so all is there before it.
    let root = r#"{"scripts": {"build": "npm --prefix client ci && npm --prefix client run build"}, "dependencies": {"a": "1"}}"#;
    let files = [("package.json", root), ("package-lock.json", ""), client[0], client[1]];
    let stage = |network: bool| {
        let settings = PlanSettings { network, ..settings() };
        told(&plan_of(&files, &settings))[0].clone()
    };
    assert_eq!(stage(false), "npm: npm ci | npm:client in client: npm ci");
    assert_eq!(stage(true), "npm: npm ci");
}

#[test]
fn what_a_script_installs_is_bundled_as_what_a_step_installs() {
    let app = r#"{"dependencies": {"react": "19"}, "scripts": {"build": "vite build"}}"#;
    let apps = [
        ("apps/one/package.json", app),
        ("apps/one/yarn.lock", "# yarn lockfile v1\n"),
        ("apps/two/package.json", app),
        ("apps/two/yarn.lock", "# yarn lockfile v1\n"),
    ];
    let with = |scripts: &str, expected: &[&str]| {
        let root = format!(r#"{{"scripts": {scripts}}}"#);
        let files: Vec<(&str, &str)> = [("package.json", root.as_str())].into_iter().chain(apps).collect();
        check(&files, expected)
    };
    let both = "bundle:apps/one in apps/one: yarn run build | bundle:apps/two in apps/two: yarn run build";
    let plan = with(r#"{"prepare": "cd ./apps/one && yarn && cd ../two && yarn"}"#, &["npm: npm install", both]);
    // The script finds the manager of the folder that it enters.
    let tools = plan.stages[0].steps[0].tools.iter();
    let tools: Vec<String> = tools.map(|one| format!("{} {} by {}", one.tool, one.version, one.asked_by)).collect();
    assert_eq!(tools[1..], ["npm * by no file", "yarn 1 by apps/one/yarn.lock"]);
    // What the install builds as well is not built twice.
    let one = r#"{"postinstall": "cd apps/one && yarn && yarn build && cd ../two && yarn"}"#;
    with(one, &["npm: npm install", "bundle in apps/two: yarn run build"]);
}

#[test]
fn a_script_that_only_a_person_starts_needs_no_manager() {
    let tools = |scripts: &str| -> Vec<String> {
        let package = format!(r#"{{"dependencies": {{"a": "1"}}, "scripts": {scripts}}}"#);
        let plan = plan_of(&[("package.json", &package), ("package-lock.json", "")], &settings());
        plan.stages[0].steps[0].tools.iter().map(|wanted| wanted.tool.clone()).collect()
    };
    assert_eq!(tools(r#"{"build": "yarn clean && tsc", "clean": "rimraf dist"}"#), ["node", "npm", "yarn"]);
    assert_eq!(tools(r#"{"build": "tsc", "release": "yarn publish", "test:bun": "bun test"}"#), ["node", "npm"]);
}

fn plan_of(files: &[(&str, &str)], settings: &PlanSettings) -> Plan {
    plan(&tree(files), &Wishes::default(), settings).expect("a plan")
}

#[test]
fn too_many_to_guess() {
    let paths: Vec<[String; 2]> =
        (0..10).map(|at| [format!("app{at}/package.json"), format!("app{at}/package-lock.json")]).collect();
    let files: Vec<(&str, &str)> =
        paths.iter().flat_map(|[package, lock]| [(package.as_str(), REACT), (lock.as_str(), "")]).collect();
    let plan = plan_of(&files, &settings());
    assert_eq!(plan.stages[0].steps.len(), 8);
    assert!(
        plan.notices.iter().any(|notice| notice.starts_with("10 folders have a package.json")),
        "{:?}",
        plan.notices
    );
}

#[test]
fn workspaces_are_installed_once_at_their_root() {
    let members = [
        ("packages/ui/package.json", r#"{"name": "ui", "dependencies": {"react": "19"}}"#),
        ("packages/ui/package-lock.json", ""),
        ("packages/old/package.json", REACT),
        ("packages/old/yarn.lock", ""),
    ];
    let once = |root: &[(&str, &str)], expected: &[&str]| {
        let files: Vec<(&str, &str)> = root.iter().chain(&members).copied().collect();
        check(&files, expected)
    };
    let npm = r#"{"workspaces": {"packages": ["packages/*"]}}"#;
    once(&[("package.json", npm), ("package-lock.json", "")], &["npm: npm ci"]);
    let yaml = "packages:\n  - 'packages/*' # all\n  - '!packages/old'\n";
    once(
        &[("package.json", REACT), ("pnpm-lock.yaml", ""), ("pnpm-workspace.yaml", yaml)],
        &["pnpm: pnpm install --frozen-lockfile | yarn:packages/old in packages/old: yarn install --frozen-lockfile"],
    );
    let lerna = [("package.json", REACT), ("yarn.lock", ""), ("lerna.json", r#"{"packages": ["packages/*"]}"#)];
    let plan = once(&lerna, &["yarn: yarn install --frozen-lockfile"]);
    assert!(plan.notices.iter().any(|notice| notice.contains("lerna bootstrap")), "{:?}", plan.notices);
    // Since pnpm 10 its file may hold settings alone.
    let settings_only =
        [("package.json", REACT), ("pnpm-lock.yaml", ""), ("pnpm-workspace.yaml", "nodeLinker: hoisted\n")];
    let expected = "pnpm: pnpm install --frozen-lockfile | yarn:packages/old in packages/old: yarn install --frozen-lockfile | npm:packages/ui in packages/ui: npm ci";
    once(&settings_only, &[expected]);
}

#[test]
fn installs_that_are_named() {
    let files = [("examples/a/package.json", REACT), ("b/package.json", REACT), ("b/package-lock.json", "")];
    let wishes = Wishes {
        installs: vec![install("npm", "examples/a"), InstallWish { skip: true, ..install("npm", "b") }],
        ..Wishes::default()
    };
    check_with(&files, &wishes, &["npm:examples/a in examples/a: npm install"]);
}

#[test]
fn bower_in_folders() {
    let scripts = r#"{"scripts": {"postinstall": "cd web && bower install"}, "dependencies": {"a": "1"}}"#;
    let root = [("package.json", scripts), ("package-lock.json", "")];
    check(&[root[0], root[1], ("web/bower.json", JQUERY), ("web/.bowerrc", "{}")], &["npm: npm ci"]);
    check(
        &[("web/bower.json", JQUERY), ("web/.bowerrc", r#"{"directory": "lib"}"#)],
        &[&format!("bower:web in web: {BOWER}")],
    );
    check(&[("web/bower.json", JQUERY), (".bowerrc", r#"{"cwd": "web"}"#)], &[&format!("bower: {BOWER}")]);
    let plan = check(&[("web/bower.json", JQUERY)], &[]);
    assert!(plan.notices[0].contains(r#"[[install]] tool = "bower", dir = "web""#), "{:?}", plan.notices);
    let plan = check(
        &[("bower.json", JQUERY), (".bowerrc", r#"{"resolvers": ["bower-npm-resolver", "bower-x-resolver"]}"#)],
        &[&format!("bower: {BOWER}")],
    );
    let tools: Vec<&str> = plan.stages[0].steps[0].tools.iter().map(|tool| tool.tool.as_str()).collect();
    assert_eq!(tools, ["node", "npm", "bower", "bower-npm-resolver"]);
    assert!(plan.notices[0].contains("bower-x-resolver"), "{:?}", plan.notices);
}
