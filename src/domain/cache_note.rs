//! Why a step's cache did what it did, in a phrase: what stands in `Step::cache_note`.

use super::build::BuildId;
use super::sentence::{MAX_CHARS, one_line};
use super::snapshot::Difference;

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

/// For a hit on what build `since` left.
pub fn unchanged(since: BuildId) -> String {
    format!("unchanged since build #{since}")
}

/// For a miss: `package-lock.json changed since build #12`, `node 18.20.4 → 20.11.1 since build #12`. `since` is the build that
/// left the nearest snapshot.
pub fn changed(difference: &Difference<'_>, since: BuildId) -> String {
    let end = format!(" since build #{since}");
    let what = match (difference.then, difference.now) {
        (None, _) => format!("{} is new", difference.name),
        (_, None) => format!("{} is gone", difference.name),
        (Some(then), Some(now)) if is_short(then) && is_short(now) => format!("{} {then} → {now}", difference.name),
        _ => format!("{} changed", difference.name),
    };
    format!("{}{end}", one_line(&what, MAX_CHARS - end.len()))
}

/// For a miss where no build left anything.
pub fn first() -> &'static str {
    "nothing was kept before"
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
            assert_eq!(changed(&Difference { name, then, now }, BuildId(12)), said);
        };
        check("node", Some("18.20.4"), Some("20.11.1"), "node 18.20.4 → 20.11.1 since build #12");
        let (one, other) = (Some("sha256:00"), Some("sha256:11"));
        check("package-lock.json", one, other, "package-lock.json changed since build #12");
        check(".npmrc", None, other, ".npmrc is new since build #12");
        check("client/yarn.lock", one, None, "client/yarn.lock is gone since build #12");
        check("evil\nname\u{1b}[31m", None, other, "evil name is new since build #12");
        let long = changed(&Difference { name: &"x".repeat(500), then: None, now: one }, BuildId(12));
        assert!(long.chars().count() <= MAX_CHARS && long.ends_with("… since build #12"), "{long}");
        assert_eq!(unchanged(BuildId(12)), "unchanged since build #12");
    }
}
