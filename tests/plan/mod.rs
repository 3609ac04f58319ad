//! Listings and wishes in, plans out.

mod bundle;
mod installs;
mod lockfiles;
mod roots;
mod tools;

use std::collections::BTreeMap;
use std::time::Duration;

use hookmill::domain::listing::Listing;
use hookmill::domain::lockfile::Lockfile;
use hookmill::domain::spec::{Network, Plan, Wanted};
use hookmill::plan::{After, BadPlan, BundleWish, CheckWish, InstallWish, PlanSettings, Wishes, plan};

const BOWER: &str =
    "bower install --allow-root --config.interactive=false --config.analytics=false --config.json=false";

/// A tree from paths and contents; the contents of files that a plan does not read are left out.
fn tree(files: &[(&str, &str)]) -> Listing {
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let seen = files.iter().filter(|(path, _)| Listing::matters(&name(path)));
    Listing {
        paths: seen.clone().map(|(path, _)| (*path).to_owned()).collect(),
        manifests: seen
            .clone()
            .filter(|(path, _)| Listing::is_read(&name(path)))
            .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
            .collect(),
        lockfiles: seen
            .filter(|(_, text)| !text.is_empty())
            .filter_map(|(path, text)| Some(((*path).to_owned(), Lockfile::read(&name(path), text.as_bytes())?)))
            .collect(),
        ..Listing::default()
    }
}

fn settings() -> PlanSettings {
    PlanSettings {
        step_timeout: Duration::from_secs(1200),
        scripts: Default::default(),
        node: Wanted {
            tool: "node".into(),
            version: "22".into(),
            asked_by: "the server's [toolchain] node".into(),
            hash: None,
        },
        network: false,
    }
}

fn planned(files: &[(&str, &str)], wishes: &Wishes) -> Plan {
    plan(&tree(files), wishes, &settings()).expect("a plan")
}

/// A plan as text: a line a stage, `name[ in dir]: command` for each step.
fn told(plan: &Plan) -> Vec<String> {
    let step = |step: &hookmill::domain::spec::StepSpec| {
        let place = if step.dir == "." { String::new() } else { format!(" in {}", step.dir) };
        format!("{}{place}: {}", step.name, step.argv.join(" "))
    };
    plan.stages.iter().map(|stage| stage.steps.iter().map(step).collect::<Vec<_>>().join(" | ")).collect()
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) -> Plan {
    check_with(files, &Wishes::default(), expected)
}

#[track_caller]
fn check_with(files: &[(&str, &str)], wishes: &Wishes, expected: &[&str]) -> Plan {
    let plan = planned(files, wishes);
    assert_eq!(told(&plan), expected, "notices: {:?}", plan.notices);
    plan
}

const REACT: &str = r#"{"dependencies": {"react": "19"}}"#;
const WEBPACK: &str = r#"{"devDependencies": {"webpack": "^5.99.0", "webpack-cli": "6"}}"#;
const JQUERY: &str = r#"{"name": "shop", "dependencies": {"jquery": "3"}}"#;

