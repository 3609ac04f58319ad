//! What a pull request, a failed job or a build beside it leaves is not read by `main`.

use hookmill::domain::trust::Trust;

use crate::poisoning::shop::{Evil, Shop};
use crate::support::lockfiles::Manager;

/// `main` is built, then somebody's pull request edits what it was built of; then `main` is built again.
fn a_pull_request_changes_nothing_of_main(manager: Manager) {
    let shop = Shop::of(manager);
    let first = shop.pushed("main", "one", None);
    shop.is_clean(first, "one");
    shop.kept(first);
    let evil = shop.proposed("evil", "two", Some(Evil::Passing));
    shop.is_dirty(evil);
    shop.installs_are_of(evil, Some(first));
    shop.kept(evil);
    let later = shop.pushed("main", "three", None);
    shop.is_clean(later, "three");
    shop.installs_are_of(later, Some(first));
    let other = shop.pushed("other", "four", None);
    shop.is_clean(other, "four");
    shop.installs_are_of(other, Some(first));
    shop.forge.finish();
}

#[test]
fn a_members_pull_request_changes_nothing_of_main_by_npm_bower_and_webpack() {
    a_pull_request_changes_nothing_of_main(Manager::Npm);
}

#[test]
fn a_members_pull_request_changes_nothing_of_main_by_yarn_1() {
    a_pull_request_changes_nothing_of_main(Manager::Yarn1);
}

#[test]
fn a_members_pull_request_changes_nothing_of_main_by_pnpm() {
    a_pull_request_changes_nothing_of_main(Manager::Pnpm);
}

#[test]
fn a_members_pull_request_changes_nothing_of_main_by_berry() {
    a_pull_request_changes_nothing_of_main(Manager::Berry);
}

/// A pull request brings a lockfile that nobody has installed before, and an install script that edits what it installs.
/// Its own next build starts from that; nobody else's does, and with the pull request it is gone.
#[test]
fn what_an_install_script_of_a_pull_request_edited_stays_with_it() {
    let shop = Shop::of(Manager::Yarn1);
    shop.push("refs/heads/main", "zero", None);
    let evil = shop.proposed("evil", "one", Some(Evil::Passing));
    shop.is_dirty(evil);
    shop.installs_are_of(evil, None);
    shop.kept(evil);
    let again = shop.proposed("evil", "two", None);
    assert!(shop.bundle(again).contains("dirty alpha"), "it starts from what it left itself");
    shop.installs_are_of(again, Some(evil));
    shop.kept(again);

    let main = shop.pushed("main", "three", None);
    shop.is_clean(main, "three");
    shop.installs_are_of(main, None);
    shop.kept(main);
    let later = shop.pushed("main", "four", None);
    shop.is_clean(later, "four");
    shop.installs_are_of(later, Some(main));

    let (own, mains) = (shop.scope(Trust::Member, "evil"), shop.scope(Trust::Trusted, "main"));
    assert!(own.exists() && mains.exists(), "{} and {}", own.display(), mains.display());
    let build = shop.server.build(again);
    let tip = build["sha"].as_str().expect("a commit");
    let closed = shop.server.deliver(&shop.repo.pull_request("closed", 7, "evil", tip, false));
    assert!((200..300).contains(&closed.code), "{closed:?}");
    let gone = || (!own.exists()).then_some(());
    shop.forge.wait(gone, || format!("{} is still there", own.display()));
    assert!(mains.exists(), "main's is another scope");
    shop.forge.finish();
}

/// The first build of a repository ends badly after it edited everything: there is nothing kept to be read. Another one
/// that is cancelled changes nothing of what was kept before it.
fn what_failed_or_was_cancelled_is_not_kept(manager: Manager) {
    let shop = Shop::of(manager);
    let failed = shop.pushed("main", "one", Some(Evil::Failing));
    assert_eq!(shop.server.finished(failed)["outcome"], "failed");
    assert!(shop.server.log(failed, "bundle").contains("all is edited"));
    let first = shop.pushed("main", "two", None);
    shop.is_clean(first, "two");
    shop.installs_are_of(first, None);
    shop.kept(first);

    let cancelled = shop.pushed("main", "three", Some(Evil::Hanging));
    shop.server.wrote(cancelled, "bundle", "all is edited");
    shop.cancel(cancelled);
    let last = shop.pushed("main", "four", None);
    shop.is_clean(last, "four");
    shop.installs_are_of(last, Some(first));
    shop.forge.finish();
}

#[test]
fn what_failed_or_was_cancelled_is_not_kept_by_npm_bower_and_webpack() {
    what_failed_or_was_cancelled_is_not_kept(Manager::Npm);
}

#[test]
fn what_failed_or_was_cancelled_is_not_kept_by_yarn_1() {
    what_failed_or_was_cancelled_is_not_kept(Manager::Yarn1);
}

/// One build has everything edited and still stands; another of the same lockfile runs from its start to its end.
fn two_builds_of_one_lockfile_do_not_see_each_other(manager: Manager) {
    let shop = Shop::of(manager);
    let first = shop.pushed("main", "one", None);
    shop.is_clean(first, "one");
    shop.kept(first);
    let editing = shop.pushed("editing", "two", Some(Evil::Hanging));
    shop.server.wrote(editing, "bundle", "all is edited");
    let beside = shop.pushed("beside", "three", None);
    shop.is_clean(beside, "three");
    for id in [editing, beside] {
        let build = shop.server.build(id);
        let steps = build["steps"].as_array().expect("steps");
        let restored = steps.iter().filter(|step| step["kind"] == "install").all(|step| step["cache"] == "hit");
        assert!(restored, "both stand on the same layers: {build:#}");
    }
    assert_eq!(shop.server.build(editing)["state"], "running");
    shop.cancel(editing);
    shop.forge.finish();
}

#[test]
fn two_builds_of_one_lockfile_do_not_see_each_other_by_npm_bower_and_webpack() {
    two_builds_of_one_lockfile_do_not_see_each_other(Manager::Npm);
}

#[test]
fn two_builds_of_one_lockfile_do_not_see_each_other_by_pnpm() {
    two_builds_of_one_lockfile_do_not_see_each_other(Manager::Pnpm);
}

/// `main` keeps what its own scripts made of its dependencies; a tag and a build that is to read no cache do not read it.
#[test]
fn tags_and_builds_without_cache_read_nothing() {
    let shop = Shop::of(Manager::Yarn1);
    let first = shop.pushed("main", "one", Some(Evil::Passing));
    shop.is_dirty(first);
    shop.kept(first);
    let moved = shop.push("refs/heads/main", "two", None);
    let id = shop.server.deliver(&shop.repo.pushed(&moved)).build();
    assert!(shop.bundle(id).contains("dirty alpha"), "it starts from what main left");
    shop.installs_are_of(id, Some(first));
    let rerun = shop.server.post(&format!("/api/v1/builds/{id}/rerun"), r#"{"cache":false}"#);
    shop.is_clean(rerun.build(), "two");
    let tag = shop.repo.push_head("refs/tags/v1");
    shop.is_clean(shop.server.deliver(&shop.repo.pushed(&tag)).build(), "two");
    shop.forge.finish();
}
