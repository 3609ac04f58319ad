//! The same repository again: what was installed is taken from the first build, and what is bundled is the same.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::any_repository::repository::Repository;

/// Tells what a bundle wrote, after it.
const DIGEST: &str = r#"
[[check]]
name = "digest"
after = "bundle"
command = ["sh", "-c", "find dist -type f | sort | xargs sha256sum | sed 's/^/wrote /'"]
"#;

/// Builds a fixture, changes a source and builds it again, once more as it is, and once from nothing.
#[track_caller]
fn check(name: &str, install: &str, source: &str) {
    let repository = Repository::of(name).with(".hookmill.toml", DIGEST);
    repository.build_with_caches().passed();
    // Other files than those of any earlier run of this test, whose verdict would be taken over.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let repository = repository.with_line(source, &format!("globalThis.more = '{now}';"));
    let changed = repository.build_with_caches().passed().restored(install);
    let unchanged = repository.build_with_caches().passed().reason();
    assert!(unchanged.starts_with("Passed without a build: same files as in the run at "), "{unchanged}");
    let afresh = repository.build().passed();
    let wrote = afresh.lines("wrote ");
    assert!(!wrote.is_empty(), "{afresh:?}");
    assert_eq!(changed.lines("wrote "), wrote, "{name}");
}

#[test]
fn webpack_5() {
    check("react-webpack5", "npm", "src/index.jsx");
}

#[test]
fn rspack() {
    check("rspack", "npm", "src/index.js");
}

#[test]
fn vite() {
    check("vue-vite", "npm", "src/main.js");
}

#[test]
fn plug_n_play() {
    check("berry-pnp", "yarn", "build.js");
}

#[test]
fn pnpm() {
    check("pnpm", "pnpm", "build.js");
}
