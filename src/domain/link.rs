//! The key in a status link: who holds the link may read that one build.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::build::BuildId;

/// The instance's secret from which every link key is made; kept in the store.
#[derive(Clone)]
pub struct LinkKey([u8; 32]);

impl LinkKey {
    /// Wraps the 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The `key` of a build's link: HMAC-SHA256 over the build's number, base64url without padding (RFC 4648 §5).
    pub fn of(&self, build: BuildId) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(build).finalize().into_bytes())
    }

    /// True when `key` opens `build`; compared in constant time.
    pub fn opens(&self, build: BuildId, key: &str) -> bool {
        URL_SAFE_NO_PAD.decode(key).is_ok_and(|bytes| self.mac(build).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, build: BuildId) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("build {build}").as_bytes());
        mac
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_build_only() {
        let key = LinkKey::new([7; 32]);
        let link = key.of(BuildId(12));
        assert!(key.opens(BuildId(12), &link));
        assert!(!key.opens(BuildId(13), &link));
        assert!(!LinkKey::new([8; 32]).opens(BuildId(12), &link));
        assert!(!key.opens(BuildId(12), "") && !key.opens(BuildId(12), "not base64 !"));
    }
}
