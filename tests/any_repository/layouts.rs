//! Where the front end lies in a repository, and how many there are.

use crate::any_repository::repository::Repository;

#[test]
fn npm_workspaces_are_installed_once_and_built_in_the_order_of_their_dependencies() {
    let repository = Repository::of("npm-workspaces");
    let plan = repository.explain();
    assert_eq!(plan.stages()[0], "npm");
    let order = plan.order_of(&["packages/tokens", "packages/ui", "packages/app"]);
    assert!(order.is_sorted(), "{order:?}: {plan:#?}");
    let built = repository.build();
    built.passed();
}

#[test]
fn a_pnpm_workspace() {
    let repository = Repository::of("pnpm-workspace");
    let plan = repository.explain();
    assert_eq!(plan.stages()[0], "pnpm");
    repository.build().passed();
}

#[test]
fn lerna_and_turbo_by_their_roots_build_script() {
    let lerna = Repository::of("lerna").explain();
    assert_eq!(lerna.stages()[1..], ["bundle"], "{lerna:#?}");
    assert_eq!((lerna.dir("bundle"), lerna.stages().len()), (".".to_owned(), 2));

    let turbo = Repository::of("turbo").explain();
    assert_eq!(turbo.stages(), ["yarn", "bundle"]);
    assert_eq!(turbo.command("bundle"), "yarn run build");
}

#[test]
fn two_roots_side_by_side() {
    let repository = Repository::of("two-roots");
    let plan = repository.explain();
    assert_eq!(plan.stages(), ["npm:admin | npm:client", "bundle:admin | bundle:client"]);
    assert_eq!((plan.dir("npm:client"), plan.dir("bundle:admin")), ("client".to_owned(), "admin".to_owned()));
    repository.build().passed_by(&["npm:admin", "npm:client", "bundle:admin", "bundle:client"]);
}

#[test]
fn a_front_end_in_a_folder_of_a_rails_or_spring_repository() {
    for (name, dir) in [("rails", "frontend"), ("spring", "src/main/frontend")] {
        let repository = Repository::of(name);
        let plan = repository.explain();
        let install = format!("npm:{dir}");
        assert_eq!(plan.stages().len(), 2, "{plan:#?}");
        // What is vendored, and what tests feed on, is nobody's project.
        assert_eq!(plan.stages()[0], install, "{plan:#?}");
        assert_eq!(plan.dir(&plan.stages()[1]), dir);
        repository.build().passed().says(&["built with node"]);
    }
}

#[test]
fn a_repository_with_nothing_to_do() {
    let repository = Repository::of("nothing-to-do");
    assert!(repository.explain().stages().is_empty());
    repository.build().passed_by(&[]);
}
