//! What the repository file promises, which whoever wrote the commit wrote.

use super::repo_file::{FILE_NAME, RepoFile};
use crate::domain::repo::RefName;
use crate::fuzz::Target;

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[Target {
    name: "repository-file",
    real: &[
        b"[env]\nNODE_ENV = \"production\"\n\n[[install]]\ntool = \"npm\"\ndir = \"client\"\ncommand = [\"npm\", \"ci\"]\ntimeout = \"5m\"\n\n\
          [bundle]\ncommand = [\"npm\", \"run\", \"build\"]\ndir = \"client\"\noutput = \"dist\"\nnetwork = [\"fonts.example:443\"]\n",
        b"[[check]]\nname = \"lint\"\ncommand = [\"npm\", \"run\", \"lint\"]\nafter = \"bundle\"\n\n[cache]\npaths = [\".cache\"]\ninputs = [\"*.js\"]\n\n\
          [toolchain]\nnode = \"22\"\n\n[checkout]\ndepth = 0\ntags = true\nsubmodules = false\nlfs = false\n",
        b"[budget]\ntotal = \"1MB\"\nmeasure = \"gzip\"\nassets = { \"*.js\" = \"200kB\" }\n[paths]\nignore = [\"docs/**\"]\n[artifacts]\npaths = [\"dist\"]\nwhen = \"always\"\n\
          [on.\"release/*\"]\nenv = { A = \"1\" }\n[on.pull_request]\nbundle = { command = [\"true\"] }\n",
    ],
    words: &[
        "[on.\"", "[[install]]\n", "[bundle]\n", "= ", "\"", "'''", "\"\"\"", "\n", "[", "]", "{", "}", ",", ".", "\\u0000", "\\", "../", "**", "*.js",
        "nope", "\u{202e}", "ü", "1979-05-27", "0x", "inf", "9223372036854775808", "\t", "\r", "#", "\0", "network = true", "timeout = \"",
    ],
    tries: 1500,
    holds: repository_files,
}];

/// A file is read the same way each time, or everything that is wrong with it can be shown, on lines that hold nothing but
/// text.
fn repository_files(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match RepoFile::parse(text, FILE_NAME) {
        Ok(file) => {
            assert_eq!(RepoFile::parse(text, FILE_NAME).ok().as_ref(), Some(&file));
            for git_ref in ["refs/heads/main", "refs/heads/release/1", "refs/tags/v1", "refs/pull/1/head"] {
                let _: RefName = git_ref.parse().expect("a ref");
            }
        }
        Err(problems) => {
            assert!(!problems.0.is_empty());
            let shown = problems.render(false);
            assert!(!shown.is_empty() && !shown.contains('\x1b') || text.contains('\x1b'), "{shown:?}");
            let _coloured = problems.render(true);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}
