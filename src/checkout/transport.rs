//! git's smart HTTP over our own client, in the place of libgit2's.
//!
//! libgit2's client would follow a redirect to another port and give the token to whoever answers
//! 401 there, and it has no deadline. This one speaks to one origin (scheme, host and port), and
//! keeps in [`Link`] what went wrong: libgit2 passes on no more than a text.
//! Protocol: gitprotocol-http(5), the "smart" half, version 0.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use ureq::http::Response;
use ureq::{Agent, Body};
use url::Url;

use super::job::{Credential, Network};
use super::{Refusal, RefusalKind, guard};
use crate::config::server;
use crate::outside::{self, Unusable};

/// Redirects that are followed within the origin: forges answer a renamed repository's old address so.
const MAX_REDIRECTS: usize = 5;

/// Bytes that came in, over all repositories of one checkout.
pub(super) struct Traffic {
    received: AtomicU64,
    most: u64,
}

impl Traffic {
    /// Counts from nothing; more than `most` bytes end the fetch.
    pub(super) fn new(most: u64) -> Arc<Traffic> {
        Arc::new(Traffic { received: AtomicU64::new(0), most })
    }

    /// Bytes of answers so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts what came in, and refuses what is too much.
    pub(super) fn count(&self, bytes: usize) -> Result<(), Refusal> {
        let so_far = self.received.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if so_far > self.most {
            let text = format!("more than {} bytes to fetch (limits.checkout_bytes)", self.most);
            return Err(Refusal::too_much(text));
        }
        Ok(())
    }
}

/// What libgit2 knows of us: one transport for all of the process, which leads to the link in use.
pub(super) struct Switchboard(Arc<Mutex<Option<Arc<Link>>>>);

impl Switchboard {
    /// Takes over every `http` and `https` address of libgit2's. Once in a process, before any other use of git.
    pub(super) fn register() -> Result<Switchboard, git2::Error> {
        let in_use = Arc::new(Mutex::new(None::<Arc<Link>>));
        for scheme in ["http", "https"] {
            let in_use = Arc::clone(&in_use);
            // SAFETY: registering has to be synchronised with the making of transports: the child
            // process of a checkout does one job on one thread, and no remote was opened yet.
            unsafe {
                git2::transport::register(scheme, move |remote| match &*lock(&in_use) {
                    Some(link) => Transport::smart(remote, true, Subtransport(Arc::clone(link))),
                    None => Err(git2::Error::from_str("no repository is being fetched")),
                })?;
            }
        }
        Ok(Switchboard(in_use))
    }

    /// Leads what libgit2 asks from now on through `link`.
    pub(super) fn connect(&self, link: &Arc<Link>) {
        *lock(&self.0) = Some(Arc::clone(link));
    }
}

/// The connection to one repository, shared with libgit2's callbacks.
pub(super) struct Link {
    agent: Agent,
    /// The value of `Authorization`, if the credential belongs to the repository's origin.
    authorization: Option<String>,
    /// The repository's address; moves with redirects within the origin.
    base: Mutex<Url>,
    traffic: Arc<Traffic>,
    fault: Mutex<Option<Refusal>>,
    complaint: Mutex<Option<String>>,
}

