//! What is installed, and by which manager.

use hookmill::plan::{PlanSettings, Wishes, plan};

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
    let plan = plan(&tree(&files), &Wishes::default(), &PlanSettings { scripts: false, ..settings() }).expect("a plan");
    assert_eq!(told(&plan), [format!("npm: npm ci --ignore-scripts | bower: {BOWER} --config.scripts=false")]);
}
