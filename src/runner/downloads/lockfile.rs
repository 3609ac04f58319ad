//! The digests in a repository's committed `yarn.lock`, of yarn 1 and of those after it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};

use crate::tree::Dir;

/// The largest lockfile that is read, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What the lockfiles of a commit say of downloads. Digests are hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lockfiles {
    /// SHA-512 and SHA-1 of tarballs.
    tarballs: BTreeSet<String>,
    /// SHA-512 of zips.
    zips: BTreeSet<String>,
    /// By name in yarn 1's offline mirror: where its tarballs come from, and which digests they may have.
    mirrored: BTreeMap<String, Mirrored>,
    /// By the ten digits that stand for a package and its version in the name of a zip: which digests it may have.
    cached: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mirrored {
    origins: BTreeSet<String>,
    digests: BTreeSet<String>,
    /// Whether the name says which package and version it is.
    is_clear: bool,
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
        // Of the entry that is being read: the name of its tarball, and what stands for it in the name of its zip.
        let (mut tarball, mut zip) = (None, None);
        for line in text.lines() {
            if !line.starts_with(' ') {
                (tarball, zip) = (None, None);
            }
            let Some((key, value)) = line.trim().split_once(' ') else { continue };
            let value = value.trim().trim_matches('"');
            match key {
                "resolved" => tarball = Some(self.resolved(value)),
                "integrity" => {
                    // Subresource integrity: digests, divided by spaces (w3.org/TR/SRI).
                    for digest in
                        value.split_ascii_whitespace().filter_map(|one| sha512_of(one).or_else(|| sha1_of(one)))
                    {
                        self.tarball(tarball.as_deref(), digest);
                    }
                }
                "resolution:" => zip = locator_hash(value),
                // `10c0/…`: the part before the slash is the format's.
                "checksum:" => {
                    let digest = value.rsplit('/').next().unwrap_or_default().to_owned();
                    if let Some(zip) = zip.take() {
                        self.cached.entry(zip).or_default().insert(digest.clone());
                    }
                    self.zips.insert(digest);
                }
                _ => {}
            }
        }
    }

    /// Whether yarn 1 may keep its downloads in an offline mirror: it names them by the last part of their address, and
    /// of two that are called alike it would take one for the other. Without a digest none could be kept.
    pub fn can_be_mirrored(&self) -> bool {
        !self.tarballs.is_empty() && self.mirrored.values().all(|one| one.origins.len() == 1)
    }

    /// Whether a tarball of the mirror is what a lockfile asks for. Where the name is not that of package and version it is
    /// not kept: another commit could mean another tarball by it.
    pub(super) fn knows_tarball(&self, name: &str, sha512: &str, sha1: &str) -> bool {
        let known = match self.mirrored.get(name) {
            Some(one) if !one.is_clear => return false,
            Some(one) if !one.digests.is_empty() => &one.digests,
            Some(_) | None => &self.tarballs,
        };
        known.contains(sha512) || known.contains(sha1)
    }

    /// Whether a zip of the cache is what a lockfile asks for.
    pub(super) fn knows_zip(&self, name: &str, sha512: &str) -> bool {
        self.cached.get(hash_in(name)).unwrap_or(&self.zips).contains(sha512)
    }

    /// Whether a lockfile asks for a file of this name, and says what it must be.
    pub(super) fn names(&self, name: &str) -> bool {
        self.cached.contains_key(hash_in(name)) || self.mirrored.contains_key(name)
    }

    fn tarball(&mut self, name: Option<&str>, digest: String) {
        if let Some(one) = name.and_then(|name| self.mirrored.get_mut(name)) {
            one.digests.insert(digest.clone());
        }
        self.tarballs.insert(digest);
    }

    /// An address, and after `#` the SHA-1 of what is there; its name in the mirror.
    fn resolved(&mut self, value: &str) -> String {
        let (address, hash) = value.split_once('#').unwrap_or((value, ""));
        let (name, is_clear) = mirror_name(address.split('?').next().unwrap_or_default());
        let one = self.mirrored.entry(name.clone()).or_default();
        one.origins.insert(address.to_owned());
        one.is_clear = is_clear;
        if hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.tarball(Some(&name), hash.to_ascii_lowercase());
        }
        name
    }
}

/// `name-npm-1.0.0-75ca0e49ba-10c0.zip` (yarn 4, `Cache.getVersionFilename`): package and version are the last but one.
fn hash_in(name: &str) -> &str {
    name.rsplit('-').nth(1).unwrap_or_default()
}

/// What stands for `@scope/name@reference` in the name of a zip (yarn 4, `structUtils.makeLocator` and `slugifyLocator`).
fn locator_hash(resolution: &str) -> Option<String> {
    let at = resolution.get(1..)?.find('@')? + 1;
    let (package, reference) = (&resolution[..at], &resolution[at + 1..]);
    let (scope, name) = package.strip_prefix('@').and_then(|rest| rest.split_once('/')).unwrap_or(("", package));
    let ident = hex::encode(Sha512::digest(format!("{scope}{name}")));
    Some(hex::encode(Sha512::digest(format!("{ident}{reference}")))[..10].to_owned())
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

fn sha1_of(integrity: &str) -> Option<String> {
    digest_of(integrity, "sha1-", 20)
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
        assert!(!classic.knows_tarball("https.tgz", "", "") && classic.names("dep-1.0.0.tgz"));
        assert!(classic.can_be_mirrored() && !classic.knows_zip("dep-npm-1.0.0-aa-10c0.zip", &"07".repeat(64)));
        assert!(of("integrity sha512-AAAA\nintegrity sha512-%%\nresolved \"x#zz\"\n").tarballs.is_empty());
    }

    #[test]
    fn zips_are_known_by_package_and_version() {
        let entry = |resolution: &str, digest: &str| {
            format!("\"x@npm:^1\":\n  resolution: \"{resolution}\"\n  checksum: 10c0/{}\n", digest.repeat(64))
        };
        let berry = of(&(entry("dep-a@npm:1.0.0", "ab") + &entry("@s/c@npm:2.0.0", "cd")));
        let check = |name: &str, digest: &str, expected| {
            assert_eq!(berry.knows_zip(name, &digest.repeat(64)), expected, "{name}");
        };
        // As yarn 4.9.2 called them.
        check("dep-a-npm-1.0.0-75ca0e49ba-10c0.zip", "ab", true);
        check("dep-a-npm-1.0.0-75ca0e49ba-10c0.zip", "cd", false);
        check("@s-c-npm-2.0.0-05510e4cd2-10c0.zip", "cd", true);
        check("other-npm-2.0.0-0000000000-10c0.zip", "cd", true);
        check("other-npm-2.0.0-0000000000-10c0.zip", "ef", false);
        assert!(berry.names("@s-c-npm-2.0.0-05510e4cd2-10c0.zip") && !berry.names("zip") && !berry.can_be_mirrored());
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
