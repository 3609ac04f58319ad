//! What the words that strangers choose promise: lockfiles, and the one line that a forge shows.

use super::lockfile::{Lockfile, NAMES};
use super::sentence::{MAX_CHARS, one_line};
use crate::fuzz::Target;

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[
    Target {
        name: "lockfile",
        real: &[
            br#"{"name":"shop","lockfileVersion":3,"packages":{"":{"name":"shop","dependencies":{"alpha":"^1.0.0"}},"node_modules/alpha":{"version":"1.0.0"}}}"#,
            br#"{"lockfileVersion":1,"dependencies":{"alpha":{"version":"1.0.0","requires":{"beta":"1"}}}}"#,
            b"# yarn lockfile v1\n\n\nalpha@^1.0.0, \"alpha@npm:1\":\n  version \"1.0.0\"\n  resolved \"https://r.example/alpha/-/alpha-1.0.0.tgz#abc\"\n",
            b"__metadata:\n  version: 8\n\n\"shop@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"shop@workspace:.\"\n  dependencies:\n    alpha: \"npm:^1.0.0\"\n",
            b"lockfileVersion: '9.0'\n\nsettings:\n  autoInstallPeers: true\n\nimporters:\n\n  .:\n    dependencies:\n      alpha:\n        specifier: ^1.0.0\n        version: 1.0.0\n",
            b"{\n  \"lockfileVersion\": 1,\n  \"workspaces\": {\n    \"\": { \"name\": \"shop\", \"dependencies\": { \"alpha\": \"^1.0.0\", }, },\n  },\n}\n",
        ],
        words: &[
            "importers:", "specifier: ", "lockfileVersion: ", "overrides:", "__metadata:", "&a ", "*a", "<<: ", "- ", "? ", ": ", "\n  ",
            "!!binary ", "[", "{", "}", "]", "|\n", ">-\n", "\"", "'", "\\", "#", "---\n", "%YAML 1.2\n", "\t", "\r\n", "\"packages\":", "//",
            "/*", "*/", ",", "1e400", "\u{feff}",
        ],
        tries: 800,
        holds: lockfiles,
    },
    Target {
        name: "one-line",
        real: &[b"\x1b[31mnpm ERR!\x1b[0m code ERESOLVE\nnpm ERR! \x1b]8;;https://x\x07link\x1b]8;;\x07", "größe \u{202e}txt.exe\u{200b}".as_bytes()],
        words: &["\x1b[", "m", "\x1b]", "\x07", "\x1b\\", "\u{9b}", "\u{202e}", "\u{ad}", "\u{feff}", "\0", "\n", "\r", "ü", "👩‍🚀"],
        tries: 3000,
        holds: lines,
    },
];

/// Any lockfile is read in the same way each time, or not at all.
fn lockfiles(bytes: &[u8]) {
    for name in NAMES {
        let read = Lockfile::read(name, bytes);
        assert_eq!(read, Lockfile::read(name, bytes), "{name}");
        if let Some(read) = read {
            let written = serde_json::to_vec(&read).expect("JSON");
            assert_eq!(serde_json::from_slice::<Lockfile>(&written).expect("our own words"), read, "{name}");
        }
    }
}

/// One line that fits, shows all that it says, and stays as it is when it is said again.
fn lines(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for max in [1, 20, MAX_CHARS] {
        let line = one_line(&text, max);
        assert!(line.chars().count() <= max, "{line:?}");
        assert!(
            !line.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')),
            "{line:?}"
        );
        assert_eq!(one_line(&line, max), line);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}
