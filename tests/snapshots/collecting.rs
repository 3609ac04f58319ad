//! Quota, age, and what somebody uses.

use std::fs;
use std::time::{Duration, SystemTime};

use hookmill::cache::Selection;
use hookmill::domain::build::BuildId;
use hookmill::domain::snapshot::{Level, Place, Record};
use hookmill::domain::trust::Trust;

use super::{Data, alone, inputs, main_branch, record, scope};

const HOUR: Duration = Duration::from_secs(3600);

/// Makes a record as old as `age`.
fn age(data: &Data, record: &Record, age: Duration) {
    let path = data
        .path("snapshots/scopes")
        .join(record.scope.id())
        .join(record.level.as_str())
        .join(format!("{}.json", record.inputs.key()));
    fs::File::open(path).expect("there").set_modified(SystemTime::now() - age).expect("ours");
}

fn kept(data: &Data) -> Vec<String> {
    data.cache.list().into_iter().map(|listed| listed.record.inputs.0[0].value.clone()).collect()
}

/// Three snapshots, used 3, 2 and 1 hours ago.
fn three(data: &Data) -> [Record; 3] {
    let scope = main_branch();
    [("1", 3), ("2", 2), ("3", 1)].map(|(node, hours)| {
        let text = node.repeat(100_000);
        let record = data.keep(&scope, Level::Packages, &inputs(node), &[("f", &text)]);
        age(data, &record, HOUR * hours);
        record
    })
}

#[test]
fn the_least_recently_used_goes_first_and_only_until_the_rest_fits() {
    let data = Data::new();
    let [oldest, ..] = three(&data);
    assert_eq!(kept(&data), ["3", "2", "1"]);
    drop(data.hit(&alone(&oldest.scope), Level::Packages, &inputs("1")));
    assert_eq!(kept(&data), ["1", "3", "2"], "a hit is a use");
    let one = data.cache.list()[0].bytes;
    assert_eq!(data.cache.bytes(), 3 * one);
    let collected = data.cache.collect(2 * one, HOUR * 100).expect("collected");
    assert_eq!(collected.over_quota.len(), 1);
    assert_eq!((collected.bytes, collected.kept_bytes), (one, 2 * one));
    assert_eq!(kept(&data), ["1", "3"]);
}

#[test]
fn what_is_in_use_stays_whatever_the_quota() {
    let data = Data::new();
    let [oldest, ..] = three(&data);
    let held = data.hit(&alone(&oldest.scope), Level::Packages, &inputs("1"));
    let collected = data.cache.collect(0, HOUR * 100).expect("collected");
    assert_eq!(collected.over_quota.len(), 2);
    assert_eq!(kept(&data), ["1"]);
    assert!(held.layers(Place::Tree)[0].join("f").exists());
    let all = data.cache.remove(&Selection::default()).expect("tried");
    assert_eq!((all.removed.len(), all.in_use.len(), all.bytes), (0, 1, 0));
    drop(held);
    let all = data.cache.remove(&Selection::default()).expect("removed");
    assert_eq!((all.removed.len(), all.in_use.len()), (1, 0));
    assert!(all.bytes > 100_000);
    assert_eq!(data.cache.bytes(), 0);
}

#[test]
fn what_nobody_used_for_long_goes_and_verdicts_go_by_age_only() {
    let data = Data::new();
    three(&data);
    let verdict = record(&main_branch(), Level::Verdict, &inputs("v"), Vec::new());
    data.cache.put(&verdict).expect("kept");
    age(&data, &verdict, HOUR * 10);
    data.cache.collect(0, HOUR * 100).expect("collected");
    assert_eq!(kept(&data), ["v"], "it takes nothing, so it is in nobody's way");
    let collected = data.cache.collect(u64::MAX, HOUR).expect("collected");
    assert_eq!(collected.old.len(), 1);
    let left = fs::read_dir(data.path("snapshots/scopes")).expect("there").count();
    assert_eq!((kept(&data).len(), left), (0, 0));
}

