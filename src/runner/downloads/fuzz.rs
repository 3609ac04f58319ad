//! What a committed `yarn.lock` promises to say of downloads: digests, or nothing.

use super::lockfile::Lockfiles;
use crate::fuzz::Target;

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[Target {
    name: "yarn-lock-digests",
    real: &[
        b"alpha@^1.0.0:\n  version \"1.0.0\"\n  resolved \"https://registry.example/alpha/-/alpha-1.0.0.tgz#da39a3ee5e6b4b0d3255bfef95601890afd80709\"\n  \
          integrity sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==\n",
        b"\"@acme/ui@npm:^1.0.0\":\n  version: 1.0.0\n  resolution: \"@acme/ui@npm:1.0.0\"\n  checksum: 10c0/cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e\n",
    ],
    words: &["resolved \"", "integrity sha512-", "sha1-", "resolution: ", "checksum: 10c0/", "#", "/-/", "@", "%2f", "\"", "\n  ", "\n", "?", " ", "==", "ü"],
    tries: 3000,
    holds: digests,
}];

/// No lockfile makes anything be kept that it has no digest for.
fn digests(bytes: &[u8]) {
    let mut lockfiles = Lockfiles::default();
    lockfiles.add(&String::from_utf8_lossy(bytes));
    for (sha512, sha1) in [("", ""), ("0", "0")] {
        assert!(!lockfiles.knows_tarball("alpha-1.0.0.tgz", sha512, sha1));
    }
    let _ = (lockfiles.can_be_mirrored(), lockfiles.names("alpha-1.0.0.tgz"));
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}
