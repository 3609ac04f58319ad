//! Git LFS: contents that a pointer in the tree stands for, fetched by the batch API of the same host.
//!
//! <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>. What was fetched is kept beside the mirror, by its
//! hash, and so fetched once. A file appears there only after its hash was found right.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use super::job::Network;
use super::mirror;
use super::refusal::{Refusal, RefusalKind, Stop};
use super::transport::{self, Link, Traffic};

/// How many objects are asked for at once, as git-lfs does.
const BATCH: usize = 100;
/// An answer of the batch API is smaller than this.
const MAX_ANSWER: u64 = 4 << 20;
/// Redirects that a download follows: storage services use one or two.
const MAX_REDIRECTS: usize = 5;

/// What a pointer says: the contents' SHA-256 and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    pub(super) oid: String,
    pub(super) size: u64,
}

/// True for a blob that begins like a pointer (git-lfs docs/spec.md): at most 1023 bytes, its version first.
pub(super) fn is_pointer(data: &[u8]) -> bool {
    data.len() < 1024 && data.starts_with(b"version https://git-lfs.github.com/spec/")
}

impl Pointer {
    /// Reads a pointer; nothing where it is none, or of a later format.
    pub(super) fn parse(data: &[u8]) -> Option<Pointer> {
        let text = std::str::from_utf8(data).ok().filter(|_| is_pointer(data))?;
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let oid = field("oid")?.strip_prefix("sha256:")?.trim();
        let hex = oid.len() == 64 && oid.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        Some(Pointer { oid: oid.to_owned(), size: field("size")?.trim().parse().ok()? }).filter(|_| hex)
    }
}

/// Where the contents of one repository's pointers come from.
pub(super) enum Source {
    /// They are kept beside the mirror, and fetched over the link when they are not there yet.
    Forge { mirror: PathBuf, link: Arc<Link>, network: Network, traffic: Arc<Traffic> },
    /// A person's repository: its `lfs/objects`, or the file of the work tree at the pointer's path.
    Folder { objects: PathBuf, dir: PathBuf },
}

/// What came of looking for contents.
pub(super) enum Found {
    /// Files that hold the contents, by the path of the pointer. Fewer than asked for in a folder that lacks some.
    Files(BTreeMap<String, PathBuf>),
    /// There is no LFS at the repository's address.
    NoServer,
}

impl Source {
    /// Gets the contents of `wanted`, pointers by their paths.
    pub(super) fn obtain(&self, wanted: &BTreeMap<String, Pointer>) -> Result<Found, Stop> {
        match self {
            Source::Folder { objects, dir } => Ok(Found::Files(in_folder(objects, dir, wanted))),
            Source::Forge { mirror, link, network, traffic } => {
                let root = mirror.join("lfs");
                let kept = |pointer: &Pointer| at(&root, &pointer.oid);
                let there = |pointer: &Pointer| kept(pointer).metadata().is_ok_and(|data| data.len() == pointer.size);
                if !wanted.values().all(there) {
                    // Under the lock nobody takes our half-written files for leftovers.
                    let _locked = mirror::lock(mirror)?;
                    let missing: Vec<_> = wanted.iter().filter(|(_, pointer)| !there(pointer)).collect();
                    for batch in missing.chunks(BATCH) {
                        if !fetch(batch, link, network, traffic, &root)? {
                            return Ok(Found::NoServer);
                        }
                    }
                }
                Ok(Found::Files(wanted.iter().map(|(path, pointer)| (path.clone(), kept(pointer))).collect()))
            }
        }
    }
}

/// git-lfs's own layout: `12/34/1234…`.
fn at(root: &Path, oid: &str) -> PathBuf {
    root.join(&oid[..2]).join(&oid[2..4]).join(oid)
}