impl Link {
    /// Checks the address and prepares the client; nothing is sent.
    pub(super) fn new(
        url: &Url,
        credential: Option<&Credential>,
        network: &Network,
        traffic: &Arc<Traffic>,
    ) -> Result<Arc<Link>, Refusal> {
        let untrusted = |text: String| Refusal::new(RefusalKind::Untrusted, text);
        let base = address(url)?;
        let authorization = credential.filter(|known| known.origin.origin() == base.origin()).map(|known| {
            let pair = format!("{}:{}", known.username, known.token);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        let agent = agent(&base, network).map_err(|unusable| untrusted(unusable.to_string()))?;
        Ok(Arc::new(Link {
            agent,
            authorization,
            base: Mutex::new(base),
            traffic: Arc::clone(traffic),
            fault: Mutex::new(None),
            complaint: Mutex::new(None),
        }))
    }

    /// What went wrong since the last call, if it went wrong here.
    pub(super) fn take_fault(&self) -> Option<Refusal> {
        lock(&self.fault).take()
    }

    /// What the server said in the place of a pack (`not our ref`), since the last call. libgit2 drops it.
    pub(super) fn take_complaint(&self) -> Option<String> {
        lock(&self.complaint).take()
    }

    fn fail(&self, refusal: Refusal) -> String {
        let text = refusal.message.replace('\0', " ");
        *lock(&self.fault) = Some(refusal);
        text
    }

    /// Asks for the refs: the one request whose redirects may be followed.
    fn refs(&self) -> Result<Response<Body>, Refusal> {
        for _ in 0..=MAX_REDIRECTS {
            let base = lock(&self.base).clone();
            let url = below(&base, "info/refs?service=git-upload-pack");
            let mut request = self.agent.get(&url);
            if let Some(value) = &self.authorization {
                request = request.header("Authorization", value);
            }
            let answer = request.call().map_err(|error| unreachable(&base, &error))?;
            if answer.status().is_redirection() {
                *lock(&self.base) = self.moved(&base, &url, &answer)?;
                continue;
            }
            return accept(&base, answer, "application/x-git-upload-pack-advertisement");
        }
        let base = lock(&self.base).clone();
        Err(Refusal::new(RefusalKind::Untrusted, format!("{base} redirects again and again")))
    }

    /// Sends what is wanted and what is had; answers with the pack.
    fn upload_pack(&self, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let base = lock(&self.base).clone();
        let mut request = self
            .agent
            .post(below(&base, "git-upload-pack"))
            .header("Content-Type", "application/x-git-upload-pack-request")
            .header("Accept", "application/x-git-upload-pack-result");
        if let Some(value) = &self.authorization {
            request = request.header("Authorization", value);
        }
        let answer = request.send(body).map_err(|error| unreachable(&base, &error))?;
        accept(&base, answer, "application/x-git-upload-pack-result")
    }

    /// Asks the repository's LFS server, which is where the batch API says it is by default; nothing is followed.
    pub(super) fn lfs_batch(&self, body: &[u8]) -> Result<Response<Body>, Refusal> {
        const LFS: &str = "application/vnd.git-lfs+json";
        let base = lock(&self.base).clone();
        let suffix = if base.path().trim_end_matches('/').ends_with(".git") { "" } else { ".git" };
        let url = format!("{}{suffix}/info/lfs/objects/batch", base.as_str().trim_end_matches('/'));
        let mut request = self.agent.post(url).header("Content-Type", LFS).header("Accept", LFS);
        if let Some(value) = &self.authorization {
            request = request.header("Authorization", value);
        }
        request.send(body).map_err(|error| unreachable(&base, &error))
    }

    /// The repository's address, where it is now.
    pub(super) fn base(&self) -> Url {
        lock(&self.base).clone()
    }

    /// Where a redirect leads, if that is the same repository at the same origin.
    fn moved(&self, base: &Url, asked: &str, answer: &Response<Body>) -> Result<Url, Refusal> {
        let untrusted = |text: String| Refusal::new(RefusalKind::Untrusted, text);
        let target = answer
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| Url::parse(asked).ok()?.join(value).ok())
            .ok_or_else(|| untrusted(format!("{base} redirects to no address")))?;
        if target.origin() != base.origin() {
            let to = target.origin().ascii_serialization();
            return Err(untrusted(format!(
                "{base} redirects to {to}; the credential was not sent there. If that is right, set clone_url"
            )));
        }
        let path = target
            .path()
            .strip_suffix("/info/refs")
            .ok_or_else(|| untrusted(format!("{base} redirects to {}, which is no repository", target.path())))?;
        let mut moved = base.clone();
        moved.set_path(path);
        Ok(moved)
    }
}

/// The address without name, token, query and fragment, if its scheme is one that is spoken here.
/// `file`, `ext` and the like never reach libgit2.
pub(super) fn address(clone_url: &Url) -> Result<Url, Refusal> {
    if !matches!(clone_url.scheme(), "http" | "https") || clone_url.host().is_none() {
        let text = format!("clone_url begins with {}:, and only http:// and https:// are fetched", clone_url.scheme());
        return Err(Refusal::new(RefusalKind::Untrusted, text));
    }
    let mut plain = clone_url.clone();
    // They fail only for addresses without a host.
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    plain.set_query(None);
    plain.set_fragment(None);
    Ok(plain)
}

fn below(base: &Url, rest: &str) -> String {
    format!("{}/{rest}", base.as_str().trim_end_matches('/'))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn agent(base: &Url, network: &Network) -> Result<Agent, Unusable> {
    let way = server::Network {
        proxy: network.proxy.clone(),
        no_proxy: network.no_proxy.clone(),
        ca_file: network.ca_file.clone(),
    };
    let client = outside::client(&way, base)?
        // Forges tell git from browsers by this.
        .user_agent(concat!("git/hookmill-", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(network.patience))
        .timeout_per_read(Some(network.patience))
        .timeout_per_write(Some(network.patience))
        .timeout_recv_response(Some(network.patience));
    Ok(client.build().new_agent())
}

/// Sorts answers: the expected kind of document goes on, everything else has its own words.
fn accept(base: &Url, answer: Response<Body>, kind: &str) -> Result<Response<Body>, Refusal> {
    let status = answer.status().as_u16();
    let refuse = |kind, text| Err(Refusal::new(kind, text));
    match status {
        200 => {}
        401 | 403 | 404 => {
            let why = "the token lacks read access, or the repository is gone";
            return refuse(RefusalKind::Forbidden, format!("the forge refused to give {base}: {why} (HTTP {status})"));
        }
        300..=399 => return refuse(RefusalKind::Untrusted, format!("{base} redirects in the middle of a fetch")),
        _ => return refuse(RefusalKind::Unreachable, format!("the forge answered HTTP {status} for {base}")),
    }
    if answer.headers().get("content-type").is_none_or(|found| found.as_bytes() != kind.as_bytes()) {
        return refuse(RefusalKind::Untrusted, format!("{base} answers, but not as a git repository over smart HTTP"));
    }
    Ok(answer)
}

/// Words for a request that got no answer.
pub(super) fn unreachable(base: &Url, error: &ureq::Error) -> Refusal {
    let origin = base.origin().ascii_serialization();
    match error {
        ureq::Error::Rustls(error) => tls(&origin, error),
        ureq::Error::Io(error) => broken_off(&origin, error),
        ureq::Error::HostNotFound => {
            Refusal::new(RefusalKind::Unreachable, format!("{origin} can't be reached: no such host"))
        }
        ureq::Error::Timeout(_) => Refusal::new(RefusalKind::Unreachable, format!("{origin} did not answer in time")),
        other => Refusal::new(RefusalKind::Unreachable, format!("{origin} can't be reached: {other}")),
    }
}

fn broken_off(origin: &str, error: &io::Error) -> Refusal {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls(origin, error);
    }
    let text = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => format!("{origin} stopped sending"),
        io::ErrorKind::UnexpectedEof => format!("{origin} closed the connection before the end"),
        _ => format!("{origin} can't be reached: {error}"),
    };
    Refusal::new(RefusalKind::Unreachable, text)
}

fn tls(origin: &str, error: &rustls::Error) -> Refusal {
    match error {
        rustls::Error::InvalidCertificate(why) => {
            let fix = "if its authority is your own, name it in network.ca_file";
            Refusal::new(RefusalKind::Untrusted, format!("the certificate of {origin} is not trusted ({why}); {fix}"))
        }
        other => Refusal::new(RefusalKind::Unreachable, format!("no TLS connection with {origin}: {other}")),
    }
}

/// What libgit2 holds for one remote.
struct Subtransport(Arc<Link>);

impl SmartSubtransport for Subtransport {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let link = Arc::clone(&self.0);
        let state = match service {
            Service::UploadPackLs => match link.refs() {
                Ok(answer) => Exchange::answer(answer),
                Err(refusal) => return Err(git2::Error::from_str(&link.fail(refusal))),
            },
            Service::UploadPack => Exchange::Asking(Vec::new()),
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("nothing is ever pushed from here"));
            }
        };
        Ok(Box::new(Stream { link, state }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// One request and its answer. libgit2 writes all of the request before it reads.
enum Exchange {
    Asking(Vec<u8>),
    Answering(Box<dyn Read + Send>),
}

impl Exchange {
    fn answer(answer: Response<Body>) -> Self {
        // ureq's own bound is 10 MB; ours is counted over all answers, in `Stream::read`.
        Exchange::Answering(Box::new(answer.into_body().into_with_config().limit(u64::MAX).reader()))
    }
}

struct Stream {
    link: Arc<Link>,
    state: Exchange,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut first = false;
        if let Exchange::Asking(body) = &self.state {
            let answer = self.link.upload_pack(body).map_err(|refusal| io::Error::other(self.link.fail(refusal)))?;
            self.state = Exchange::answer(answer);
            first = true;
        }
        let Exchange::Answering(reader) = &mut self.state else { return Ok(0) };
        let count = reader.read(buffer).map_err(|error| {
            let origin = lock(&self.link.base).origin().ascii_serialization();
            let refusal = match ureq::Error::from(error) {
                ureq::Error::Io(error) => broken_off(&origin, &error),
                ureq::Error::Timeout(_) => Refusal::new(RefusalKind::Unreachable, format!("{origin} stopped sending")),
                other => Refusal::new(RefusalKind::Unreachable, format!("{origin} broke off: {other}")),
            };
            io::Error::other(self.link.fail(refusal))
        })?;
        // A packet line of the form `<four hex digits>ERR <text>` (gitprotocol-pack(5)).
        if first && let Some(text) = buffer[..count].get(4..).and_then(|line| line.strip_prefix(b"ERR ")) {
            *lock(&self.link.complaint) = Some(String::from_utf8_lossy(text).trim().to_owned());
        }
        self.link.traffic.count(count).map_err(|refusal| io::Error::other(self.link.fail(refusal)))?;
        guard::bound_computing(Some(self.link.traffic.received()));
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            Exchange::Asking(body) => body.extend_from_slice(bytes),
            Exchange::Answering(_) => return Err(io::Error::other("a request is written before its answer is read")),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_spoken_and_no_credential_stays_in_the_address() {
        let check = |url: &str| address(&Url::parse(url).expect("an address")).map(String::from);
        assert_eq!(check("https://x:tok@git.lan/a/b.git?q#f").expect("https"), "https://git.lan/a/b.git");
        for bad in ["file:///etc", "ext::sh -c x", "git://h/r", "ssh://h/r", "ftp://h/r"] {
            assert_eq!(check(bad).expect_err(bad).kind, RefusalKind::Untrusted);
        }
    }
}
