//! Processes that use, keep and remove at once, and such as are killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hookmill::cache::{Cache, Found};
use hookmill::domain::snapshot::{Level, Place};

use super::{Data, alone, inputs, main_branch, record};

const DIR: &str = "TEST_SNAPSHOTS_DIR";
const PATIENCE: Duration = Duration::from_secs(60);

/// Another process, which runs one of the tests below.
struct Other(Child);

impl Other {
    fn start(what: &str, data: &Path) -> Self {
        let this = std::env::current_exe().expect("this test");
        let args = ["--exact", what, "--ignored", "--nocapture"];
        let mut command = Command::new(this);
        command.args(args).env(DIR, data).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().expect("started");
        Self(child)
    }

    /// Reads until it says so.
    fn wait_for(&mut self, word: &str) {
        let out = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        assert!(out.lines().map_while(Result::ok).any(|line| line.contains(word)), "{word} was never said");
    }

    fn kill(mut self) {
        self.0.kill().expect("ours");
        self.0.wait().expect("ours");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

fn any_in(dir: &Path, holds: impl Fn(&Path) -> bool) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| entries.flatten().any(|entry| holds(&entry.path())))
}

#[test]
fn a_killed_process_leaves_no_half_layer() {
    type Reached = fn(&Path) -> bool;
    let states: [(&str, Reached); 4] = [
        ("before the files are in", |data| any_in(&data.join("snapshots/incoming"), |_| true)),
        ("while they are read", |data| any_in(&data.join("snapshots/incoming"), |one| one.join("files").exists())),
        ("while they go to the disk", |data| {
            any_in(&data.join("snapshots/incoming"), |one| one.join("sample").exists())
        }),
        ("when it has its place", |data| any_in(&data.join("snapshots/layers"), |_| true)),
    ];
    for (state, reached) in states {
        let data = Data::new();
        let other = Other::start("snapshots::sharing::seals_without_end", data.dir.path());
        until(state, || reached(data.dir.path()));
        other.kill();
        data.cache.clear_unfinished();
        assert!(!any_in(&data.path("snapshots/incoming"), |_| true), "{state}");
        let verified = data.cache.verify(false).expect("verified");
        assert_eq!(verified.damages, [], "{state}");
        data.cache.collect(u64::MAX, Duration::MAX).expect("collected");
        let layers = fs::read_dir(data.path("snapshots/layers")).map_or(0, Iterator::count);
        assert_eq!(layers, data.cache.list().len(), "{state}: what no record names went");
    }
}

#[test]
#[ignore = "run by another test, elsewhere"]
fn seals_without_end() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let cache = Cache::new(Path::new(&dir));
    for round in 0.. {
        let tree = Path::new(&dir).join("tree");
        for n in 0..400 {
            fs::create_dir_all(tree.join(format!("d{}", n % 20))).expect("made");
            fs::write(tree.join(format!("d{}/f{n}", n % 20)), format!("{n}").repeat(1000)).expect("written");
        }
        let sealed = cache.seal(&tree, u64::MAX).expect("sealed");
        let layers = vec![sealed.layer(Place::Tree)];
        cache.put(&record(&main_branch(), Level::Packages, &inputs(&format!("{round}")), layers)).expect("kept");
    }
}

#[test]
fn another_process_that_seals_is_left_alone() {
    let data = Data::new();
    let _other = Other::start("snapshots::sharing::seals_without_end", data.dir.path());
    for _ in 0..3 {
        let before = data.cache.list().len();
        until("it goes on", || {
            data.cache.clear_unfinished();
            data.cache.collect(u64::MAX, Duration::from_secs(3600)).expect("collected");
            data.cache.list().len() > before
        });
    }
    assert_eq!(data.cache.verify(false).expect("verified").damages.iter().filter(|one| one.removed).count(), 0);
}

#[test]
fn what_another_process_uses_is_not_removed_until_it_ends() {
    let data = Data::new();
    data.keep(&main_branch(), Level::Packages, &inputs("20"), &[("f", "f")]);
    let mut other = Other::start("snapshots::sharing::holds", data.dir.path());
    other.wait_for("held");
    let removed = data.cache.remove(&Default::default()).expect("tried");
    assert_eq!((removed.removed.len(), removed.in_use.len()), (0, 1));
    other.kill();
    let removed = data.cache.remove(&Default::default()).expect("removed");
    assert_eq!((removed.removed.len(), removed.in_use.len()), (1, 0));
}

#[test]
#[ignore = "run by another test, elsewhere"]
fn holds() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let found = Cache::new(Path::new(&dir)).find(&alone(&main_branch()), Level::Packages, &inputs("20"));
    assert!(matches!(found, Found::Hit(_)));
    println!("held");
    // Until it is killed, or its starter is gone.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("read");
}

#[test]
fn finding_and_removing_at_once_never_shows_half_of_a_snapshot() {
    let data = Data::new();
    let scope = main_branch();
    let _other = Other::start("snapshots::sharing::removes_without_end", data.dir.path());
    let (mut hits, mut misses) = (0, 0);
    let start = Instant::now();
    while hits < 50 || misses < 20 {
        assert!(start.elapsed() < PATIENCE, "{hits} hits, {misses} misses");
        match data.cache.find(&alone(&scope), Level::Packages, &inputs("20")) {
            Found::Hit(held) => {
                for dir in held.layers(Place::Tree) {
                    assert_eq!(fs::read_to_string(dir.join("f")).expect("held"), "f");
                }
                hits += 1;
            }
            Found::Miss(missed) => {
                assert_eq!(missed.damaged, None);
                misses += 1;
                data.keep(&scope, Level::Packages, &inputs("20"), &[("f", "f")]);
            }
        }
    }
}

#[test]
#[ignore = "run by another test, elsewhere"]
fn removes_without_end() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let cache = Cache::new(Path::new(&dir));
    loop {
        cache.remove(&Default::default()).expect("removed, or in use");
    }
}
