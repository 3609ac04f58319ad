//! The key in a status link: whoever has the link may read that one build.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::build::BuildId;

/// The secret from which this installation's link keys and sessions are made. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct InstanceKey([u8; 32]);

impl InstanceKey {
    /// Wraps 32 random bytes, kept by the caller across restarts: with other bytes every link sent so far goes dead.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of a build, as it stands in `…/builds/12?key=…`: base64url without padding, 43 characters.
    pub fn link_key(&self, build: BuildId) -> String {
        self.seal(&link_words(build))
    }

    /// True when `key` is the build's own; compared in constant time.
    pub fn opens(&self, build: BuildId, key: &str) -> bool {
        self.verify(&link_words(build), key)
    }

    /// An authentication code over `words` (HMAC-SHA256), as base64url without padding.
    ///
    /// Each use begins its words with a name of its own, so that no code is valid for another use.
    pub fn seal(&self, words: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(words).finalize().into_bytes())
    }

    /// True when `code` was made by [`InstanceKey::seal`] from the same words; compared in constant time.
    pub fn verify(&self, words: &str, code: &str) -> bool {
        URL_SAFE_NO_PAD.decode(code).is_ok_and(|code| self.mac(words).verify_slice(&code).is_ok())
    }

    fn mac(&self, words: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(words.as_bytes());
        mac
    }
}

impl std::fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InstanceKey(…)")
    }
}

fn link_words(build: BuildId) -> String {
    format!("build {build}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_build_and_no_other() {
        let instance = InstanceKey::new([7; 32]);
        let key = instance.link_key(BuildId(12));
        assert_eq!(key.len(), 43);
        assert!(instance.opens(BuildId(12), &key));
        assert!(!instance.opens(BuildId(1), &key) && !instance.opens(BuildId(120), &key));
        assert!(!InstanceKey::new([8; 32]).opens(BuildId(12), &key));
        for bad in ["", "é", &key[1..], &format!("{key}A")] {
            assert!(!instance.opens(BuildId(12), bad), "{bad}");
        }
    }
}