fn in_folder(objects: &Path, dir: &Path, wanted: &BTreeMap<String, Pointer>) -> BTreeMap<String, PathBuf> {
    let right = |file: &Path, pointer: &Pointer| {
        file.symlink_metadata().is_ok_and(|data| data.is_file() && data.len() == pointer.size)
            && File::open(file).is_ok_and(|file| hash(file, io::sink()).is_ok_and(|found| found == pointer.oid))
    };
    wanted
        .iter()
        .filter_map(|(path, pointer)| {
            let places = [at(objects, &pointer.oid), dir.join(path)];
            Some((path.clone(), places.into_iter().find(|file| right(file, pointer))?))
        })
        .collect()
}

/// Copies `from` to `to`; the SHA-256 of it in hex.
fn hash(mut from: impl Read, mut to: impl Write) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(mirror::hex(&digest.finalize()));
        }
        digest.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

#[derive(Serialize)]
struct Asked<'a> {
    operation: &'static str,
    transfers: [&'static str; 1],
    objects: Vec<&'a Pointer>,
}

#[derive(Deserialize)]
struct Answered {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct Actions {
    download: Option<Download>,
}

#[derive(Deserialize)]
struct Download {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u16,
    #[serde(default)]
    message: String,
}

/// Fetches one batch; false when there is no LFS server.
fn fetch(
    batch: &[(&String, &Pointer)],
    link: &Link,
    network: &Network,
    traffic: &Traffic,
    root: &Path,
) -> Result<bool, Refusal> {
    let objects = batch.iter().map(|(_, pointer)| *pointer).collect();
    let asked = Asked { operation: "download", transfers: ["basic"], objects };
    let body = serde_json::to_vec(&asked).expect("a struct of strings and numbers is JSON");
    let answer = link.lfs_batch(&body)?;
    let base = link.base();
    match answer.status().as_u16() {
        200 => {}
        // Not there, or known and switched off.
        404 | 405 | 410 | 501 => return Ok(false),
        status @ (401 | 403) => {
            let text = format!("Git LFS at {base} refused the token (HTTP {status}): it lacks read access");
            return Err(Refusal::new(RefusalKind::Forbidden, text));
        }
        status => {
            let text = format!("Git LFS at {base} answered HTTP {status}");
            return Err(Refusal::new(RefusalKind::Unreachable, text));
        }
    }
    let mut bytes = Vec::new();
    let read = answer.into_body().into_with_config().limit(MAX_ANSWER).reader().read_to_end(&mut bytes);
    let Some(answered) = read.ok().and_then(|_| serde_json::from_slice::<Answered>(&bytes).ok()) else {
        // A forge that shows a page for every address.
        return Ok(false);
    };
    let by_oid: BTreeMap<&str, &Object> = answered.objects.iter().map(|object| (object.oid.as_str(), object)).collect();
    for (path, pointer) in batch {
        let unacceptable = |why: &str| {
            let text = format!("Git LFS: the contents of {} {why} ({base})", path.escape_debug());
            Refusal::new(RefusalKind::Unacceptable, text)
        };
        let object = by_oid.get(pointer.oid.as_str()).ok_or_else(|| unacceptable("are not at the forge"))?;
        if let Some(error) = &object.error {
            return Err(unacceptable(&format!("are not at the forge: {} {}", error.code, error.message)));
        }
        let download = object.actions.as_ref().and_then(|actions| actions.download.as_ref());
        let download = download.ok_or_else(|| unacceptable("are not at the forge"))?;
        let reader = open(download, &base, network)?;
        keep(reader, root, pointer, traffic, &unacceptable)?;
    }
    Ok(true)
}

/// Asks for one object with the headers that the server gave, and no others; a redirect to another origin gets none.
fn open(download: &Download, base: &Url, network: &Network) -> Result<impl Read + use<>, Refusal> {
    let untrusted = |text: String| Refusal::new(RefusalKind::Untrusted, text);
    let mut url = base.join(&download.href).map_err(|_| untrusted(format!("Git LFS at {base} names no address")))?;
    let first = url.origin();
    for _ in 0..=MAX_REDIRECTS {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(untrusted(format!("Git LFS at {base} leads to {}:, which is not spoken here", url.scheme())));
        }
        let agent = transport::agent(&url, network).map_err(|unusable| untrusted(unusable.to_string()))?;
        let mut request = agent.get(url.as_str());
        if url.origin() == first {
            for (name, value) in &download.header {
                request = request.header(name, value);
            }
        }
        let answer = request.call().map_err(|error| transport::unreachable(&url, &error))?;
        let status = answer.status();
        if status.is_redirection() {
            let next = answer.headers().get("location").and_then(|value| value.to_str().ok());
            let next = next.and_then(|value| url.join(value).ok());
            url = next.ok_or_else(|| untrusted(format!("Git LFS at {base} redirects to no address")))?;
            continue;
        }
        if status != 200 {
            let origin = url.origin().ascii_serialization();
            let text = format!("{origin} answered HTTP {} for a file of Git LFS", status.as_u16());
            return Err(Refusal::new(RefusalKind::Unreachable, text));
        }
        return Ok(answer.into_body().into_with_config().limit(u64::MAX).reader());
    }
    Err(untrusted(format!("Git LFS at {base} redirects again and again")))
}

