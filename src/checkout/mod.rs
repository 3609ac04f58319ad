//! From a commit's id to a folder with exactly its files.
//!
//! In the order in which it happens: [`client`] starts a child process of our own binary and hands
//! it a [`Job`]; there `run` asks the `mirror` for the commit and fetches it over `transport` if it
//! is missing; `settings` reads the repository file and `needless` whether a build is needed at all;
//! `submodules` fetches what `gitmodules` names; `budget` and `names` judge the tree while `diff`
//! walks it, and `contents` gets what `attributes` ask for (`lfs`, `convert`), all before anything is
//! written; `workspace` changes the paths through `writer`, and `gitdir` the `.git` that the steps
//! see; `listing` says what a plan can be made from. Now and then, `consolidate` makes one pack of a
//! mirror's many, `collect` removes mirrors that nobody used for long, and `heads` asks where
//! everything stands. The answer is [`Done`] or a [`Refusal`].
//!
//! A child process, because libgit2 can't be interrupted and has no bound on memory: a server that
//! sends a byte a second or a tree of 10^9 files costs a process, not the agent.

mod attributes;
mod budget;
pub mod client;
mod collect;
mod consolidate;
mod contents;
mod convert;
mod diff;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gitdir;
mod gitmodules;
mod guard;
mod heads;
mod history;
mod job;
mod lfs;
mod listing;
mod local;
mod mirror;
mod names;
mod needless;
mod newcomers;
mod refusal;
mod run;
mod settings;
mod submodules;
mod transport;
mod workspace;
mod writer;

pub use budget::Budget;
pub use collect::{CollectedMirrors, collect, mirrored_bytes};
pub use consolidate::{consolidate, crowded, is_crowded};
pub use guard::{prepare, prepare_unattended};
pub use heads::{AskHeads, Heads, heads};
pub use job::{Answer, Base, Credential, Done, Job, Local, Needless, Network, Remote, Source};
pub use mirror::folder_name;
pub use refusal::{Refusal, RefusalKind};
pub use run::run;
