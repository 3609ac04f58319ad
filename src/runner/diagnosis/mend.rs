//! The lines that mend a cause, ready to paste: each block begins with the file that it belongs into, as a comment.

use crate::domain::trust::Trust;

const REPOSITORY_FILE: &str = "# .hookmill.toml";
const SERVER_FILE: &str = "# the server's hookmill.toml";

/// Lines of the repository's own file.
pub(super) fn repository(lines: &str) -> String {
    format!("{REPOSITORY_FILE}\n{lines}")
}

/// Lines of the server's configuration.
pub(super) fn server(lines: &str) -> String {
    format!("{SERVER_FILE}\n{lines}")
}

/// `[env]` with one variable.
pub(super) fn env(name: &str, value: &str) -> String {
    repository(&format!("[env]\n{name} = {}", quoted(value)))
}

/// `[toolchain]` with one tool.
pub(super) fn toolchain(tool: &str, version: &str) -> String {
    repository(&format!("[toolchain]\n{tool} = {}", quoted(version)))
}

/// `[checkout]` with what scripts need that ask git for its history.
pub(super) fn history(tags: bool) -> String {
    repository(if tags { "[checkout]\ndepth = 0\ntags = true" } else { "[checkout]\ndepth = 0" })
}

/// Debian packages; other systems name theirs alike.
pub(super) fn packages(names: &str) -> String {
    format!("# on the agent\napt-get install {names}")
}

/// A command for a developer's clone, whose result is committed.
pub(super) fn by_hand(commands: &str) -> String {
    format!("# in your clone, then commit what it changes\n{commands}")
}

/// Two ways, the better one first.
pub(super) fn or(first: &str, second: &str) -> String {
    format!("{first}\n\n# or\n{second}")
}

/// What a fork's author has to know of lines for the repository file: it is read from the base commit.
pub(super) fn for_trust(lines: String, trust: Trust) -> String {
    match trust {
        Trust::Fork if lines.contains(REPOSITORY_FILE) => {
            format!("# a fork's build reads .hookmill.toml from the base branch: the lines have to be there\n\n{lines}")
        }
        _ => lines,
    }
}

/// A TOML basic string. The text may be what a step printed.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_is_toml() {
        let said = |lines: &str, table: &str, key: &str| {
            let file: toml::Table = lines.parse().expect(lines);
            file[table][key].as_str().map_or_else(|| file[table][key].to_string(), str::to_owned)
        };
        assert_eq!(said(&env("A", "say \"hi\"\\\n"), "env", "A"), "say \"hi\"\\\n");
        assert_eq!(said(&toolchain("node", ">=16 <17"), "toolchain", "node"), ">=16 <17");
        assert_eq!(said(&history(true), "checkout", "depth"), "0");
    }
}
