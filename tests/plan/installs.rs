//! What is installed, and by which manager.

use hookmill::domain::scripts::Scripts;
use hookmill::domain::step::StepKind;
use hookmill::plan::{InstallWish, PlanSettings, Wishes, plan};

use super::{BOWER, JQUERY, REACT, check, settings, told, tree};

#[test]
fn the_lockfile_decides_the_manager() {
    check(&[("package.json", REACT), ("npm-shrinkwrap.json", "")], &["npm: npm ci"]);
    check(&[("package.json", REACT), ("yarn.lock", "")], &["yarn: yarn install --frozen-lockfile"]);
    check(&[("package.json", REACT), ("yarn.lock", ""), (".yarnrc.yml", "")], &["yarn: yarn install --immutable"]);
    check(&[("package.json", REACT), ("pnpm-lock.yaml", "")], &["pnpm: pnpm install --frozen-lockfile"]);
    check(&[("package.json", REACT), ("bun.lock", "")], &["bun: bun install --frozen-lockfile"]);
    check(&[("package.json", REACT), ("bun.lockb", "")], &["bun: bun install --frozen-lockfile"]);
    let unlocked = check(&[("package.json", REACT)], &["npm: npm install"]);
    assert!(unlocked.notices[0].starts_with("package.json has no lockfile"), "{:?}", unlocked.notices);
}

#[test]
fn two_lockfiles_and_a_notice_that_names_the_one_to_delete() {
    let both = [("package.json", REACT), ("package-lock.json", ""), ("yarn.lock", "")];
    let plan = check(&both, &["yarn: yarn install --frozen-lockfile"]);
    assert!(plan.notices[0].ends_with("delete package-lock.json"), "{:?}", plan.notices);
    let field = r#"{"packageManager": "npm@11.0.0", "dependencies": {"react": "19"}}"#;
    let plan = check(&[("package.json", field), ("package-lock.json", ""), ("yarn.lock", "")], &["npm: npm ci"]);
    assert!(plan.notices[0].contains("packageManager says so"), "{:?}", plan.notices);
    assert!(plan.notices[0].ends_with("delete yarn.lock"), "{:?}", plan.notices);
    let modern = r#"{"packageManager": "yarn@4.5.0", "dependencies": {"react": "19"}}"#;
    check(&[("package.json", modern), ("yarn.lock", "")], &["yarn: yarn install --immutable"]);
}

