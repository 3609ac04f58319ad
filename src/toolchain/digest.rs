//! What archives hash to.

use std::io::{self, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha512};

/// Where a kept tool's digests are written, for repositories that name one.
pub(super) const FILE: &str = ".digests";

/// The digests of one file by every algorithm that registries, mirrors and `packageManager` name, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests(Vec<(String, String)>);

impl Digests {
    /// By the algorithm's name in small letters: `sha512`.
    pub(super) fn get(&self, algorithm: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == algorithm).map(|(_, hex)| hex.as_str())
    }

    /// Of a file on disk.
    pub(super) fn of(path: &Path) -> io::Result<Digests> {
        let mut file = std::fs::File::open(path)?;
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut file, &mut hashing)?;
        Ok(hashing.finish())
    }

    /// Reads back what [`write`](Digests::write) wrote into a kept tool's folder.
    pub(super) fn read(home: &Path) -> io::Result<Digests> {
        let mut text = String::new();
        std::fs::File::open(home.join(FILE))?.take(4096).read_to_string(&mut text)?;
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(Digests(pairs.map(|(name, hex)| (name.to_owned(), hex.to_owned())).collect()))
    }

    pub(super) fn write(&self, home: &Path) -> io::Result<()> {
        let lines: String = self.0.iter().map(|(name, hex)| format!("{name} {hex}\n")).collect();
        std::fs::write(home.join(FILE), lines)
    }

    /// Whether a registry's `dist.integrity` holds: subresource integrity, several words of `algorithm-base64`.
    ///
    /// Only SHA-512 counts; npm's registry has had one for every version since 2017 and added them to the older ones.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn check_integrity(&self, integrity: Option<&str>) -> Result<(), String> {
        let claim = integrity.unwrap_or_default().split_whitespace().find_map(|word| word.strip_prefix("sha512-"));
        let claim = claim.ok_or("the registry names no sha512 digest of it")?;
        let claim = STANDARD.decode(claim).map_err(|_| "the registry's digest of it is no base64")?;
        match self.get("sha512") == Some(hex::encode(claim).as_str()) {
            true => Ok(()),
            false => Err("it does not have the digest that the registry names".to_owned()),
        }
    }
}

/// Writes on and hashes on the way.
pub(super) struct Hashing<W> {
    inner: W,
    sha1: Sha1,
    sha224: Sha224,
    sha256: Sha256,
    sha512: Sha512,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        let (sha1, sha224, sha256, sha512) = (Sha1::new(), Sha224::new(), Sha256::new(), Sha512::new());
        Self { inner, sha1, sha224, sha256, sha512 }
    }

    pub(super) fn finish(self) -> Digests {
        Digests(vec![
            ("sha1".to_owned(), hex::encode(self.sha1.finalize())),
            ("sha224".to_owned(), hex::encode(self.sha224.finalize())),
            ("sha256".to_owned(), hex::encode(self.sha256.finalize())),
            ("sha512".to_owned(), hex::encode(self.sha512.finalize())),
        ])
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        let bytes = &bytes[..written];
        self.sha1.update(bytes);
        self.sha224.update(bytes);
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_needed_and_has_to_hold() {
        let mut hashing = Hashing::new(Vec::new());
        hashing.write_all(b"abc").expect("memory");
        let digests = hashing.finish();
        assert_eq!(digests.get("sha1"), Some("a9993e364706816aba3e25717850c26c9cd0d89d"));
        let right = format!("sha512-{}", STANDARD.encode(Sha512::digest(b"abc")));
        assert_eq!(digests.check_integrity(Some(&format!("sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0= {right}"))), Ok(()));
        let check = |claim: Option<&str>, why: &str| {
            assert!(digests.check_integrity(claim).is_err_and(|error| error.contains(why)), "{claim:?}");
        };
        check(None, "no sha512");
        check(Some("sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0="), "no sha512");
        check(Some("sha512-***"), "base64");
        check(Some(&format!("sha512-{}", STANDARD.encode(Sha512::digest(b"abd")))), "does not have");
    }

    #[test]
    fn what_was_kept_is_read_back() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("x"), "abc").expect("written");
        let digests = Digests::of(&dir.path().join("x")).expect("read");
        digests.write(dir.path()).expect("written");
        assert_eq!(Digests::read(dir.path()).expect("read"), digests);
    }
}