/// Writes contents where they are kept, once their size and hash are right.
fn keep(
    reader: impl Read,
    root: &Path,
    pointer: &Pointer,
    traffic: &Traffic,
    unacceptable: &dyn Fn(&str) -> Refusal,
) -> Result<(), Refusal> {
    let file = &at(root, &pointer.oid);
    let disk = |error: io::Error| Refusal::disk(file, &error);
    std::fs::create_dir_all(file.parent().unwrap_or(root)).map_err(disk)?;
    // The name of what a killed fetch left: cleared with the next lock.
    let partial = root.join(format!("tmp_{}", pointer.oid));
    let out = File::create(&partial).map_err(disk)?;
    let mut out = Counted { out, traffic, refusal: None, disk: None };
    // One byte more than there should be shows that there is more.
    let hashed = hash(reader.take(pointer.size.saturating_add(1)), &mut out);
    let Counted { refusal, disk: full, .. } = out;
    let found = match (hashed, refusal, full) {
        (Ok(found), ..) => found,
        (Err(_), Some(refusal), _) => return Err(refusal),
        (Err(error), None, Some(())) => return Err(disk(error)),
        (Err(error), ..) => {
            let text = format!("a file of Git LFS broke off: {error}");
            return Err(Refusal::new(RefusalKind::Unreachable, text));
        }
    };
    let size = partial.metadata().map_err(disk)?.len();
    if found != pointer.oid || size != pointer.size {
        let _ = std::fs::remove_file(&partial);
        return Err(unacceptable("are not what its pointer names: another SHA-256 or size"));
    }
    std::fs::rename(&partial, file).map_err(disk)
}

/// A file that counts what it takes.
struct Counted<'a> {
    out: File,
    traffic: &'a Traffic,
    refusal: Option<Refusal>,
    /// Set when it was the disk that refused.
    disk: Option<()>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(refusal) = self.traffic.count(bytes.len()) {
            self.refusal = Some(refusal);
            return Err(io::Error::other("too much"));
        }
        self.out.write_all(bytes).inspect_err(|_| self.disk = Some(()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_files_that_speak_of_them() {
        let oid = "4d".repeat(32);
        let good = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
        assert_eq!(Pointer::parse(good.as_bytes()), Some(Pointer { oid: oid.clone(), size: 12345 }));
        for bad in [
            format!("see {good}"),
            good.replace(&oid, "../../x"),
            good.replace("12345", "many"),
            format!("{good}{}", " ".repeat(2000)),
        ] {
            assert_eq!(Pointer::parse(bad.as_bytes()), None, "{bad}");
        }
        assert!(is_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"));
    }
}
