//! Hookmill: a signed push becomes concurrent installs, a bundle and a commit status.
//!
//! # The life of a push
//!
//! 1. **A delivery knocks.** [`web::listener`] accepts the connection under deadlines and caps; [`web::hook`] bounds
//!    the body and picks the secrets by the address, before anything of the payload is read.
//! 2. **It is verified.** [`forge`] compares the HMAC of the raw bytes with every live secret. Only its
//!    success makes a `Verified<Delivery>`, and only from that does [`forge::read`] make an [`domain::event::Event`].
//! 3. **It is taken.** [`intake`] decides by pure rules (ignore, supersede, one build not two). [`store`] asks it inside
//!    the transaction that writes delivery, build and `pending` status, and syncs it to disk with its neighbours.
//!    Then, and not before, the answer is 202.
//! 4. **It is claimed.** Repositories take turns; [`worker`] takes the oldest build of the one whose turn it is, under a
//!    lease and a fence: who lost the lease can
//!    write nothing.
//! 5. **It is checked out.** [`checkout`] runs in a child process: the mirror is asked first, the tree is walked under
//!    a budget before its first file is written, and only what differs is touched.
//! 6. **It is planned.** [`plan`] turns a listing of the tree into stages of steps. It is pure and explains itself.
//! 7. **It runs.** [`runner`] looks up what earlier builds left ([`cache`]): a tree that passed passes at once, installs
//!    whose inputs are unchanged lie in the view already. It opens the build's holder ([`confine`]), starts the other
//!    installs side by side, then the bundle. [`process`] turns each step into events; [`runner::diagnosis`] says whose fault a failure was.
//! 8. **It is watched.** Each line goes to disk ([`blobs`]) and wakes who follows ([`live`], [`runner::follow`]).
//! 9. **It gets its final word.** The verdict and its status are written in one transaction; [`reporter`] sends the
//!    status until the forge has it. Then, and not before, what it left for the next builds is kept. [`sweeper`] mends
//!    what a crash left behind, and finds the push whose delivery never came.
//!
//! The folders are floors: a file imports from its own folder and from floors below it, which `tests/floors.rs` checks.

// what readers promise
#[cfg(any(test, fuzzing))]
pub mod fuzz;

// words and settings
pub mod config;
pub mod domain;

// ground: the machine
pub mod confine;
pub mod disk;
pub mod outside;
pub mod process;
pub mod tree;

// abilities: each knows one outside thing, none knows another
pub mod blobs;
pub mod cache;
pub mod checkout;
pub mod egress;
pub mod forge;
pub mod live;
pub mod plan;
pub mod store;
pub mod toolchain;

// flow
pub mod intake;
pub mod reporter;
pub mod runner;
pub mod sweeper;
pub mod worker;

// doors
pub mod cli;
pub mod inside;
pub mod web;

// the join
pub mod app;
pub mod telemetry;

/// Every promise of a reader of strangers' bytes, for `tests/fuzz/`.
#[cfg(any(test, fuzzing))]
pub fn promises() -> impl Iterator<Item = &'static fuzz::Target> {
    [
        checkout::fuzz::TARGETS,
        config::fuzz::TARGETS,
        domain::fuzz::TARGETS,
        egress::fuzz::TARGETS,
        forge::fuzz::TARGETS,
        plan::fuzz::TARGETS,
        runner::downloads::fuzz::TARGETS,
        runner::environment::fuzz::TARGETS,
        toolchain::fuzz::TARGETS,
        web::fuzz::TARGETS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_promise_has_a_name_of_its_own() {
        let names: Vec<&str> = super::promises().map(|target| target.name).collect();
        let different: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), different.len(), "{names:?}");
    }
}
