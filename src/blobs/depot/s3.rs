//! A bucket, over the protocol of Amazon's S3 (<https://docs.aws.amazon.com/AmazonS3/latest/API/>).
//!
//! Requests are signed in their address (Signature Version 4, query parameters), so a body is sent as it is read.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use rusty_s3::actions::{ListObjectsV2, ListObjectsV2Response};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use url::Url;

use super::Object;
use crate::config::server::{Bucket as Settings, Network};
use crate::outside::{self, Unusable};

/// How long an address is good for; clocks may differ by as much.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
const CONNECT: Duration = Duration::from_secs(5);
/// From the request to the head of its answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Between two pieces of a body.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes of a listing (a thousand keys) or of a complaint.
const DOCUMENT: u64 = 4 * 1024 * 1024;

pub(super) struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    /// Before every key: empty, or with a slash at its end.
    prefix: String,
    http: Agent,
}

impl S3 {
    pub(super) fn new(settings: &Settings, network: &Network) -> Result<Self, Unusable> {
        let Settings { name, prefix, endpoint, region, key_id, key, session_token } = settings;
        // A server of one's own has one name; Amazon's gives each bucket its own.
        let style = if endpoint.is_some() { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let amazons = || Url::parse(&format!("https://s3.{region}.amazonaws.com")).ok();
        let address = endpoint.clone().or_else(amazons).ok_or(Unusable::Bucket)?;
        let http = outside::client(network, &address)?
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .build()
            .new_agent();
        let bucket =
            Bucket::new(address, style, name.clone(), region.clone()).map_err(|_not_an_address| Unusable::Bucket)?;
        let text = |secret: &crate::config::secret::Secret| String::from_utf8_lossy(secret.expose()).into_owned();
        let credentials = match session_token {
            Some(token) => Credentials::new_with_token(key_id.clone(), text(key), text(token)),
            None => Credentials::new(key_id.clone(), text(key)),
        };
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(S3 { bucket, credentials, prefix, http })
    }

    pub(super) fn put(&self, key: &str, content: &[u8]) -> io::Result<()> {
        let url = self.bucket.put_object(Some(&self.credentials), &self.key(key)).sign(SIGNED_FOR);
        done(self.http.put(url.as_str()).send(content))
    }

    pub(super) fn put_file(&self, key: &str, file: &File) -> io::Result<()> {
        let url = self.bucket.put_object(Some(&self.credentials), &self.key(key)).sign(SIGNED_FOR);
        done(self.http.put(url.as_str()).send(file))
    }

    pub(super) fn get(&self, key: &str, from: u64) -> io::Result<Option<Box<dyn Read>>> {
        let url = self.bucket.get_object(Some(&self.credentials), &self.key(key)).sign(SIGNED_FOR);
        let mut request = self.http.get(url.as_str());
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let answer = request.call().map_err(io::Error::other)?;
        match answer.status() {
            // Nothing lies behind its end.
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Some(Box::new(io::empty()))),
            StatusCode::NOT_FOUND => match complaint(answer) {
                no_key if no_key.contains("NoSuchKey") => Ok(None),
                other => Err(io::Error::other(other)),
            },
            StatusCode::PARTIAL_CONTENT => Ok(Some(reader(answer))),
            // Who does not know ranges sends everything.
            StatusCode::OK => {
                let mut whole = reader(answer);
                io::copy(&mut whole.by_ref().take(from), &mut io::sink())?;
                Ok(Some(whole))
            }
            _ => Err(io::Error::other(complaint(answer))),
        }
    }

    pub(super) fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(&self.key(prefix), after)?;
            for one in &page.contents {
                if let Some(key) = one.key.strip_prefix(&self.prefix) {
                    found.push(Object { key: key.to_owned(), bytes: one.size.unwrap_or(0) });
                }
            }
            match page.next_continuation_token {
                Some(token) => after = Some(token),
                None => return Ok(found),
            }
        }
    }

    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        let url = self.bucket.delete_object(Some(&self.credentials), &self.key(key)).sign(SIGNED_FOR);
        done(self.http.delete(url.as_str()).call())
    }

    /// A thousand objects at most.
    fn page(&self, prefix: &str, after: Option<String>) -> io::Result<ListObjectsV2Response> {
        let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
        list.with_prefix(prefix.to_owned());
        if let Some(token) = after {
            list.with_continuation_token(token);
        }
        let mut answer = self.http.get(list.sign(SIGNED_FOR).as_str()).call().map_err(io::Error::other)?;
        if answer.status() != StatusCode::OK {
            return Err(io::Error::other(complaint(answer)));
        }
        let text = answer.body_mut().with_config().limit(DOCUMENT).read_to_string().map_err(io::Error::other)?;
        // Amazon's early documents named another namespace, which some servers still use.
        let text = text.replace("http://doc.s3.amazonaws.com/2006-03-01", "http://s3.amazonaws.com/doc/2006-03-01");
        ListObjectsV2::parse_response(&text)
            .map_err(|error| io::Error::other(format!("the blob store's listing can't be read: {error}")))
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3({}/{})", self.bucket.base_url(), self.prefix)
    }
}

fn done(answer: Result<Response<Body>, ureq::Error>) -> io::Result<()> {
    let answer = answer.map_err(io::Error::other)?;
    // What is to be removed and is gone is fine.
    if answer.status().is_success() { Ok(()) } else { Err(io::Error::other(complaint(answer))) }
}

/// The store's own word: `403 SignatureDoesNotMatch`. Its answer repeats what was signed, so only the code is told.
fn complaint(mut answer: Response<Body>) -> String {
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(DOCUMENT).read_to_string().unwrap_or_default();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.filter(|code| code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    format!("the blob store answers {} {}", status.as_u16(), code.unwrap_or("without a reason"))
}

/// The library's own bound is 10 MB; a log may be longer.
fn reader(answer: Response<Body>) -> Box<dyn Read> {
    Box::new(answer.into_body().into_with_config().limit(u64::MAX).reader())
}
