//! What does not hold is a miss that is told, and goes.

use std::fs;
use std::path::Path;

use hookmill::domain::snapshot::{Level, Place, Record};

use super::{Data, alone, inputs, main_branch, record};

/// Few enough that every use looks at all of them.
const FILES: [(&str, &str); 3] = [("m/a/index.js", "aaaa"), ("m/b/index.js", "bbbb"), ("m/c/index.js", "cccc")];

/// Keeps a snapshot, does `harm` to its layer and its record, and wants a miss that says `words`.
fn check(harm: impl Fn(&Path, &Path), words: &str) {
    let data = Data::new();
    let scope = main_branch();
    let kept = data.keep(&scope, Level::Packages, &inputs("20"), &FILES);
    let layer = data.layer(&kept.layers[0]);
    harm(&layer, &record_file(&data, &kept));

    let verified = data.cache.verify(false).expect("verified");
    assert!(!verified.damages.is_empty(), "{words}");
    assert!(verified.damages.iter().any(|damage| damage.what.contains(words)), "{words}: {verified:?}");

    let missed = data.miss(&alone(&scope), Level::Packages, &inputs("20"));
    let damaged = missed.damaged.expect("it is told");
    assert!(damaged.contains(words), "{words}: {damaged}");
    assert!(missed.nearest.is_none());
    data.cache.collect(u64::MAX, std::time::Duration::MAX).expect("collected");
    assert!(!layer.exists(), "{words}: the layer went");

    // The next one is as good as ever, and the first miss was the only one.
    data.keep(&scope, Level::Packages, &inputs("20"), &FILES);
    data.hit(&alone(&scope), Level::Packages, &inputs("20"));
    assert_eq!(data.cache.verify(true).expect("verified").damages, []);
}

fn record_file(data: &Data, record: &Record) -> std::path::PathBuf {
    data.path("snapshots/scopes")
        .join(record.scope.id())
        .join(record.level.as_str())
        .join(format!("{}.json", record.inputs.key()))
}

fn at(layer: &Path, rel: &str) -> std::path::PathBuf {
    layer.join("files").join(rel)
}

#[test]
fn a_file_that_was_written() {
    check(|layer, _| fs::write(at(layer, "m/b/index.js"), "evil").expect("written"), "m/b/index.js");
}

#[test]
fn a_file_that_was_written_and_given_its_old_time() {
    let harm = |layer: &Path, _: &Path| {
        let path = at(layer, "m/b/index.js");
        let then = fs::metadata(&path).expect("there").modified().expect("known");
        fs::write(&path, "evil").expect("written");
        fs::File::open(&path).expect("there").set_modified(then).expect("ours");
    };
    check(harm, "m/b/index.js was changed after it was sealed");
}

#[test]
fn a_file_of_another_size() {
    check(|layer, _| fs::write(at(layer, "m/b/index.js"), "bbb").expect("written"), "m/b/index.js is of another size");
}

#[test]
fn a_file_that_is_gone() {
    check(|layer, _| fs::remove_file(at(layer, "m/b/index.js")).expect("removed"), "m/b");
}

#[test]
fn a_file_that_was_added() {
    check(|layer, _| fs::write(at(layer, "m/b/new.js"), "").expect("written"), "m/b");
}

#[test]
fn a_folder_that_became_a_link() {
    let harm = |layer: &Path, _: &Path| {
        fs::rename(at(layer, "m"), at(layer, "elsewhere")).expect("moved");
        std::os::unix::fs::symlink("elsewhere", at(layer, "m")).expect("a link");
    };
    check(harm, "m");
}

#[test]
fn files_that_are_not_there_at_all() {
    check(|layer, _| fs::remove_dir_all(layer.join("files")).expect("removed"), "");
}

#[test]
fn a_layer_that_is_not_there() {
    check(|layer, _| fs::remove_dir_all(layer).expect("removed"), "is not there");
}

#[test]
fn a_record_that_is_garbage() {
    check(|_, record| fs::write(record, "{\"version\":1,").expect("written"), "can't be read");
    check(|_, record| fs::write(record, "").expect("written"), "can't be read");
}

