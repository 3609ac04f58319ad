//! What a build of each trust reads and writes of what is kept, through the server: a trusted branch's, a member's pull
//! request's, a fork's. Each writes what is its own, and reads beside that only what is more trusted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hookmill::domain::trust::Trust;

use crate::poisoning::shop::{Evil, Shop};
use crate::support::lockfiles::Manager;

const OPEN: &str = "tags = true\nforks = \"build\"";

/// Every record with its words. Beside them it is noted why something was not found, which decides nothing.
fn records(shop: &Shop) -> BTreeMap<PathBuf, Vec<u8>> {
    fn below(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path(), found);
            } else if entry.file_name() != "missed.json" {
                found.insert(entry.path(), fs::read(entry.path()).unwrap_or_default());
            }
        }
    }
    let mut found = BTreeMap::new();
    below(&shop.snapshots().join("scopes"), &mut found);
    found
}

/// Builds, waits until it is kept, and fails unless that is in the own scope alone and nothing that was there is damaged.
#[track_caller]
fn writes_only(shop: &Shop, own: &Path, build: impl FnOnce() -> i64) -> i64 {
    let before = records(shop);
    let id = build();
    shop.kept(id);
    let after = records(shop);
    let changed: Vec<&PathBuf> =
        after.iter().filter(|(path, text)| before.get(*path) != Some(text)).map(|(path, _)| path).collect();
    assert!(!changed.is_empty(), "build {id} wrote nothing");
    assert!(
        changed.iter().all(|path| path.starts_with(own)),
        "build {id} wrote outside of {}: {changed:#?}",
        own.display()
    );
    let gone: Vec<&PathBuf> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(gone.iter().all(|path| path.starts_with(own)), "build {id} took away {gone:#?}");
    assert_eq!(shop.damages(), [], "build {id}");
    id
}

