//! What is kept is found, by exactly its inputs, in the order of the lineage.

use std::fs;

use hookmill::cache::CacheError;
use hookmill::domain::snapshot::{Level, Lineage, Place};
use hookmill::domain::trust::Trust;

use super::{Data, alone, inputs, main_branch, record, scope, text};

#[test]
fn a_directory_becomes_a_layer_and_is_found_by_its_inputs() {
    let data = Data::new();
    let tree = data.tree(&[("node_modules/a/index.js", "a"), ("node_modules/b/index.js", "b")]);
    std::os::unix::fs::symlink("../a", tree.join("node_modules/b/a")).expect("a link");
    let sealed = data.cache.seal(&tree, u64::MAX).expect("sealed");
    assert!(!tree.exists());
    assert_eq!(sealed.entries, 6);
    let scope = main_branch();
    let kept = record(&scope, Level::Packages, &inputs("20"), vec![sealed.layer(Place::Tree)]);
    data.cache.put(&kept).expect("kept");
    drop(sealed);

    let held = data.hit(&alone(&scope), Level::Packages, &inputs("20"));
    assert_eq!(held.record, kept);
    let layers = held.layers(Place::Tree);
    assert_eq!(text(&layers[0].join("node_modules/b/a/index.js")), "a");
    assert!(held.layers(Place::Cache).is_empty());

    let missed = data.miss(&alone(&scope), Level::Packages, &inputs("22"));
    assert_eq!(missed.nearest.as_ref(), Some(&kept));
    assert_eq!(missed.damaged, None);
    assert!(data.miss(&alone(&scope), Level::Bower, &inputs("20")).nearest.is_none());
    let member = scope_of_member();
    assert!(data.miss(&alone(&member), Level::Packages, &inputs("20")).nearest.is_none());
}

fn scope_of_member() -> hookmill::domain::snapshot::Scope {
    scope(Trust::Member, "refs/heads/main")
}

#[test]
fn the_lineage_is_asked_in_order() {
    let data = Data::new();
    let (own, base) = (scope(Trust::Member, "refs/heads/topic"), main_branch());
    let lineage = Lineage { own: own.clone(), above: vec![base.clone()] };
    let of_base = data.keep(&base, Level::Work, &inputs("20"), &[("f", "base")]);
    assert_eq!(data.hit(&lineage, Level::Work, &inputs("20")).record, of_base);
    let of_own = data.keep(&own, Level::Work, &inputs("20"), &[("f", "own")]);
    assert_eq!(data.hit(&lineage, Level::Work, &inputs("20")).record, of_own);
    assert_eq!(data.hit(&alone(&base), Level::Work, &inputs("20")).record, of_base);
}

#[test]
fn downloads_are_the_newest_whatever_their_inputs() {
    let data = Data::new();
    let scope = main_branch();
    assert!(data.cache.newest(&alone(&scope), Level::Downloads).is_none());
    data.keep(&scope, Level::Downloads, &inputs("20"), &[("f", "old")]);
    let newer = data.keep(&scope, Level::Downloads, &inputs("22"), &[("f", "new")]);
    assert_eq!(data.cache.newest(&alone(&scope), Level::Downloads).expect("kept").record, newer);
    assert_eq!(data.cache.list().len(), 1);
}

#[test]
fn a_verdict_has_no_layers() {
    let data = Data::new();
    let scope = main_branch();
    data.cache.put(&record(&scope, Level::Verdict, &inputs("20"), Vec::new())).expect("kept");
    assert!(data.hit(&alone(&scope), Level::Verdict, &inputs("20")).layers(Place::Tree).is_empty());
}

#[test]
fn too_large_is_refused_with_both_sizes_and_leaves_nothing() {
    let data = Data::new();
    let tree = data.tree(&[("large", &"x".repeat(100_000))]);
    let error = data.cache.seal(&tree, 50_000).expect_err("too large");
    let CacheError::TooLarge { bytes, limit: 50_000 } = error else { panic!("{error}") };
    assert!(error.to_string().contains(&bytes.to_string()) && bytes >= 100_000, "{error}");
    assert!(!tree.exists());
    assert_eq!(fs::read_dir(data.path("snapshots/incoming")).expect("there").count(), 0);
}