#[test]
fn a_layer_that_no_record_names_yet_stays_while_its_maker_holds_it() {
    let data = Data::new();
    let sealed = data.seal(&[("f", "f")]);
    data.cache.collect(u64::MAX, HOUR).expect("collected");
    data.cache.put(&record(&main_branch(), Level::Bower, &inputs("1"), vec![sealed.layer(Place::Tree)])).expect("kept");
    drop(sealed);
    data.hit(&alone(&main_branch()), Level::Bower, &inputs("1"));
    let forgotten = data.seal(&[("f", "f")]);
    let dir = data.layer(&forgotten.layer(Place::Tree));
    drop(forgotten);
    data.cache.collect(u64::MAX, HOUR).expect("collected");
    assert!(!dir.exists());
}

#[test]
fn a_shared_layer_counts_once_and_goes_with_its_last_name() {
    let data = Data::new();
    let shared = data.seal(&[("f", &"x".repeat(100_000))]);
    let (own, base) = (scope(Trust::Member, "refs/heads/topic"), main_branch());
    let chain = vec![shared.layer(Place::Tree)];
    for scope in [&own, &base] {
        data.cache.put(&record(scope, Level::Work, &inputs("1"), chain.clone())).expect("kept");
    }
    drop(shared);
    assert_eq!(data.cache.bytes(), data.cache.list()[0].bytes);
    data.cache.drop_scope(&own, BuildId(i64::MAX)).expect("dropped");
    data.hit(&alone(&base), Level::Work, &inputs("1"));
    data.cache.drop_scope(&base, BuildId(i64::MAX)).expect("dropped");
    assert_eq!(data.cache.bytes(), 0);
}

#[test]
fn a_dropped_scope_leaves_a_running_build_its_layers() {
    let data = Data::new();
    let own = scope(Trust::Fork, "refs/heads/topic");
    data.keep(&own, Level::Work, &inputs("1"), &[("f", "f")]);
    let held = data.hit(&alone(&own), Level::Work, &inputs("1"));
    data.cache.drop_scope(&own, BuildId(i64::MAX)).expect("dropped");
    assert!(held.layers(Place::Tree)[0].join("f").exists());
    data.miss(&alone(&own), Level::Work, &inputs("1"));
    drop(held);
    data.cache.collect(u64::MAX, HOUR).expect("collected");
    assert_eq!(data.cache.bytes(), 0);
}

#[test]
fn what_is_selected_goes() {
    let data = Data::new();
    let (topic, main) = (scope(Trust::Trusted, "refs/heads/topic"), main_branch());
    for scope in [&topic, &main] {
        for level in [Level::Packages, Level::Work] {
            data.keep(scope, level, &inputs("1"), &[("f", "f")]);
        }
    }
    let selection = |git_ref: Option<&str>, level| Selection {
        repo: Some("github/acme/shop".parse().expect("legal")),
        git_ref: git_ref.map(|git_ref| git_ref.parse().expect("legal")),
        level,
    };
    let gone = |selection: &Selection| data.cache.remove(selection).expect("removed").removed.len();
    assert_eq!(gone(&Selection { repo: Some("github/acme/other".parse().expect("legal")), ..Selection::default() }), 0);
    assert_eq!(gone(&selection(Some("refs/heads/topic"), Some(Level::Work))), 1);
    assert_eq!(gone(&selection(Some("refs/heads/topic"), None)), 1);
    assert_eq!(gone(&selection(None, None)), 2);
}

#[test]
fn a_miss_is_noted_until_it_is_old() {
    let data = Data::new();
    let scope = main_branch();
    assert_eq!(data.cache.last_miss(&scope, Level::Packages), None);
    let when = hookmill::domain::time::Timestamp(1_763_820_000_000);
    let build = BuildId(9);
    data.cache.note_miss(&scope, Level::Packages, &inputs("20"), build, when).expect("noted");
    let miss = data.cache.last_miss(&scope, Level::Packages).expect("noted");
    assert_eq!((miss.inputs, miss.build, miss.at), (inputs("20"), build, when));
    assert_eq!(miss.scope, scope);
    assert!(data.cache.list().is_empty(), "a note is no snapshot");
    data.cache.collect(u64::MAX, HOUR).expect("collected");
    assert!(data.cache.last_miss(&scope, Level::Packages).is_some());
    data.cache.collect(u64::MAX, Duration::ZERO).expect("collected");
    assert_eq!(data.cache.last_miss(&scope, Level::Packages), None);
}
