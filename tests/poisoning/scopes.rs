//! What a pull request, a failed job or a build beside it leaves is not read by `main`.

use crate::lockfiles::Manager;
use crate::shop::{Evil, Shop};

/// `main` is built, then somebody's pull request edits what it was built of; then `main` is built again.
fn a_pull_request_changes_nothing_of_main(manager: Manager) {
    let shop = Shop::of(manager);
    shop.is_clean(shop.pushed("main", "one", None), "one");
    shop.is_dirty(shop.proposed("evil", "two", Some(Evil::Passing)));
    shop.is_clean(shop.pushed("main", "three", None), "three");
    shop.is_clean(shop.pushed("other", "four", None), "four");
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

/// The first build of a repository ends badly after it edited everything: there is nothing kept to be read. Another one
/// that is cancelled changes nothing of what was kept before it.
fn what_failed_or_was_cancelled_is_not_kept(manager: Manager) {
    let shop = Shop::of(manager);
    let failed = shop.pushed("main", "one", Some(Evil::Failing));
    assert_eq!(shop.server.finished(failed)["outcome"], "failed");
    assert!(shop.server.log(failed, "bundle").contains("all is edited"));
    shop.is_clean(shop.pushed("main", "two", None), "two");

    let cancelled = shop.pushed("main", "three", Some(Evil::Hanging));
    shop.server.wrote(cancelled, "bundle", "all is edited");
    shop.cancel(cancelled);
    shop.is_clean(shop.pushed("main", "four", None), "four");
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
    shop.is_clean(shop.pushed("main", "one", None), "one");
    let editing = shop.pushed("editing", "two", Some(Evil::Hanging));
    shop.server.wrote(editing, "bundle", "all is edited");
    shop.is_clean(shop.pushed("beside", "three", None), "three");
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
    let shop = Shop::of(Manager::Npm);
    shop.is_dirty(shop.pushed("main", "one", Some(Evil::Passing)));
    let moved = shop.push("refs/heads/main", "two", None);
    let id = shop.server.deliver(&shop.repo.pushed(&moved)).build();
    shop.server.finished(id);
    let rerun = shop.server.post(&format!("/api/v1/builds/{id}/rerun"), r#"{"cache":false}"#);
    shop.is_clean(rerun.build(), "two");
    let tag = shop.repo.push_head("refs/tags/v1");
    shop.is_clean(shop.server.deliver(&shop.repo.pushed(&tag)).build(), "two");
    shop.forge.finish();
}