#[test]
fn npm_beside_bower_then_webpack() {
    let plan = check(
        &[("package.json", WEBPACK), ("package-lock.json", ""), ("bower.json", JQUERY), ("webpack.config.js", "")],
        &[&format!("npm: npm ci | bower: {BOWER}"), "bundle: webpack --mode production"],
    );
    let networks: Vec<&Network> = plan.steps().map(|step| &step.network).collect();
    assert_eq!(networks, [&Network::Registries, &Network::Registries, &Network::Closed]);
    assert!(plan.notices.is_empty(), "{:?}", plan.notices);
    let seen: Vec<&str> = plan.decisions.iter().map(|decision| decision.seen.as_str()).collect();
    assert_eq!(seen, ["package-lock.json", "bower.json", "webpack.config.js"]);
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    check(&[], &[]);
    check(&[("README.md", "")], &[]);
    check(&[("package.json", r#"{"name": "empty"}"#), ("package-lock.json", "{}")], &[]);
    check(&[("bower.json", r#"{"name": "a-component"}"#)], &[]);
    let deep = check(&[("client/package.json", REACT)], &[]);
    assert!(deep.notices[0].contains("dir = \"client\""), "{:?}", deep.notices);
}

fn install(tool: &str, dir: &str) -> InstallWish {
    InstallWish { tool: tool.into(), dir: Some(dir.into()), ..InstallWish::default() }
}

fn command(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn wishes_replace_add_and_skip() {
    let files = [
        ("package.json", WEBPACK),
        ("package-lock.json", ""),
        ("bower.json", JQUERY),
        ("webpack.config.js", ""),
        ("client/package.json", REACT),
        ("client/yarn.lock", ""),
    ];
    let env = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let wishes = Wishes {
        env: env("API", "everywhere"),
        toolchain: BTreeMap::new(),
        installs: vec![
            InstallWish {
                command: Some(command("npm ci --legacy-peer-deps")),
                env: env("API", "npm"),
                ..install("npm", "./")
            },
            InstallWish { skip: true, ..install("bower", ".") },
            InstallWish { timeout: Some(Duration::from_secs(60)), ..install("yarn", "client/") },
        ],
        bundle: Some(BundleWish {
            command: Some(command("npx gulp")),
            network: Some(Network::Open),
            ..BundleWish::default()
        }),
        checks: vec![
            CheckWish { name: "test".into(), command: command("npm test"), ..CheckWish::default() },
            CheckWish {
                name: "size".into(),
                command: command("node size.js"),
                after: After::Bundle,
                timeout: Some(Duration::from_secs(9000)),
                ..CheckWish::default()
            },
        ],
    };
    let plan = check_with(
        &files,
        &wishes,
        &[
            "npm: npm ci --legacy-peer-deps | yarn:client in client: yarn install --frozen-lockfile",
            "bundle: npx gulp | test: npm test",
            "size: node size.js",
        ],
    );
    let step = |name: &str| plan.steps().find(|step| step.name == name).expect("planned");
    assert_eq!(step("npm").env["API"], "npm", "a step's own wins");
    assert_eq!(step("yarn:client").env["API"], "everywhere");
    assert_eq!(step("yarn:client").timeout, Duration::from_secs(60));
    assert_eq!((&step("bundle").network, &step("test").network), (&Network::Open, &Network::Closed));
    assert_eq!(step("size").timeout, settings().step_timeout, "limits are lowered, never raised");
    assert!(plan.notices.iter().any(|notice| notice.contains("over the server's 20m")), "{:?}", plan.notices);
}

#[test]
fn trees_that_cannot_be_planned() {
    let refuse = |files: &[(&str, &str)], wishes: &Wishes, text: &str| {
        let error = plan(&tree(files), wishes, &settings()).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
    };
    let none = Wishes::default();
    refuse(&[("package.json", "{\"name\":\n,}")], &none, "package.json is not JSON: expected value at line 2 column 1");
    refuse(&[("package.json", "[]")], &none, "package.json is not JSON: it is not an object");
    refuse(&[("bower.json", "{")], &none, "bower.json is not JSON");
    let mut large = tree(&[("package.json", "")]);
    large.manifests.clear();
    assert_eq!(plan(&large, &none, &settings()), Err(BadPlan::TooLarge { file: "package.json".into() }));
    let installs = |wish: InstallWish| Wishes { installs: vec![wish], ..Wishes::default() };
    refuse(&[], &installs(install("npm", "../other")), "leaves the repository");
    refuse(&[], &installs(install("npm", "/etc")), "leaves the repository");
    refuse(&[], &installs(install("npm", "client")), "there is no client/package.json");
    refuse(&[], &installs(install("composer", ".")), "needs a command");
    let twice = Wishes { installs: vec![install("npm", "a"), install("npm", "./a")], ..Wishes::default() };
    refuse(&[("a/package.json", REACT)], &twice, "two steps are called \"npm:a\"");
    let named = |name: &str| Wishes {
        checks: vec![CheckWish { name: name.into(), command: command("true"), ..CheckWish::default() }],
        ..Wishes::default()
    };
    refuse(&[], &named("checkout"), "two steps are called \"checkout\"");
    refuse(&[], &named("a\nb"), "is no name for a check");
}

#[test]
fn checks_alone_are_a_plan() {
    let wishes = Wishes {
        checks: vec![CheckWish { name: "links".into(), command: command("sh links.sh"), ..CheckWish::default() }],
        ..Wishes::default()
    };
    check_with(&[], &wishes, &["links: sh links.sh"]);
}

#[test]
fn a_monorepos_packages_are_its_managers_work() {
    let root = r#"{"workspaces": ["packages/*"], "scripts": {"build": "turbo run build"}}"#;
    let plan = check(
        &[
            ("package.json", root),
            ("yarn.lock", ""),
            ("packages/a/package.json", REACT),
            ("packages/b/package.json", REACT),
            ("examples/x/package.json", REACT),
        ],
        &["yarn: yarn install --frozen-lockfile", "bundle: yarn run build"],
    );
    let seen: Vec<&str> = plan.decisions.iter().map(|decision| decision.seen.as_str()).collect();
    assert_eq!(seen, ["package.json workspaces", "examples/x/package.json", "yarn.lock", "package.json scripts.build"]);
}