#[test]
fn a_record_of_another_version() {
    check(|_, record| fs::write(record, "{\"version\":2,\"what\":[]}").expect("written"), "is of version 2, not 1");
}

#[test]
fn a_record_that_was_put_where_another_belongs() {
    let harm = |_: &Path, record: &Path| {
        let text = fs::read_to_string(record).expect("there").replace("refs/heads/main", "refs/heads/other");
        fs::write(record, text).expect("written");
    };
    check(harm, "is not what its place says");
}

#[test]
fn contents_that_changed_below_the_file_system_are_seen_by_verify() {
    let data = Data::new();
    let scope = main_branch();
    let kept = data.keep(&scope, Level::Packages, &inputs("20"), &FILES);
    // As if the disk had lied: the manifest says what never was, and everything that stat tells holds.
    let layer = data.layer(&kept.layers[0]);
    let manifest = fs::read_to_string(layer.join("manifest")).expect("there");
    let line = manifest.lines().find(|line| line.contains("m/b/index.js")).expect("a line a file");
    let digest = line.split("\"sha256\":\"").nth(1).expect("files have one").split('"').next().expect("64 digits");
    let other = "0".repeat(64);
    fs::write(layer.join("manifest"), manifest.replace(digest, &other)).expect("written");
    let verified = data.cache.verify(false).expect("verified");
    assert!(verified.damages.iter().any(|damage| damage.what.contains("its manifest was changed")), "{verified:?}");
    let meta = fs::read_to_string(layer.join("meta.json")).expect("there");
    let sum = meta.split("\"manifest_sha256\":\"").nth(1).expect("said").split('"').next().expect("64 digits");
    let now = {
        use sha2::{Digest, Sha256};
        hex::encode(Sha256::digest(fs::read(layer.join("manifest")).expect("there")))
    };
    fs::write(layer.join("meta.json"), meta.replace(sum, &now)).expect("written");
    let verified = data.cache.verify(true).expect("verified");
    let told: Vec<&str> = verified.damages.iter().map(|damage| damage.what.as_str()).collect();
    assert!(told[1].ends_with("m/b/index.js has other contents than were sealed"), "{told:?}");
    assert!(told[0].starts_with("the packages snapshot of github/acme/shop main (trusted): its layer"), "{told:?}");
    assert!(verified.damages.iter().all(|damage| damage.removed), "{verified:?}");
    assert!(!layer.exists() && data.cache.list().is_empty());
}

#[test]
fn a_damaged_layer_in_use_stays_for_its_user_and_is_offered_to_nobody() {
    let data = Data::new();
    let scope = main_branch();
    let kept = data.keep(&scope, Level::Packages, &inputs("20"), &FILES);
    let held = data.hit(&alone(&scope), Level::Packages, &inputs("20"));
    let layer = data.layer(&kept.layers[0]);
    fs::write(at(&layer, "m/b/index.js"), "evil").expect("written");
    let verified = data.cache.verify(true).expect("verified");
    assert_eq!(verified.damages.iter().map(|damage| damage.removed).collect::<Vec<_>>(), [true, false]);
    assert!(layer.exists());
    data.miss(&alone(&scope), Level::Packages, &inputs("20"));
    drop(held);
    data.cache.collect(u64::MAX, std::time::Duration::MAX).expect("collected");
    assert!(!layer.exists());
}

#[test]
fn one_bad_layer_of_a_chain_is_a_miss_and_takes_only_its_own_layer_along() {
    let data = Data::new();
    let scope = main_branch();
    let (top, bottom) = (data.seal(&[("a", "top")]), data.seal(&[("a", "bottom")]));
    let chain = vec![top.layer(Place::Tree), bottom.layer(Place::Tree)];
    data.cache.put(&record(&scope, Level::Work, &inputs("20"), chain.clone())).expect("kept");
    data.cache.put(&record(&scope, Level::Work, &inputs("18"), chain[1..].to_vec())).expect("kept");
    drop((top, bottom));
    fs::write(at(&data.layer(&chain[0]), "a"), "evil").expect("written");
    assert!(data.miss(&alone(&scope), Level::Work, &inputs("20")).damaged.is_some());
    data.hit(&alone(&scope), Level::Work, &inputs("18"));
}
