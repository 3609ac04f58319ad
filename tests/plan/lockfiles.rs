//! Lockfiles that do not fit, and several of them.

use hookmill::domain::time::Timestamp;
use hookmill::plan::{Wishes, plan};

use super::{check, settings, told, tree};

fn npm(range: &str, version: &str) -> String {
    format!(
        r#"{{"lockfileVersion": 3, "packages": {{"": {{"dependencies": {{"react": "{range}"}}}}, "node_modules/react": {{"version": "{version}"}}}}}}"#
    )
}

fn pnpm(range: &str) -> String {
    format!(
        "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      react:\n        specifier: {range}\n        version: 18.3.1\n\npackages:\n"
    )
}

const REACT_18: &str = r#"{"dependencies": {"react": "^18.0.0"}}"#;

#[test]
fn one_that_is_out_of_date_is_not_frozen() {
    let fresh = |lockfile: &str, text: &str, expected: &str| {
        let plan = check(&[("package.json", REACT_18), (lockfile, text)], &[expected]);
        assert!(plan.notices.is_empty(), "{:?}", plan.notices);
    };
    let stale = |lockfile: &str, text: &str, expected: &str, why: &str| {
        let plan = check(&[("package.json", REACT_18), (lockfile, text)], &[expected]);
        assert!(plan.notices[0].starts_with(&format!("{lockfile} is out of date: {why}")), "{:?}", plan.notices);
    };
    fresh("package-lock.json", &npm("^18.0.0", "18.3.1"), "npm: npm ci");
    // Written for another range, but what it installs fits: npm ci takes it.
    fresh("package-lock.json", &npm("18", "18.3.1"), "npm: npm ci");
    let react = "package.json asks for react ^18.0.0, and it has ^17.0.0";
    stale("package-lock.json", &npm("^17.0.0", "17.0.2"), "npm: npm install", react);
    let nothing = r#"{"lockfileVersion": 3, "packages": {"": {}}}"#;
    let missing = "package.json asks for react, which is not in it";
    stale("package-lock.json", nothing, "npm: npm install", missing);
    fresh("yarn.lock", "react@^18.0.0:\n  version \"18.3.1\"\n", "yarn: yarn install --frozen-lockfile");
    stale("yarn.lock", "react@^17.0.0:\n  version \"17.0.2\"\n", "yarn: yarn install", react);
    fresh("pnpm-lock.yaml", &pnpm("^18.0.0"), "pnpm: pnpm install --frozen-lockfile");
    stale("pnpm-lock.yaml", &pnpm("^17.0.0"), "pnpm: pnpm install --no-frozen-lockfile", react);
    let berry = |range: &str| {
        format!(
            "__metadata:\n  version: 8\n\n\"a@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"a@workspace:.\"\n  dependencies:\n    react: \"npm:{range}\"\n"
        )
    };
    fresh("yarn.lock", &berry("^18.0.0"), "yarn: yarn install --immutable");
    stale(
        "yarn.lock",
        &berry("^17.0.0"),
        "yarn: yarn install --no-immutable",
        "package.json asks for react ^18.0.0, and it has npm:^17.0.0",
    );
    let more = pnpm("^18.0.0")
        .replace("\n\npackages", "\n      vue:\n        specifier: '3'\n        version: 3.0.0\n\npackages");
    stale(
        "pnpm-lock.yaml",
        &more,
        "pnpm: pnpm install --no-frozen-lockfile",
        "it has vue, which package.json does not ask for",
    );
}

#[test]
fn a_workspaces_lockfile_covers_its_packages() {
    let root = r#"{"workspaces": ["a"]}"#;
    let lock = r#"{"lockfileVersion": 3, "packages": {"": {}, "a": {"dependencies": {"react": "^17.0.0"}}, "node_modules/a": {"resolved": "a", "link": true}}}"#;
    let plan = check(
        &[("package.json", root), ("package-lock.json", lock), ("a/package.json", REACT_18)],
        &["npm: npm install"],
    );
    assert!(
        plan.notices[0].contains("a/package.json asks for react ^18.0.0, and it has ^17.0.0"),
        "{:?}",
        plan.notices
    );
}

#[test]
fn one_that_its_manager_can_not_read() {
    let package = r#"{"packageManager": "pnpm@9.1.0", "dependencies": {"react": "^18.0.0"}}"#;
    let six = pnpm("^18.0.0").replace("9.0", "6.0");
    let plan =
        check(&[("package.json", package), ("pnpm-lock.yaml", &six)], &["pnpm: pnpm install --no-frozen-lockfile"]);
    assert!(plan.notices[0].contains("packageManager asks for pnpm 9.1.0, and pnpm >=7.24"), "{:?}", plan.notices);
}

#[test]
fn an_old_format_goes_on_with_a_notice() {
    let old = r#"{"lockfileVersion": 1, "dependencies": {"react": {"version": "18.3.1"}}}"#;
    let plan = check(&[("package.json", REACT_18), ("package-lock.json", old)], &["npm: npm ci"]);
    assert!(plan.notices[0].starts_with("package-lock.json has an old format"), "{:?}", plan.notices);
}

#[test]
fn one_of_another_manager() {
    let package = r#"{"packageManager": "pnpm@9.1.0", "dependencies": {"react": "^18.0.0"}}"#;
    let plan = check(&[("package.json", package), ("yarn.lock", "")], &["pnpm: pnpm install --no-frozen-lockfile"]);
    assert!(
        plan.notices[0].starts_with("yarn.lock belongs to another package manager than pnpm"),
        "{:?}",
        plan.notices
    );
}

#[test]
fn of_several_the_one_that_was_changed_last() {
    let mut listing = tree(&[("package.json", REACT_18), ("package-lock.json", ""), ("yarn.lock", "")]);
    listing.changed = [("package-lock.json".to_owned(), Timestamp(2))].into();
    let last = plan(&listing, &Wishes::default(), &settings()).expect("a plan");
    assert_eq!(told(&last), ["npm: npm ci"]);
    assert!(last.notices[0].contains("package-lock.json was changed last"), "{:?}", last.notices);
    // Both in one commit: the order decides.
    listing.changed.insert("yarn.lock".to_owned(), Timestamp(2));
    let order = plan(&listing, &Wishes::default(), &settings()).expect("a plan");
    assert_eq!(told(&order), ["yarn: yarn install --frozen-lockfile"]);
}
