//! What a wish for a version means, and which of several versions meets it best. Pure.

use nodejs_semver::{Range, Version};

/// Lines of node with long-term support, by the names that `lts/…` uses.
///
/// From <https://github.com/nodejs/Release/blob/main/schedule.json>; a line that is not in it yet is
/// still found by its number.
const LTS: [(&str, u64); 11] = [
    ("argon", 4),
    ("boron", 6),
    ("carbon", 8),
    ("dubnium", 10),
    ("erbium", 12),
    ("fermium", 14),
    ("gallium", 16),
    ("hydrogen", 18),
    ("iron", 20),
    ("jod", 22),
    ("krypton", 24),
];

/// The npm that node brings along, by node's major: at most this major is chosen beside a fetched node.
///
/// From the `npm` column of <https://nodejs.org/dist/index.json>, the last release of each line. A newer npm often
/// runs too and behaves otherwise (lockfile formats, peer dependencies, install scripts). For node 6 it is npm 6
/// instead of its own 3, which has no `npm ci`.
const NPM_OF_NODE: [(u64, u64); 7] = [(23, 11), (18, 10), (16, 8), (15, 7), (6, 6), (4, 5), (0, 2)];

/// A version that is wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// A range as npm reads them.
    Range(Range),
    /// The newest line with long-term support, or the one that stands so many lines before it.
    Lts {
        /// `lts/-1` is the line before the newest.
        back: usize,
    },
    /// The newest of all.
    Latest,
}

impl Wish {
    /// Reads what `.nvmrc`, `engines` and their like say; the names are nvm's.
    pub(super) fn parse(text: &str) -> Option<Wish> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "latest" | "node" | "current" | "stable" => return Some(Wish::Latest),
            "lts" | "lts/*" => return Some(Wish::Lts { back: 0 }),
            _ => {}
        }
        if let Some(line) = text.strip_prefix("lts/") {
            if let Some(back) = line.strip_prefix('-') {
                return Some(Wish::Lts { back: back.parse().ok().filter(|back| *back < LTS.len())? });
            }
            let (_, major) = LTS.iter().find(|(name, _)| *name == line)?;
            return Range::parse(major.to_string()).ok().map(Wish::Range);
        }
        // npm reads the empty text as "any"; here it is a file that says nothing.
        (!text.is_empty()).then(|| Range::parse(&text).ok().map(Wish::Range))?
    }

    /// The version that meets the wish best.
    ///
    /// Of a range over several lines it is the newest with long-term support: `>=14` means "not older", not
    /// "whatever came out this morning".
    pub(super) fn best(&self, versions: &[Version]) -> Option<Version> {
        let released = || versions.iter().filter(|version| !version.is_prerelease());
        let fits: Vec<&Version> = match self {
            Wish::Latest => released().collect(),
            Wish::Lts { back } => {
                let line = self.lts_line(*back, versions)?;
                released().filter(|version| version.major() == line).collect()
            }
            Wish::Range(range) => versions.iter().filter(|version| range.satisfies(version)).collect(),
        };
        let lines = fits.iter().map(|version| version.major()).collect::<std::collections::BTreeSet<_>>().len();
        let with_support = || fits.iter().filter(|version| is_lts(version.major())).max();
        let best = if matches!(self, Wish::Range(_)) && lines > 1 { with_support() } else { None };
        best.or_else(|| fits.iter().max()).map(|version| (*version).clone())
    }

    /// Whether a version that is at hand will do without asking what else there is.
    pub(super) fn is_met_by(&self, version: &Version) -> bool {
        match self {
            Wish::Range(range) => range.satisfies(version),
            Wish::Lts { back } => LTS.iter().rev().nth(*back).is_some_and(|(_, line)| version.major() == *line),
            Wish::Latest => false,
        }
    }

    fn lts_line(&self, back: usize, versions: &[Version]) -> Option<u64> {
        let there = |line: &u64| versions.iter().any(|version| version.major() == *line);
        LTS.iter().rev().map(|(_, line)| *line).filter(there).nth(back)
    }
}

fn is_lts(major: u64) -> bool {
    LTS.iter().any(|(_, line)| *line == major)
}

/// The newest major of npm that belongs beside this node.
pub(super) fn npm_major(node: &Version) -> u64 {
    NPM_OF_NODE.iter().find(|(from, _)| node.major() >= *from).map_or(2, |(_, npm)| *npm)
}

