//! The signature of a delivery: checked over the bytes as they came, before anything of them is read.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, header::HeaderValue};
use sha2::Sha256;

use crate::config::secret::Secret;
use crate::config::server::ForgeKind;

/// A webhook request as it was received. Nothing in it can be trusted yet.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The kind of the forge that the address names: it alone decides the scheme, never the headers that
    /// happen to be there (Gitea sends GitHub's too).
    pub kind: ForgeKind,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The body, byte for byte: any re-serialising would break the signature.
    pub body: Bytes,
}

/// A value whose signature held. Only [`verify`] makes one.
#[derive(Debug, Clone)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// What was verified.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Why a signature was refused. For the operator's list of refusals; the sender learns none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The repository is not configured, or neither it nor its forge has a secret for this hook.
    #[error(
        "no secret is configured for this hook: is the repository named in a [[repo]] block with hook_secret_file?"
    )]
    NoSecret,
    /// The header of the forge's kind did not come.
    #[error("the header {0} is missing: has the hook a secret at the forge?")]
    Missing(&'static str),
    /// The header came more than once.
    #[error("the header {0} came more than once")]
    Several(&'static str),
    /// The header is empty, as Gitea sends it when its hook has no secret.
    #[error("the header {0} is empty: the hook has no secret at the forge")]
    Empty(&'static str),
    /// The header is not a SHA-256 in the form of the forge's kind.
    #[error("the header {0} is not a SHA-256 signature in this forge's form")]
    Malformed(&'static str),
    /// No configured secret makes this signature over these bytes.
    #[error("the signature in {0} does not match: another secret, or a body that was changed on its way")]
    Wrong(&'static str),
}

/// Checks a delivery's signature against every live secret of its hook.
///
/// Each secret is tried, also after one fitted, and each comparison takes constant time. Without any
/// secret the same work is done over a made-up one, so that timing does not tell which hooks exist.
pub fn verify(delivery: Delivery, secrets: &[Secret]) -> Result<Verified<Delivery>, Refused> {
    let (header, claimed) = claimed(&delivery)?;
    if secrets.is_empty() {
        std::hint::black_box(signs(b"nobody's secret", &delivery.body, &claimed));
        return Err(Refused::NoSecret);
    }
    let mut good = false;
    for secret in secrets {
        // Configuration refuses an empty secret; anybody could sign with it, so it is refused here as well.
        good |= signs(secret.expose(), &delivery.body, &claimed) & !secret.expose().is_empty();
    }
    if good { Ok(Verified(delivery)) } else { Err(Refused::Wrong(header)) }
}

fn signs(secret: &[u8], body: &[u8], claimed: &[u8; 32]) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(body);
    mac.verify_slice(claimed).is_ok()
}

/// The signature that the delivery claims, from the one header of its forge's kind.
///
/// GitHub: `sha256=<hex>` in `X-Hub-Signature-256` (its SHA-1 header is never read). Gitea and Forgejo: bare hex.
fn claimed(delivery: &Delivery) -> Result<(&'static str, [u8; 32]), Refused> {
    let (header, prefix) = match delivery.kind {
        ForgeKind::Github => ("x-hub-signature-256", "sha256="),
        ForgeKind::Gitea => ("x-gitea-signature", ""),
        ForgeKind::Forgejo if delivery.headers.contains_key("x-forgejo-signature") => ("x-forgejo-signature", ""),
        ForgeKind::Forgejo => ("x-gitea-signature", ""),
    };
    let value = match only_value(&delivery.headers, &HeaderName::from_static(header)) {
        Ok(Some(value)) => value.as_bytes(),
        Ok(None) => return Err(Refused::Missing(header)),
        Err(Doubled) => return Err(Refused::Several(header)),
    };
    let hex = value.strip_prefix(prefix.as_bytes()).ok_or(Refused::Malformed(header))?;
    if hex.is_empty() {
        return Err(Refused::Empty(header));
    }
    let mut signature = [0; 32];
    hex::decode_to_slice(hex, &mut signature).map_err(|_| Refused::Malformed(header))?;
    Ok((header, signature))
}

/// A header came more than once, so that two readers could read two things.
pub(super) struct Doubled;

/// The header's value when it came exactly once.
pub(super) fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Doubled> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Doubled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that GitHub publishes in "Validating webhook deliveries".
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &str = "Hello, World!";
    const HEX: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn try_with(kind: ForgeKind, headers: &[(&'static str, &str)], secrets: &[&str]) -> Result<(), Refused> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a legal header"));
        }
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
        verify(Delivery { kind, headers: map, body: Bytes::from_static(BODY.as_bytes()) }, &secrets).map(|_| ())
    }

    #[test]
    fn the_published_vector_holds() {
        let github = format!("sha256={HEX}");
        assert_eq!(try_with(ForgeKind::Github, &[("x-hub-signature-256", &github)], &[SECRET]), Ok(()));
        assert_eq!(try_with(ForgeKind::Github, &[("x-hub-signature-256", &github)], &["new", SECRET, "x"]), Ok(()));
        assert_eq!(try_with(ForgeKind::Gitea, &[("x-gitea-signature", HEX)], &[SECRET]), Ok(()));
        assert_eq!(try_with(ForgeKind::Forgejo, &[("x-gitea-signature", HEX)], &[SECRET]), Ok(()));
        assert_eq!(try_with(ForgeKind::Forgejo, &[("x-forgejo-signature", HEX)], &[SECRET]), Ok(()));
    }

    #[test]
    fn everything_else_is_refused_and_says_why() {
        use ForgeKind::{Forgejo, Gitea, Github};
        let check = |kind, headers: &[(&'static str, &str)], secrets: &[&str], expected: Refused| {
            assert_eq!(try_with(kind, headers, secrets), Err(expected), "{headers:?}");
        };
        let good = format!("sha256={HEX}");
        let hub = "x-hub-signature-256";
        check(Github, &[], &[SECRET], Refused::Missing(hub));
        check(Github, &[(hub, &good)], &[], Refused::NoSecret);
        check(Github, &[(hub, &good)], &["other"], Refused::Wrong(hub));
        check(Github, &[(hub, &good), (hub, &good)], &[SECRET], Refused::Several(hub));
        check(Github, &[(hub, "sha256=")], &[SECRET], Refused::Empty(hub));
        check(Github, &[(hub, "")], &[SECRET], Refused::Malformed(hub));
        check(Github, &[(hub, HEX)], &[SECRET], Refused::Malformed(hub));
        check(Github, &[(hub, &good[..70])], &[SECRET], Refused::Malformed(hub));
        check(Github, &[(hub, &format!("sha256={}", "é".repeat(32)))], &[SECRET], Refused::Malformed(hub));
        check(Github, &[(hub, &format!("sha512={HEX}"))], &[SECRET], Refused::Malformed(hub));
        // A good signature in the header of another kind is not read.
        check(Github, &[("x-gitea-signature", HEX)], &[SECRET], Refused::Missing(hub));
        check(Gitea, &[(hub, &good)], &[SECRET], Refused::Missing("x-gitea-signature"));
        check(Gitea, &[("x-gitea-signature", "")], &[SECRET], Refused::Empty("x-gitea-signature"));
        check(
            Forgejo,
            &[("x-forgejo-signature", ""), ("x-gitea-signature", HEX)],
            &[SECRET],
            Refused::Empty("x-forgejo-signature"),
        );
    }

    #[test]
    fn an_empty_secret_opens_nothing() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"").expect("any length");
        mac.update(BODY.as_bytes());
        let forged = hex_of(&mac.finalize().into_bytes());
        assert!(try_with(ForgeKind::Gitea, &[("x-gitea-signature", &forged)], &[""]).is_err());
    }

    fn hex_of(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
