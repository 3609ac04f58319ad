//! The digests in a repository's committed `yarn.lock`, of yarn 1 and of those after it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tree::Dir;

/// The largest lockfile that is read, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What the lockfiles of a commit say of downloads. Digests are hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lockfiles {
    sha1: BTreeSet<String>,
    sha512: BTreeSet<String>,
    zips: BTreeSet<String>,
    /// Names in yarn 1's offline mirror, each with where its tarballs come from.
    mirrored: BTreeMap<String, BTreeSet<String>>,
    /// Names in it that say nothing of package and version.
    vague: BTreeSet<String>,
}

impl Lockfiles {
    /// Reads `yarn.lock` of these folders (`.` is the root) of the sources, which no build writes. What can't be read, a
    /// link and what is too large add nothing: then less is kept.
    pub fn read<'a>(sources: &Path, dirs: impl IntoIterator<Item = &'a str>) -> Self {
        let mut lockfiles = Self::default();
        let Ok(root) = Dir::open(sources) else { return lockfiles };
        for dir in dirs {
            if let Ok(bytes) = root.read_file(&Path::new(dir).join("yarn.lock"), LARGEST) {
                lockfiles.add(&String::from_utf8_lossy(&bytes));
            }
        }
        lockfiles
    }

    /// Adds what one lockfile says.
    pub fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            let Some((key, value)) = line.split_once(' ') else { continue };
            let value = value.trim().trim_matches('"');
            match key {
                "integrity" => self.integrity(value),
                "resolved" => self.resolved(value),
                // `10c0/…`: the part before the slash is the format's.
                "checksum:" => {
                    let digest = value.rsplit('/').next().unwrap_or_default();
                    self.zips.insert(digest.to_owned());
                }
                _ => {}
            }
        }
    }

    /// Whether yarn 1 may keep its downloads in an offline mirror: it names them by the last part of their address, and
    /// of two that are called alike it would take one for the other. Without a digest none could be kept.
    pub fn can_be_mirrored(&self) -> bool {
        let has_digests = !self.sha1.is_empty() || !self.sha512.is_empty();
        has_digests && self.mirrored.values().all(|origins| origins.len() == 1)
    }

    /// Whether a file of the mirror is what a lockfile asks for. Where the name is not that of package and version it is
    /// not kept: another commit could mean another tarball by it.
    pub(super) fn knows_tarball(&self, name: &str, sha512: &str, sha1: &str) -> bool {
        !self.vague.contains(name) && (self.sha512.contains(sha512) || self.sha1.contains(sha1))
    }

    /// Whether a zip of the cache is what a lockfile asks for.
    pub(super) fn knows_zip(&self, sha512: &str) -> bool {
        self.zips.contains(sha512)
    }

    /// Subresource integrity: digests, divided by spaces (w3.org/TR/SRI).
    fn integrity(&mut self, value: &str) {
        for one in value.split_ascii_whitespace() {
            self.sha512.extend(sha512_of(one));
            self.sha1.extend(digest_of(one, "sha1-", 20));
        }
    }

    /// An address, and after `#` the SHA-1 of what is there.
    fn resolved(&mut self, value: &str) {
        let (address, hash) = value.split_once('#').unwrap_or((value, ""));
        if hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.sha1.insert(hash.to_ascii_lowercase());
        }
        let path = address.split(['?', '#']).next().unwrap_or_default();
        let (name, is_registrys) = mirror_name(path);
        if !is_registrys {
            self.vague.insert(name.clone());
        }
        self.mirrored.entry(name).or_default().insert(address.to_owned());
    }
}

