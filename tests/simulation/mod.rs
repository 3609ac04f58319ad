//! A seeded simulation of what must not be lost: states, queue, outbox, leases.
//!
//! Two servers, three agents, a database, a forge and its developers live in one number line of time; what breaks is
//! drawn from a seed. The decisions are the production's own: `intake::decide`, `domain::lease`, `domain::outbox`, and the
//! sender's `reporter::Course`. The database is a model (`tables`), and `differential` holds it to what the real store
//! answers. After ten minutes of trouble everything is mended and must come to rest; then the promises are looked at
//! (`ledger`):
//!
//! - every acknowledged delivery ends in exactly one final word for each build and context;
//! - no fence is held twice, and nobody writes under an old one;
//! - no two agents run one build, unless one was stopped and cannot know (or the database's clock jumped);
//! - pending is never the last that the forge hears;
//! - no build, superseded or not, has the last word over a newer one.
//!
//! `HOOKMILL_SEED=17 cargo test --test all one_seed -- --nocapture` tells the story of one seed; a failure names
//! its seed. `mutations` takes one rule after the other away and expects the simulation to notice.

mod differential;
mod forge;
mod ledger;
mod mutations;
mod payloads;
mod tables;
mod world;

use hookmill::domain::outbox::Fate;
use tables::Without;

/// Runs seeds until one breaks a promise; that one.
fn first_broken(seeds: std::ops::Range<u64>, without: Without) -> Option<u64> {
    seeds.into_iter().find(|seed| world::run(*seed, without).is_err())
}

fn tell(seed: u64, without: Without) -> String {
    let (end, trace) = world::replay(seed, without);
    let end = end.err().unwrap_or_else(|| "every promise was kept".to_owned());
    format!("{}\nseed {seed}: {end}", trace.join("\n"))
}

fn keeps_its_promises(seeds: std::ops::Range<u64>) {
    if let Some(seed) = first_broken(seeds, Without::Nothing) {
        panic!(
            "{}\nagain: HOOKMILL_SEED={seed} cargo test --test all one_seed -- --nocapture",
            tell(seed, Without::Nothing)
        );
    }
}

#[test]
fn a_thousand_seeds_keep_every_promise() {
    keeps_its_promises(0..1000);
}

#[test]
fn the_second_thousand_too() {
    keeps_its_promises(1000..2000);
}

#[test]
fn and_the_third() {
    keeps_its_promises(2000..3000);
}

/// Not in every run: some minutes of seeds that nobody looked at before.
#[test]
#[ignore = "takes minutes: for a change of the rules"]
fn fifty_thousand_more() {
    keeps_its_promises(10_000..60_000);
}

/// Between them the seeds see everything that the promises are about.
#[test]
fn everything_happens() {
    let worlds = (0..300).map(|seed| world::run(seed, Without::Nothing).expect("it keeps its promises"));
    let mut happened = std::collections::BTreeMap::<&str, usize>::new();
    for world in worlds {
        for row in world.tables.builds.values() {
            let reason = row.reason.as_deref().unwrap_or_default();
            for (what, did) in [
                ("lost three times", reason == "agent lost"),
                ("claimed again", row.fence > 1),
                ("given back", i64::from(row.claims) < row.fence),
                ("superseded", row.superseded_by.is_some()),
                ("cancelled by a person", reason == "cancelled by jane"),
                (
                    "ended with its branch or pull request",
                    reason.ends_with("was deleted") || reason.ends_with("was closed"),
                ),
                ("nobody approved it", reason.starts_with("nobody approved")),
                ("repeated", row.new.rerun_of.is_some()),
            ] {
                *happened.entry(what).or_default() += usize::from(did);
            }
        }
        for said in world.tables.outbox.values() {
            *happened.entry("dropped for a newer build").or_default() += usize::from(said.fate == Fate::Dropped);
            *happened.entry("said more than once").or_default() += usize::from(said.attempts > 1);
        }
    }
    println!("{happened:#?}");
    assert!(happened.values().all(|times| *times > 0), "{happened:#?}");
}

/// The one to play with.
#[test]
fn one_seed() {
    let wished = std::env::var("HOOKMILL_SEED").ok();
    let seed = wished.as_ref().map_or(2000, |seed| seed.parse().expect("HOOKMILL_SEED is a number"));
    let (end, trace) = world::replay(seed, Without::Nothing);
    if wished.is_some() || end.is_err() {
        println!("{}", trace.join("\n"));
    }
    assert_eq!(end, Ok(()), "HOOKMILL_SEED={seed}");
}