#[test]
fn an_install_script_alone_is_an_install() {
    let plan = check(&[("package.json", r#"{"scripts": {"postinstall": "node x.js"}}"#)], &["npm: npm install"]);
    assert!(plan.notices.is_empty(), "there is nothing to lock: {:?}", plan.notices);
}

#[test]
fn a_byte_order_mark_is_read_past() {
    check(
        &[("package.json", "\u{feff}{\"dependencies\": {\"a\": \"1\"}}"), ("package-lock.json", "")],
        &["npm: npm ci"],
    );
}

#[test]
fn bower_runs_once() {
    let runs = |scripts: &str| format!(r#"{{"dependencies": {{"bower": "1"}}, "scripts": {scripts}}}"#);
    let with = |package: &str, expected: &[&str]| {
        check(&[("package.json", package), ("package-lock.json", ""), ("bower.json", JQUERY)], expected)
    };
    for scripts in [
        r#"{"postinstall": "bower install"}"#,
        r#"{"prepare": "cd . && ./node_modules/.bin/bower i --allow-root"}"#,
        r#"{"postinstall": "npm run deps", "deps": "bower install"}"#,
    ] {
        let plan = with(&runs(scripts), &["npm: npm ci"]);
        assert!(plan.notices[0].contains("bower runs inside npm's install"), "{:?}", plan.notices);
    }
    let beside = format!("npm: npm ci | bower: {BOWER}");
    with(
        &runs(r#"{"deps": "bower install", "postinstall": "npm run circle", "circle": "npm run postinstall"}"#),
        &[&beside],
    );
    // Where scripts don't run, neither does the one that would have run bower.
    let files = [
        ("package.json", &*runs(r#"{"postinstall": "bower install"}"#)),
        ("package-lock.json", ""),
        ("bower.json", JQUERY),
    ];
    let plan = plan(&tree(&files), &Wishes::default(), &PlanSettings { scripts: Scripts::None, ..settings() })
        .expect("a plan");
    assert_eq!(told(&plan), [format!("npm: npm ci --ignore-scripts | bower: {BOWER} --config.scripts=false")]);
}

/// The steps' programs under `scripts = "listed"`.
fn listed(files: &[(&str, &str)], wishes: &Wishes, packages: &[&str]) -> Result<Vec<String>, String> {
    let packages = packages.iter().map(|name| (*name).to_owned()).collect();
    let settings = PlanSettings { scripts: Scripts::Listed(packages), ..settings() };
    let plan = plan(&tree(files), wishes, &settings).map_err(|bad| bad.to_string())?;
    let installs = plan.steps().filter(|step| step.kind == StepKind::Install);
    Ok(installs
        .flat_map(|step| step.programs().map(|(argv, dir)| format!("{dir}: {}", argv.join(" "))).collect::<Vec<_>>())
        .collect())
}

#[test]
fn listed_scripts_follow_an_install_that_runs_none() {
    const OWN: &str =
        r#"{"dependencies": {"a": "1"}, "scripts": {"prepare": "husky", "postinstall": "node x.js", "test": "t"}}"#;
    let check = |lockfile: (&str, &str), more: &[(&str, &str)], expected: &[&str]| {
        let files = [&[("package.json", OWN), lockfile], more].concat();
        assert_eq!(listed(&files, &Wishes::default(), &["esbuild", "@a/b"]).expect("a plan"), expected);
    };
    let npm = "npm rebuild --ignore-scripts=false --foreground-scripts @a/b esbuild";
    check(
        ("package-lock.json", ""),
        &[],
        &[".: npm ci --ignore-scripts", &format!(".: {npm}"), ".: npm run postinstall", ".: npm run prepare"],
    );
    check(
        ("yarn.lock", ""),
        &[],
        &[
            ".: yarn install --frozen-lockfile --ignore-scripts",
            &format!(".: {npm}"),
            ".: yarn run postinstall",
            ".: yarn run prepare",
        ],
    );
    check(
        ("yarn.lock", ""),
        &[(".yarnrc.yml", "nodeLinker: node-modules\n")],
        &[".: yarn install --immutable --mode=skip-build", &format!(".: {npm}"), ".: yarn run postinstall"],
    );
    check(
        ("pnpm-lock.yaml", ""),
        &[],
        &[
            ".: pnpm install --frozen-lockfile --ignore-scripts",
            &format!(".: {npm}"),
            ".: pnpm run postinstall",
            ".: pnpm run prepare",
        ],
    );
    let none = listed(&[("package.json", OWN)], &Wishes::default(), &[]).expect("a plan");
    assert_eq!(none, [".: npm install --ignore-scripts", ".: npm run postinstall", ".: npm run prepare"]);
}

#[test]
fn what_listed_scripts_can_not_be_is_said() {
    let files = [("package.json", REACT), ("yarn.lock", "__metadata:\n  version: 8\n")];
    let refused = listed(&files, &Wishes::default(), &["esbuild"]).expect_err("archives");
    assert!(refused.contains("Plug'n'Play; write nodeLinker: node-modules into .yarnrc.yml"), "{refused}");
    assert!(listed(&files, &Wishes::default(), &[]).is_ok(), "nothing is to be run");
    let wish = |command: &str| {
        let command = Some(command.split(' ').map(str::to_owned).collect());
        let install = InstallWish { tool: "npm".into(), command, ..InstallWish::default() };
        Wishes { installs: vec![install], ..Wishes::default() }
    };
    let refused = listed(&[("package.json", REACT)], &wish("npm install"), &["esbuild"]).expect_err("runs all");
    assert!(refused.contains("add --ignore-scripts") && refused.ends_with("[[install]] npm: npm install"), "{refused}");
    let kept = listed(&[("package.json", REACT)], &wish("npm install --ignore-scripts"), &["esbuild"]).expect("a plan");
    assert_eq!(kept.len(), 2, "{kept:?}");
}
