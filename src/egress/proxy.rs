//! The company's own proxy, as connections of steps go through it: plainly, or in a TLS session with the proxy itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use super::request::Asked;
use crate::config::server::Network;
use crate::outside;

/// For the proxy to take a connection, for its TLS session and for its answer to CONNECT, each.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer head is no answer to CONNECT.
const LONGEST_HEAD: u64 = 16 * 1024;

/// What bytes go over: a connection, or a TLS session on one.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The proxy of `[network]`, ready to be gone through.
pub(super) struct Proxy {
    host: String,
    port: u16,
    /// The header line that opens a proxy with a user; else nothing.
    credentials: String,
    /// For a proxy that is spoken to by TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Proxy {
    /// From its address as it is written, and whom `[network]` trusts. The text of an error names no password.
    pub(super) fn of(address: &str, network: &Network) -> Result<Self, String> {
        let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or("network.proxy is not an http or https address")?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = match url.scheme() {
            "https" => {
                let config = outside::tls(network).map_err(|error| error.to_string())?;
                let name = ServerName::try_from(host.clone()).map_err(|_| "network.proxy's host is no name for TLS")?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            _ => None,
        };
        let port = url.port_or_known_default().ok_or("network.proxy names no port")?;
        Ok(Self { host, port, credentials: credentials(&url), tls })
    }

    /// Asks it for what a step asked for. It resolves the name itself. The bytes are what the far side hears first: the
    /// whole request where that was plain; else what follows the tunnel's head.
    pub(super) async fn reach(&self, asked: &Asked) -> io::Result<(Box<dyn Stream>, Vec<u8>)> {
        let mut stream = self.connect().await?;
        let first = asked.first_for_a_proxy(&self.credentials);
        if asked.plain.is_some() {
            return Ok((stream, first));
        }
        stream.write_all(&first).await?;
        // A TLS session keeps what is written until it is told to send it.
        stream.flush().await?;
        match timeout(PATIENCE, tunnel_status(&mut stream)).await?? {
            200..300 => Ok((stream, asked.rest.clone())),
            status => Err(broken(format!("network.proxy answered {status}"))),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = timeout(PATIENCE, TcpStream::connect((self.host.as_str(), self.port))).await??;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(stream)) };
        match timeout(PATIENCE, connector.connect(name.clone(), stream)).await? {
            Ok(session) => Ok(Box::new(session)),
            Err(error) if error.to_string().contains("certificate") => Err(broken(format!(
                "the certificate of network.proxy is not trusted ({error}); name its authority: [network] ca_file"
            ))),
            Err(error) => Err(broken(format!("network.proxy and TLS: {error}"))),
        }
    }
}

fn broken(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, why)
}

fn credentials(proxy: &Url) -> String {
    if proxy.username().is_empty() {
        return String::new();
    }
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = format!("{}:{}", decode(proxy.username()), decode(proxy.password().unwrap_or_default()));
    format!("Proxy-Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// Reads the head of the proxy's answer, byte by byte from a buffer of one, so that nothing behind it is taken.
async fn tunnel_status(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u16> {
    let mut head = Vec::new();
    let mut reader = BufReader::with_capacity(1, stream.take(LONGEST_HEAD));
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head.split(|byte| *byte == b' ').nth(1).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "network.proxy does not speak HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_proxy_is_told_without_its_password() {
        let of = |address: &str, network: &Network| Proxy::of(address, network).err().expect(address);
        let network = Network { ca_file: Some("/nonexistent/ca.pem".into()), ..Network::default() };
        assert_eq!(of("socks5://me:hunter2@proxy:1", &network), "network.proxy is not an http or https address");
        assert!(of("https://me:hunter2@proxy", &network).starts_with("network.ca_file /nonexistent/ca.pem "));
        assert!(Proxy::of("http://me:hunter2@proxy", &network).is_ok(), "no TLS, no authorities");
    }

    #[test]
    fn a_user_is_said_as_it_was_meant() {
        let said = |address: &str| credentials(&address.parse().expect("an address"));
        assert_eq!(said("https://proxy"), "");
        // `ci:a b%`
        assert_eq!(said("https://ci:a%20b%25@proxy"), "Proxy-Authorization: Basic Y2k6YSBiJQ==\r\n");
    }
}
