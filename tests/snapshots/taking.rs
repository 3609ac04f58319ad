//! Layers that are moved out, where nothing can be stacked.

use std::fs;

use hookmill::cache::Taken;
use hookmill::domain::snapshot::{Level, Place};

use super::{Data, alone, inputs, main_branch, record, text};

#[test]
fn all_layers_of_a_snapshot_can_be_moved_out_and_it_is_gone_then() {
    let data = Data::new();
    let scope = main_branch();
    let (tree, home) = (data.seal(&[("node_modules/a", "a")]), data.seal(&[(".cache/b", "b")]));
    let layers = vec![tree.layer(Place::Tree), home.layer(Place::Cache)];
    data.cache.put(&record(&scope, Level::Packages, &inputs("20"), layers.clone())).expect("kept");
    drop((tree, home));
    let mut held = data.hit(&alone(&scope), Level::Packages, &inputs("20"));
    for (layer, into) in layers.iter().zip(["tree", "home"]) {
        assert_eq!(data.cache.take(&mut held, &layer.id, &data.path(into)).expect("taken"), Taken::Moved);
    }
    assert_eq!((text(&data.path("tree/node_modules/a")), text(&data.path("home/.cache/b"))), ("a".into(), "b".into()));
    assert_eq!(data.miss(&alone(&scope), Level::Packages, &inputs("20")).damaged, None);
    assert_eq!(data.cache.bytes(), 0);
}

#[test]
fn what_another_uses_stays_and_can_be_copied() {
    let data = Data::new();
    let scope = main_branch();
    let kept = data.keep(&scope, Level::Packages, &inputs("20"), &[("f", "f")]);
    let other = data.hit(&alone(&scope), Level::Packages, &inputs("20"));
    let mut held = data.hit(&alone(&scope), Level::Packages, &inputs("20"));
    let taken = data.cache.take(&mut held, &kept.layers[0].id, &data.path("into")).expect("tried");
    assert_eq!(taken, Taken::InUse);
    drop(other);
    data.cache.remove(&Default::default()).expect("tried");
    assert_eq!(text(&held.layers(Place::Tree)[0].join("f")), "f", "it is still held");
    let taken = data.cache.take(&mut held, &kept.layers[0].id, &data.path("into")).expect("taken");
    assert_eq!(taken, Taken::Moved);
}

#[test]
fn all_of_it_is_looked_at() {
    let data = Data::new();
    let scope = main_branch();
    // More than any sample has.
    let files: Vec<(String, &str)> = (0..600).map(|n| (format!("d{}/f{n}", n % 7), "x")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let kept = data.keep(&scope, Level::Packages, &inputs("20"), &files);
    let mut held = data.hit(&alone(&scope), Level::Packages, &inputs("20"));
    fs::write(held.layers(Place::Tree)[0].join("d3/f38"), "y").expect("written");
    let taken = data.cache.take(&mut held, &kept.layers[0].id, &data.path("into")).expect("looked at");
    let Taken::Damaged(how) = taken else { panic!("{taken:?}") };
    assert!(how.contains("d3/f38"), "{how}");
    assert!(!data.path("into").exists() && !data.layer(&kept.layers[0]).exists());
    assert_eq!(data.miss(&alone(&scope), Level::Packages, &inputs("20")).damaged, None, "told already");
}