#[test]
fn each_writes_its_own_and_reads_only_what_is_more_trusted() {
    let shop = Shop::with(Manager::Yarn1, OPEN);
    let main = shop.scope(Trust::Trusted, "main");
    let first = writes_only(&shop, &main, || shop.pushed("main", "one", None));
    shop.is_clean(first, "one");
    shop.installs_are_of(first, None);

    // A fork's, then a member's, of a branch that is pushed as well: each starts from main and edits all that it can.
    let of_fork = shop.scope_of(Trust::Fork, "refs/pull/7/head");
    let fork = writes_only(&shop, &of_fork, || shop.strangers(7, "two", Some(Evil::Passing)));
    shop.installs_are_of(fork, Some(first));
    shop.is_dirty(fork);
    let of_member = shop.scope(Trust::Member, "topic");
    let member = writes_only(&shop, &of_member, || shop.proposed("topic", "three", Some(Evil::Passing)));
    shop.installs_are_of(member, Some(first));
    shop.is_dirty(member);

    // The same branch, trusted: what the pull request from it left is another's.
    let of_topic = shop.scope(Trust::Trusted, "topic");
    let topic = writes_only(&shop, &of_topic, || shop.pushed("topic", "four", None));
    shop.is_clean(topic, "four");
    shop.installs_are_of(topic, Some(first));
    // So is what a trusted branch left to main, and to another branch.
    let evil = writes_only(&shop, &of_topic, || shop.pushed("topic", "five", Some(Evil::Passing)));
    shop.is_dirty(evil);
    for branch in ["main", "other"] {
        let scope = shop.scope(Trust::Trusted, branch);
        let id = writes_only(&shop, &scope, || shop.pushed(branch, &format!("six of {branch}"), None));
        shop.is_clean(id, &format!("six of {branch}"));
    }
    // Another pull request of a fork, and a member's.
    let of_eighth = shop.scope_of(Trust::Fork, "refs/pull/8/head");
    let eighth = writes_only(&shop, &of_eighth, || shop.strangers(8, "seven", None));
    shop.is_clean(eighth, "seven");

    // What is published is made from nothing and leaves nothing.
    let before = records(&shop);
    shop.push("refs/heads/main", "eight", None);
    let tag = shop.server.deliver(&shop.repo.pushed(&shop.repo.push_head("refs/tags/v1"))).build();
    shop.is_clean(tag, "eight");
    let build = shop.server.build(tag);
    let steps = build["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["cache"] != "hit"), "{build:#}");
    let next = writes_only(&shop, &main, || shop.pushed("main", "nine", None));
    shop.is_clean(next, "nine");
    let of_tag = |path: &&PathBuf| !before.contains_key(*path) && !path.starts_with(&main);
    assert_eq!(records(&shop).keys().filter(of_tag).count(), 0, "the tag left something");
    shop.forge.finish();
}

#[test]
fn what_a_forks_install_script_edited_goes_with_its_pull_request() {
    let shop = Shop::with(Manager::Yarn1, OPEN);
    // Nobody has installed this lockfile before.
    shop.push("refs/heads/main", "zero", None);
    let own = shop.scope_of(Trust::Fork, "refs/pull/7/head");
    let evil = writes_only(&shop, &own, || shop.strangers(7, "one", Some(Evil::Passing)));
    shop.installs_are_of(evil, None);
    shop.is_dirty(evil);
    let again = writes_only(&shop, &own, || shop.strangers(7, "two", None));
    shop.installs_are_of(again, Some(evil));
    assert!(shop.bundle(again).contains("dirty alpha"), "it starts from what it left itself");

    for (scope, build) in [
        (shop.scope_of(Trust::Fork, "refs/pull/8/head"), shop.strangers(8, "three", None)),
        (shop.scope(Trust::Trusted, "main"), shop.pushed("main", "four", None)),
    ] {
        shop.kept(build);
        shop.installs_are_of(build, None);
        assert!(scope.exists() && !shop.bundle(build).contains("dirty"), "{}", scope.display());
    }
    let tip = shop.server.build(again)["sha"].as_str().expect("a commit").to_owned();
    let closed = shop.server.deliver(&shop.repo.pull_request("closed", 7, "main", &tip, true));
    assert!((200..300).contains(&closed.code), "{closed:?}");
    shop.forge.wait(|| (!own.exists()).then_some(()), || format!("{} is still there", own.display()));
    assert_eq!(shop.damages(), []);
    shop.forge.finish();
}

#[test]
fn what_failed_or_was_cancelled_leaves_nothing_whoever_pushed_it() {
    let shop = Shop::with(Manager::Yarn1, OPEN);
    let first = shop.pushed("main", "one", None);
    shop.is_clean(first, "one");
    shop.kept(first);
    let before = records(&shop);
    let pushed = |trust: Trust, source: &str, evil: Evil| match trust {
        Trust::Trusted => shop.pushed("main", source, Some(evil)),
        Trust::Member => shop.proposed("topic", source, Some(evil)),
        Trust::Fork => shop.strangers(7, source, Some(evil)),
    };
    for trust in [Trust::Fork, Trust::Member, Trust::Trusted] {
        let failed = pushed(trust, &format!("{trust:?} fails"), Evil::Failing);
        assert_eq!(shop.server.finished(failed)["outcome"], "failed");
        assert!(shop.server.log(failed, "bundle").contains("all is edited"));
        let cancelled = pushed(trust, &format!("{trust:?} hangs"), Evil::Hanging);
        shop.server.wrote(cancelled, "bundle", "all is edited");
        shop.cancel(cancelled);
    }
    // What is kept is kept before the next build of the repository begins.
    let next = shop.pushed("main", "two", None);
    shop.is_clean(next, "two");
    shop.installs_are_of(next, Some(first));
    shop.kept(next);
    let main = shop.scope(Trust::Trusted, "main");
    let after = records(&shop);
    let others: Vec<&PathBuf> =
        after.keys().filter(|path| !before.contains_key(*path) && !path.starts_with(&main)).collect();
    assert!(others.is_empty(), "{others:#?}");
    let kept = |id: i64| shop.server.build(id)["kept"].as_array().is_none_or(Vec::is_empty);
    assert!((first + 1..next).all(kept), "something was kept of what did not pass");
    assert_eq!(shop.damages(), []);
    shop.forge.finish();
}
