//! Why a step's cache did what it did, in a phrase: what stands in `Step::cache_note`.

use std::fmt;

use super::build::{BuildId, Cause};
use super::repo::CommitId;
use super::sentence::{MAX_CHARS, one_line};
use super::snapshot::{Difference, Level, Record};

/// The longest value that is shown beside the one that it replaced, in characters: versions are shorter.
const SHORT: usize = 24;

/// Why nothing was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// Somebody asked for a build without caches.
    Asked,
    /// The server's configuration says so for the repository.
    Server,
    /// The repository's own file says so.
    Repository,
    /// What is published from a tag is made from nothing.
    Tag,
}

/// What left a snapshot, as people find it again: `build #12`, `the run at 9f8e7d6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier<'a> {
    /// A build that has a number.
    Build(BuildId),
    /// A run on a developer's machine, where none has; at the commit that was checked out. The folder may have held
    /// changes that are in no commit.
    Run(&'a CommitId),
}

impl<'a> Earlier<'a> {
    /// What left `record`, in the words of a build that was caused by `cause`.
    pub fn of(record: &'a Record, cause: Cause) -> Self {
        if cause == Cause::Local { Self::Run(&record.sha) } else { Self::Build(record.build) }
    }
}

impl fmt::Display for Earlier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(id) => write!(f, "build #{id}"),
            // A folder without a repository, or without a commit yet.
            Self::Run(sha) if sha.is_zero() => f.write_str("an earlier run"),
            Self::Run(sha) => write!(f, "the run at {}", sha.short()),
        }
    }
}

/// For a hit on what `since` left.
pub fn unchanged(since: Earlier<'_>) -> String {
    format!("unchanged since {since}")
}

/// For a step that did not run: everything it depends on is as in a build that passed.
pub fn passed(record: &Record, cause: Cause) -> String {
    match Earlier::of(record, cause) {
        Earlier::Build(id) => format!("passed in build {id} ({})", record.sha.short()),
        run @ Earlier::Run(_) => format!("passed in {run}"),
    }
}

/// For a miss: `package-lock.json changed since build #12`, `node 18.20.4 → 20.11.1 since build #12`. `since` is what left
/// the nearest snapshot.
pub fn changed(difference: &Difference<'_>, since: Earlier<'_>) -> String {
    let end = format!(" since {since}");
    let what = match (difference.then, difference.now) {
        (None, _) => format!("{} is new", difference.name),
        (_, None) => format!("{} is gone", difference.name),
        (Some(then), Some(now)) if is_short(then) && is_short(now) => format!("{} {then} → {now}", difference.name),
        _ => format!("{} changed", difference.name),
    };
    format!("{}{end}", one_line(&what, MAX_CHARS - end.len()))
}

/// For a miss where no build left anything. Many bundlers keep nothing for their next run, however often they run.
pub fn first(level: Level) -> &'static str {
    match level {
        Level::Work => "no bundle has left a cache so far",
        _ => "nothing was kept before",
    }
}

/// For a miss where versions are looked up again, since no lockfile decides them.
pub fn expired(since: Earlier<'_>) -> String {
    format!("no lockfile says which versions; those of {since} are a day old")
}

/// For a cache that was not asked.
pub fn off(why: Off) -> &'static str {
    match why {
        Off::Asked => "asked for without caches",
        Off::Server => "caches are off for this repository (cache = false in its [[repo]])",
        Off::Repository => "switched off in .hookmill.toml",
        Off::Tag => "a tag is built from nothing",
    }
}

/// Digests say nothing to people, and neither do long values.
fn is_short(value: &str) -> bool {
    !value.is_empty() && !value.starts_with("sha256:") && value.chars().count() <= SHORT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_said_in_few_words() {
        let check = |name, then, now, said: &str| {
            assert_eq!(changed(&Difference { name, then, now }, Earlier::Build(BuildId(12))), said);
        };
        check("node", Some("18.20.4"), Some("20.11.1"), "node 18.20.4 → 20.11.1 since build #12");
        let (one, other) = (Some("sha256:00"), Some("sha256:11"));
        check("package-lock.json", one, other, "package-lock.json changed since build #12");
        check(".npmrc", None, other, ".npmrc is new since build #12");
        check("client/yarn.lock", one, None, "client/yarn.lock is gone since build #12");
        check("evil\nname\u{1b}[31m", None, other, "evil name is new since build #12");
        let long = changed(&Difference { name: &"x".repeat(500), then: None, now: one }, Earlier::Build(BuildId(12)));
        assert!(long.chars().count() <= MAX_CHARS && long.ends_with("… since build #12"), "{long}");
        assert_eq!(unchanged(Earlier::Build(BuildId(12))), "unchanged since build #12");
    }

    #[test]
    fn a_run_of_a_folder_is_named_by_the_commit_that_it_began_from() {
        let commit = |id: &str| id.repeat(40).parse::<CommitId>().expect("a commit id");
        let check = |sha: &str, said: &str| assert_eq!(unchanged(Earlier::Run(&commit(sha))), said);
        check("9", "unchanged since the run at 9999999");
        check("0", "unchanged since an earlier run");
    }
}
