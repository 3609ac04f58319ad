//! The way out: how everything that speaks HTTP from here is set up. The proxy, and whom TLS trusts.
//!
//! What is alike for a forge's API, for git and for `hookmill builds` stands here; deadlines differ,
//! so each caller adds its own.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::{Agent, Proxy};
use url::Url;

use crate::config::server::Network;

/// Why no client can be made. The text names the setting, and never a password.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The certificate authorities can't be read.
    #[error("network.ca_file {} can't be read: {why}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The proxy is not one.
    #[error("network.proxy is not a proxy's address")]
    Proxy,
    /// The bucket's name, region or server make no address.
    #[error("data.blobs_url, blobs_region and blobs_endpoint make no address")]
    Bucket,
}

/// A client's settings for one origin (scheme, host and port); nothing is connected yet.
///
/// A redirect comes back like any other answer, for only the caller knows where its token may go;
/// so does every status. The certificates are read only where TLS is spoken.
///
/// # Errors
/// When what `[network]` names can't be used.
pub fn client(network: &Network, origin: &Url) -> Result<ConfigBuilder<AgentScope>, Unusable> {
    let proxy = proxy_for(network, origin.host_str().unwrap_or_default());
    let tls = origin.scheme() == "https" || proxy.is_some_and(|proxy| proxy.starts_with("https:"));
    let mut client = Agent::config_builder()
        .user_agent(concat!("hookmill/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        // Said also when there is none: else the library would look into our environment.
        .proxy(proxy.map(Proxy::new).transpose().map_err(|_| Unusable::Proxy)?);
    if tls {
        let trusted = TlsConfig::builder()
            .root_certs(RootCerts::from(authorities(network)?))
            .unversioned_rustls_crypto_provider(rustls::crypto::ring::default_provider().into())
            .build();
        client = client.tls_config(trusted);
    }
    Ok(client)
}

/// The proxy by which a host is reached, as it was written; `None` when it is reached directly.
pub fn proxy_for<'a>(network: &'a Network, host: &str) -> Option<&'a str> {
    network.proxy.as_deref().filter(|proxy| !proxy.is_empty() && !goes_direct(host, &network.no_proxy))
}

/// Whether a host is reached without the proxy: `acme.dev`, `.acme.dev` and `*.acme.dev` also mean every name
/// below it, as for curl.
fn goes_direct(host: &str, no_proxy: &[String]) -> bool {
    no_proxy.iter().any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let domain = entry.trim_start_matches('*').trim_start_matches('.');
        entry == "*"
            || (!domain.is_empty()
                && (host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))))
    })
}

/// The system's authorities (`SSL_CERT_FILE` is heeded) and those of `network.ca_file`.
fn authorities(network: &Network) -> Result<Vec<Certificate<'static>>, Unusable> {
    let system = rustls_native_certs::load_native_certs().certs;
    let mut found: Vec<_> = system.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if let Some(path) = &network.ca_file {
        let unusable = |why: String| Unusable::CaFile { path: path.clone(), why };
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        for item in ureq::tls::parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| unusable(error.to_string()))? {
                found.push(certificate);
            }
        }
    }
    Ok(found)
}

/// The authorities of [`client`] as one PEM file: for programs that take a file of them instead of the system's.
///
/// # Errors
/// When `network.ca_file` can't be read.
pub fn authorities_pem(network: &Network) -> Result<String, Unusable> {
    let mut text = String::new();
    for certificate in authorities(network)? {
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate.der());
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    Ok(text)
}

/// TLS as [`client`] speaks it, for a connection that is none of a client's.
///
/// # Errors
/// When `network.ca_file` can't be read.
pub fn tls(network: &Network) -> Result<rustls::ClientConfig, Unusable> {
    let mut roots = rustls::RootCertStore::empty();
    // A system's bundle may hold what rustls does not take; such an authority vouches for nobody.
    roots.add_parsable_certificates(authorities(network)?.iter().map(|known| known.der().to_vec().into()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(config.expect("ring speaks them").with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    #[test]
    fn which_hosts_go_past_the_proxy() {
        let check = |host: &str, entry: &str, direct| {
            let found = goes_direct(host, &[entry.to_owned()]);
            assert_eq!(found, direct, "{host} with {entry:?}");
        };
        for entry in ["git.acme.dev", "acme.dev", ".acme.dev", "*.acme.dev", "ACME.dev", "*"] {
            check("git.acme.dev", entry, true);
        }
        for entry in ["", ".", "me.dev", "git.acme.de", "x.git.acme.dev", "acme.dev.evil"] {
            check("git.acme.dev", entry, false);
        }
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.10", "127.0.0.1", false);
    }

    #[test]
    fn a_proxy_that_is_none_is_named_without_its_password() {
        let network = Network { proxy: Some("gopher://me:hunter2@proxy".to_owned()), ..Network::default() };
        let error = client(&network, &url("http://git.lan")).err().expect("no such kind of proxy");
        assert_eq!(error.to_string(), "network.proxy is not a proxy's address");
        let excepted = Network { no_proxy: vec!["git.lan".to_owned()], ..network };
        assert!(client(&excepted, &url("http://git.lan")).is_ok(), "it is not needed there");
    }

    #[test]
    fn authorities_are_read_only_for_tls() {
        let network = Network { ca_file: Some("/nonexistent/ca.pem".into()), ..Network::default() };
        assert!(client(&network, &url("http://git.lan")).is_ok());
        let error = client(&network, &url("https://git.lan")).err().expect("no such file");
        assert!(error.to_string().starts_with("network.ca_file /nonexistent/ca.pem "), "{error}");
    }
}