/// What there is around a version that nobody has: `has 7.10.1 and 8.0.0` or `has up to 26.10.0`.
pub(super) fn nearest(wish: &Wish, versions: &[Version]) -> String {
    let mut released: Vec<&Version> = versions.iter().filter(|version| !version.is_prerelease()).collect();
    released.sort();
    let (Some(first), Some(last)) = (released.first(), released.last()) else { return "has none".to_owned() };
    let asked = match wish {
        Wish::Range(range) => range.min_version(),
        _ => None,
    };
    let before = asked.as_ref().and_then(|asked| released.iter().rev().find(|version| **version < asked));
    let after = asked.as_ref().and_then(|asked| released.iter().find(|version| **version >= asked));
    match (before, after) {
        (Some(before), Some(after)) => format!("has {before} and {after}, none between"),
        (Some(_), None) => format!("has up to {last}"),
        (None, Some(_)) => format!("has {first} and newer"),
        (None, None) => format!("has {first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(list: &str) -> Vec<Version> {
        list.split(' ').map(|text| Version::parse(text).expect("a version")).collect()
    }

    const NODES: &str = "0.12.18 8.17.0 10.24.1 14.21.3 16.13.0 16.20.2 18.20.8 19.9.0 20.19.5 21.7.3 22.9.0 22.23.3 23.1.0 24.4.0 25.1.0 26.10.0 27.0.0-rc.1";

    #[test]
    fn words_and_ranges() {
        let check = |wish: &str, expected: Option<&str>| {
            let best = Wish::parse(wish).unwrap_or_else(|| panic!("{wish} is a wish")).best(&versions(NODES));
            assert_eq!(best.map(|version| version.to_string()).as_deref(), expected, "{wish}");
        };
        check("22", Some("22.23.3"));
        check("v22.9.0", Some("22.9.0"));
        check("22.9", Some("22.9.0"));
        check(" 18.x\n", Some("18.20.8"));
        check(">=18 <21", Some("20.19.5"));
        check("^16.13 || >=18", Some("24.4.0"));
        check("^16.13 || ^18", Some("18.20.8"));
        check(">=14", Some("24.4.0"));
        check(">= 8.10.0", Some("24.4.0"));
        check("14 - 16", Some("16.20.2"));
        check("~16.13.0", Some("16.13.0"));
        check("*", Some("24.4.0"));
        check(">=25", Some("26.10.0"));
        check("0.12", Some("0.12.18"));
        check("lts/*", Some("24.4.0"));
        check("lts/-1", Some("22.23.3"));
        check("lts/iron", Some("20.19.5"));
        check("lts/Gallium", Some("16.20.2"));
        check("latest", Some("26.10.0"));
        check("node", Some("26.10.0"));
        check("99", None);
        check("9", None);
    }

    #[test]
    fn what_is_no_wish() {
        for text in ["", "iojs", "lts/banana", "lts/-40", "twenty", "file:../node"] {
            assert_eq!(Wish::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_at_hand_may_do() {
        let check = |wish: &str, version: &str, met| {
            let version = Version::parse(version).expect("a version");
            assert_eq!(Wish::parse(wish).expect("a wish").is_met_by(&version), met, "{wish} {version}");
        };
        check(">=14", "20.20.2", true);
        check("22", "20.20.2", false);
        check("lts/*", "24.1.0", true);
        check("lts/*", "22.1.0", false);
        check("lts/-1", "22.1.0", true);
        check("latest", "26.10.0", false);
    }

    #[test]
    fn what_there_is_instead() {
        let check = |wish: &str, expected: &str| {
            assert_eq!(nearest(&Wish::parse(wish).expect("a wish"), &versions(NODES)), expected, "{wish}");
        };
        check("99", "has up to 26.10.0");
        check("9", "has 8.17.0 and 10.24.1, none between");
        check("0.8.1", "has 0.12.18 and newer");
        assert_eq!(nearest(&Wish::Latest, &[]), "has none");
    }

    #[test]
    fn the_npm_that_belongs_to_a_node() {
        let check = |node: &str, npm| assert_eq!(npm_major(&Version::parse(node).expect("a version")), npm, "{node}");
        check("0.12.18", 2);
        check("6.17.1", 6);
        check("14.21.3", 6);
        check("16.20.2", 8);
        check("18.20.8", 10);
        check("22.1.0", 10);
        check("24.4.0", 11);
        check("26.10.0", 11);
    }
}