/// What yarn 1 calls a tarball in its mirror, and whether package and version are in that (yarn 1.22,
/// `tarball-fetcher.js`, `getTarballMirrorPath`).
fn mirror_name(address: &str) -> (String, bool) {
    let parts: Vec<&str> = address.split('/').collect();
    let file = parts.last().copied().unwrap_or_default();
    let Some(dash) = parts.iter().rposition(|part| *part == "-" || *part == "_attachments") else {
        return (file.to_owned(), false);
    };
    let package = dash.checked_sub(1).and_then(|at| parts.get(at)).copied().unwrap_or_default();
    let before = dash.checked_sub(2).and_then(|at| parts.get(at)).copied().unwrap_or_default();
    let scope = package.to_ascii_lowercase().find("%2f").map(|at| &package[..at]).or(Some(before));
    match scope.filter(|scope| scope.starts_with('@')) {
        Some(scope) => (format!("{scope}-{file}"), true),
        None => (file.to_owned(), true),
    }
}

/// The digest of `sha512-…` in hexadecimal.
pub(super) fn sha512_of(integrity: &str) -> Option<String> {
    digest_of(integrity, "sha512-", 64)
}

fn digest_of(integrity: &str, algorithm: &str, length: usize) -> Option<String> {
    // Options may follow a question mark.
    let text = integrity.strip_prefix(algorithm)?.split('?').next()?;
    let bytes = STANDARD.decode(text).ok()?;
    (bytes.len() == length).then(|| hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Lockfiles {
        let mut lockfiles = Lockfiles::default();
        lockfiles.add(text);
        lockfiles
    }

    #[test]
    fn names_of_the_mirror() {
        let check = |address: &str, expected: (&str, bool)| {
            let (name, is_registrys) = mirror_name(address);
            assert_eq!((name.as_str(), is_registrys), expected, "{address}");
        };
        check("https://registry.example/dep/-/dep-1.0.0.tgz", ("dep-1.0.0.tgz", true));
        check("https://registry.example/@acme/ui/-/ui-1.0.0.tgz", ("@acme-ui-1.0.0.tgz", true));
        check("https://registry.example/@acme%2fui/-/ui-1.0.0.tgz", ("@acme-ui-1.0.0.tgz", true));
        check("https://registry.example/npm/@acme/ui/-/@acme/ui-1.0.0.tgz", ("@acme-ui-1.0.0.tgz", true));
        check("https://forge.example/acme/ui/archive/v1.0.0.tar.gz", ("v1.0.0.tar.gz", false));
        check("v1.0.0.tar.gz", ("v1.0.0.tar.gz", false));
    }

    #[test]
    fn digests_of_both_formats() {
        let sha512 = format!("sha512-{}", STANDARD.encode([7; 64]));
        let one = "https://registry.example/dep/-/dep-1.0.0.tgz";
        let classic = of(&format!(
            "dep@^1.0.0:\n  version \"1.0.0\"\n  resolved \"{one}#{}\"\n  integrity {sha512}\n",
            "aB".repeat(20)
        ));
        assert!(classic.knows_tarball("dep-1.0.0.tgz", &"07".repeat(64), ""));
        assert!(classic.knows_tarball("dep-1.0.0.tgz", "", &"ab".repeat(20)));
        assert!(!classic.knows_tarball("dep-1.0.0.tgz", &"08".repeat(64), &"ac".repeat(20)));
        assert!(classic.can_be_mirrored() && !classic.knows_zip(&"07".repeat(64)));
        let berry = of(&format!("\"dep@npm:^1.0.0\":\n  version: 1.0.0\n  checksum: 10c0/{}\n", "cd".repeat(64)));
        assert!(berry.knows_zip(&"cd".repeat(64)) && !berry.can_be_mirrored());
        assert_eq!(of("integrity sha512-AAAA\nintegrity sha512-%%\nresolved \"x#zz\"\n").sha512.len(), 0);
    }

    #[test]
    fn tarballs_called_alike_are_not_mirrored() {
        let hash = "ab".repeat(20);
        let one = format!("a@x:\n  resolved \"https://forge.example/a/archive/v1.tar.gz#{hash}\"\n");
        let two = format!("b@x:\n  resolved \"https://forge.example/b/archive/v1.tar.gz#{hash}\"\n");
        assert!(of(&one).can_be_mirrored() && !of(&(one.clone() + &two)).can_be_mirrored());
        assert!(!of(&one).knows_tarball("v1.tar.gz", "", &hash), "the name says nothing of the package");
    }
}
