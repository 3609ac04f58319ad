//! Whatever is kept from build to build, a bundle is the one that a build from nothing gives.
//!
//! Two servers take every push: one keeps what it may, the other has `cache = false`. After each change of random
//! sequences the files of `dist/` are the same, byte by byte, and whatever was kept before for the same inputs is used. `HOOKMILL_CACHE_SEED` repeats a sequence and
//! `HOOKMILL_CACHE_STEPS` makes it longer. Uses git, node, npm, and the registry that npm here is configured for.

mod pair;
mod shop;

use std::time::{Duration, Instant};

use pair::{Pair, steps};
use serde_json::Value;
use shop::Change;

use crate::support::lockfiles::Manager;

/// So many changes are made unless somebody asks for another number of them.
const STEPS: u64 = 8;
/// After this long no further change is made, unless somebody asked for a number of them: a longer sequence has the
/// shorter one of its seed as its beginning.
fn long_enough(manager: Manager) -> Duration {
    Duration::from_secs(if manager == Manager::Npm { 25 } else { 12 })
}

/// Numbers from a seed: `SplitMix64`, which is enough to choose by.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) % bound as u64).expect("below a usize")
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Makes changes by the numbers of a seed, and tells it.
fn anything_by(manager: Manager) {
    let seed = variable("HOOKMILL_CACHE_SEED").unwrap_or_else(|| {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the system has random numbers");
        u64::from_le_bytes(random)
    });
    println!("HOOKMILL_CACHE_SEED={seed}");
    let asked = variable("HOOKMILL_CACHE_STEPS");
    let begun = Instant::now();
    let mut numbers = Numbers(seed);
    let mut pair = Pair::of(manager);
    for _ in 0..asked.unwrap_or(STEPS) {
        if asked.is_none() && begun.elapsed() > long_enough(manager) {
            break;
        }
        pair.make(Change::any(|bound| numbers.below(bound)));
    }
}

#[test]
fn bundles_are_those_of_a_build_from_nothing_after_any_changes() {
    anything_by(Manager::Npm);
}

#[test]
fn and_by_yarn_1() {
    anything_by(Manager::Yarn1);
}

#[test]
fn and_by_pnpm() {
    anything_by(Manager::Pnpm);
}

#[test]
fn and_by_berry() {
    anything_by(Manager::Berry);
}

#[test]
fn an_edit_in_place_is_not_there_any_more_when_its_script_does_not_make_it() {
    let mut pair = Pair::of(Manager::Npm);
    for change in [Change::EditedInPlace(1), Change::EditedInPlace(2), Change::EditedInPlace(0)] {
        pair.make(change);
    }
}

#[test]
fn what_no_lockfile_and_no_file_of_the_tree_tells_of_is_seen() {
    let mut pair = Pair::of(Manager::Npm);
    let no_lockfile = [Change::Patched(1), Change::Patched(2), Change::Babel(1)];
    let no_file = [Change::Environment(1), Change::Node(1)];
    for change in no_lockfile.into_iter().chain(no_file) {
        pair.make(change);
    }
}

/// Of which build each step's snapshot is, or in which input it differs.
fn notes(build: &Value) -> [&str; 3] {
    steps(build).map(|step| step["cache_note"].as_str().unwrap_or_default())
}

#[test]
fn each_change_costs_what_depends_on_it() {
    let mut pair = Pair::of(Manager::Npm);
    let of_the_first = "unchanged since build #1";
    let source = pair.make(Change::Source(1, 1));
    assert_eq!(notes(&source), [of_the_first; 3], "a source");
    let added = pair.make(Change::Added(1, 0));
    assert_eq!(notes(&added)[0], "package-lock.json changed since build #1", "a dependency");
    let reverted = pair.make(Change::Reverted);
    assert_eq!(notes(&reverted)[0], of_the_first, "the older snapshot");
    let same = pair.make(Change::Same);
    assert_eq!(same["same_as"], reverted["id"]);
}

#[test]
fn another_branch_and_another_configuration_take_the_dependencies_of_main() {
    let mut pair = Pair::of(Manager::Npm);
    let of_the_first = "unchanged since build #1";
    let switched = pair.make(Change::Switched(1));
    assert_eq!(notes(&switched)[..2], [of_the_first; 2], "what main kept");
    let configured = pair.make(Change::Configured(1));
    assert_eq!(notes(&configured)[..2], [of_the_first; 2], "no dependency");
    assert!(notes(&configured)[2].starts_with("webpack.config.js changed since build #"), "{configured:#}");
}
