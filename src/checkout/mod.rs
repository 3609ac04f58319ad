//! From a commit's id to a folder with exactly its files.
//!
//! In the order in which it happens: [`client`] starts a child process of our own binary and hands
//! it a [`Job`]; there `run` asks the `mirror` for the commit and fetches it over `transport` if it
//! is missing; `budget` and `names` judge the tree while `diff` walks it, before anything is
//! written; `workspace` writes the changed paths and `gitdir` the `.git` that the steps see;
//! `listing` says what a plan can be made from. The answer is [`Done`] or a [`Refusal`].
//!
//! A child process, because libgit2 can't be interrupted and has no bound on memory: a server that
//! sends a byte a second or a tree of 10^9 files costs a process, not the agent.

mod budget;
pub mod client;
mod diff;
mod gitdir;
mod guard;
mod history;
mod job;
mod listing;
mod local;
mod mirror;
mod names;
mod refusal;
mod run;
mod transport;
mod workspace;

pub use budget::Budget;
pub use guard::prepare;
pub use job::{Answer, Credential, Done, Job, Local, Network, Remote, Source};
pub use mirror::folder_name;
pub use refusal::{Refusal, RefusalKind};
pub use run::run;
