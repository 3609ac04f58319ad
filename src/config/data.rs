//! `[data]`: where things are kept, on this machine and for all of them.

use std::path::PathBuf;

use url::Url;

use super::parts::base_url;
use super::secret::{self, Secret};
use super::section::{Located, Section};
use super::server::{Blobs, Bucket, Space};
use super::surroundings::Surroundings;

/// The region of a bucket where nobody names one: that of servers other than Amazon's.
const REGION: &str = "us-east-1";

/// `[data]`.
pub(super) struct Data {
    /// The directory.
    pub(super) dir: PathBuf,
    /// How much room is to be left on its disk.
    pub(super) space: Space,
    /// The place that several machines share.
    pub(super) blobs: Option<Blobs>,
}

/// Reads `[data]`.
pub(super) fn data(mut section: Section<'_>, around: &Surroundings) -> Data {
    let dir = section.path("dir");
    let endpoint = section.text("blobs_endpoint").filter(|text| !text.value.is_empty());
    let endpoint = endpoint.and_then(|text| base_url(&mut section, "blobs_endpoint", &text));
    let said = Said {
        endpoint,
        region: section.text("blobs_region").map(|text| text.value).filter(|region| !region.is_empty()),
        key_id: section.text("blobs_key_id").map(|text| text.value).filter(|id| !id.is_empty()),
        key: secret::token(&mut section, &secret::BLOBS_KEY, around),
    };
    let url = section.text("blobs_url").filter(|text| !text.value.is_empty());
    let blobs = url.and_then(|url| blobs(&mut section, &url, said, around));
    let space = space(&mut section);
    section.finish();
    Data { dir: dir.map(|dir| dir.value).unwrap_or_default(), space, blobs }
}

fn space(section: &mut Section<'_>) -> Space {
    let percent = section.count("low_percent").and_then(|percent| {
        let good = percent.value <= 50;
        if !good {
            section.wrong(&percent.place, "`data.low_percent` is a share of the disk, at most 50", "write 5");
        }
        good.then_some(percent.value)
    });
    Space {
        low: section.size("low").unwrap_or_default(),
        low_percent: percent.unwrap_or_default(),
        reserve: section.size("reserve").unwrap_or_default(),
    }
}

/// What the file says of a bucket's server; the rest is taken from our own environment, under the names that every
/// program for S3 knows.
struct Said {
    endpoint: Option<Url>,
    region: Option<String>,
    key_id: Option<String>,
    key: Option<Secret>,
}

fn blobs(section: &mut Section<'_>, url: &Located<String>, said: Said, around: &Surroundings) -> Option<Blobs> {
    if let Some(path) = url.value.strip_prefix("file://").filter(|path| path.starts_with('/')) {
        return Some(Blobs::Folder(PathBuf::from(path)));
    }
    let rest = url.value.strip_prefix("s3://").unwrap_or_default();
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // What a bucket may be called (Amazon's rules, "General purpose buckets naming rules").
    let is_name =
        name.len() >= 3 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    let is_prefix = prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/".contains(&b));
    if !is_name || !is_prefix {
        let fix = "write \"s3://bucket/prefix\", or \"file:///a/folder/that/every/machine/mounts\"";
        section.wrong(&url.place, "`data.blobs_url` names neither a bucket nor a folder", fix);
        return None;
    }
    let from_env = |name: &str| around.variable(name).map(str::to_owned);
    let key_id = said.key_id.or_else(|| from_env("AWS_ACCESS_KEY_ID"));
    let key = said.key.or_else(|| from_env("AWS_SECRET_ACCESS_KEY").map(Secret::new));
    let (Some(key_id), Some(key)) = (key_id, key) else {
        let fix = "write blobs_key_id and blobs_key_file, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        section.wrong(&url.place, format!("nothing opens the bucket {name}: its key is missing"), fix);
        return None;
    };
    let endpoint = match said.endpoint {
        Some(endpoint) => Some(endpoint),
        None => from_env("AWS_ENDPOINT_URL").and_then(|text| {
            let text = Located { place: url.place.clone(), value: text };
            base_url(section, "AWS_ENDPOINT_URL", &text)
        }),
    };
    let region = said.region.or_else(|| from_env("AWS_REGION")).or_else(|| from_env("AWS_DEFAULT_REGION"));
    Some(Blobs::S3(Box::new(Bucket {
        name: name.to_owned(),
        prefix: prefix.trim_matches('/').to_owned(),
        endpoint,
        region: region.unwrap_or_else(|| REGION.to_owned()),
        key_id,
        key,
        session_token: from_env("AWS_SESSION_TOKEN").map(Secret::new),
    })))
}
