//! Lockfiles that contradict what is beside them: the build goes on where it can, and says which file to mend.

use crate::any_repository::repository::Repository;

#[track_caller]
fn strict_check_fails(repository: &Repository, file: &str) {
    let (code, said) = repository.check_strict();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(file), "{said}");
}

#[test]
fn two_lockfiles() {
    let repository = Repository::of("two-lockfiles");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["yarn", "bundle"]);
    plan.notices(&["yarn is used", "delete package-lock.json"]);
    strict_check_fails(&repository, "package-lock.json");
}

#[test]
fn a_lockfile_of_another_manager_than_package_manager_says() {
    let repository = Repository::of("package-manager-against-lockfile");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["pnpm", "bundle"]);
    plan.notices(&["packageManager", "package-lock.json"]);
    strict_check_fails(&repository, "package-lock.json");
    repository.build().passed_by(&["pnpm", "bundle"]).says(&["pnpm/9.15.9"]);
}

#[test]
fn a_lockfile_that_is_out_of_date() {
    let repository = Repository::of("outdated-lockfile");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["npm", "bundle"]);
    plan.notices(&["package-lock.json", "is-odd"]);
    strict_check_fails(&repository, "package-lock.json");
    repository.build().passed_by(&["npm", "bundle"]);
}

#[test]
fn no_lockfile_at_all() {
    let repository = Repository::of("grunt");
    repository.explain().notices(&["package.json", "lockfile"]);
    strict_check_fails(&repository, "package.json");
}

#[test]
fn a_repository_in_order_passes_the_strict_check() {
    for name in ["react-webpack5", "berry-pnp", "pnpm", "bun", "npm-workspaces", "two-roots", "nothing-to-do"] {
        let (code, said) = Repository::of(name).check_strict();
        assert_eq!(code, Some(0), "{name}: {said}");
    }
}
