//! Signs of a network or a registry that is away, whoever prints them.

use super::Diagnosis;

/// True when a write failed for want of space.
pub(super) fn disk_is_full(output: &str) -> bool {
    ["ENOSPC", "No space left on device", "EDQUOT"].iter().any(|sign| output.contains(sign))
}

/// Reads one error text of a package manager; `who` is "the npm registry" or "the bower registry".
///
/// `None` when nothing in it speaks of the network.
pub(super) fn of_registry(who: &str, text: &str) -> Option<Diagnosis> {
    if let Some(status) = http_status(text)
        && (status >= 500 || status == 429)
    {
        return Some(Diagnosis::outage(format!("{who} answered {status}")));
    }
    if let Some(sign) = CERTIFICATE.iter().find(|sign| text.contains(**sign)) {
        return Some(Diagnosis::ours(format!("{who}'s certificate is not trusted ({sign}); see network.ca_file")));
    }
    let (sign, what) = NETWORK.iter().find(|(sign, _)| text.contains(sign))?;
    Some(Diagnosis::outage(format!("{who} {what} ({sign})")))
}

/// Signs of a connection that could not be made or held, in node's words and those of bun.
const NETWORK: [(&str, &str); 18] = [
    ("ENOTFOUND", "could not be found by name"),
    ("EAI_AGAIN", "could not be found by name"),
    ("ECONNREFUSED", "refused the connection"),
    ("ECONNRESET", "broke the connection off"),
    ("ETIMEDOUT", "did not answer in time"),
    ("ESOCKETTIMEDOUT", "did not answer in time"),
    ("ERR_SOCKET_TIMEOUT", "did not answer in time"),
    ("EIDLETIMEOUT", "did not answer in time"),
    ("network timeout", "did not answer in time"),
    ("EHOSTUNREACH", "could not be reached"),
    ("ENETUNREACH", "could not be reached"),
    ("EPIPE", "broke the connection off"),
    ("socket hang up", "broke the connection off"),
    ("ERR_STREAM_PREMATURE_CLOSE", "broke the connection off"),
    ("ConnectionRefused", "refused the connection"),
    ("ConnectionClosed", "broke the connection off"),
    ("FailedToOpenSocket", "could not be reached"),
    ("DNSResolutionFailed", "could not be found by name"),
];

const CERTIFICATE: [&str; 7] = [
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    "SELF_SIGNED_CERT_IN_CHAIN",
    "DEPTH_ZERO_SELF_SIGNED_CERT",
    "CERT_HAS_EXPIRED",
    "ERR_TLS_CERT_ALTNAME_INVALID",
    "unable to get local issuer certificate",
];

/// The status of a refused request: `E503`, `FETCH_503`, `"503 Service Unavailable"`, `… - 503`, `failed with 503`.
pub(super) fn http_status(text: &str) -> Option<u16> {
    let before = [
        "code E",
        "FETCH_",
        "Request failed \"",
        "Request failed \\\"",
        " - ",
        "failed with ",
        "Response Code: ",
        "returned error: ",
    ];
    before.iter().find_map(|mark| {
        text.match_indices(mark).find_map(|(at, _)| {
            let rest = &text[at + mark.len()..];
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
            digits.parse().ok().filter(|status| digits.len() == 3 && (400..600).contains(status))
        })
    })
}

/// git's own words for a server that is away.
pub(super) fn git_server_is_away(text: &str) -> bool {
    [
        "Could not resolve host",
        "Failed to connect",
        "Couldn't connect",
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "Operation timed out",
        "The requested URL returned error: 5",
        "The requested URL returned error: 429",
        "early EOF",
        "unexpected disconnect",
        "the remote end hung up",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

/// The host of `getaddrinfo ENOTFOUND host` or `getaddrinfo EAI_AGAIN host`.
pub(super) fn unresolved_host(output: &str) -> Option<&str> {
    let (_, rest) = output.split_once("getaddrinfo ")?;
    let mut words = rest.split_whitespace();
    words.next().filter(|code| matches!(*code, "ENOTFOUND" | "EAI_AGAIN"))?;
    words.next().map(|host| host.trim_end_matches(|c: char| !c.is_alphanumeric()))
}
