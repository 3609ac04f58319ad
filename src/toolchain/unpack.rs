//! Unpacks a tool's archive. It comes from whoever can publish, so nothing in it may leave its folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

/// Node's binaries are 0.2 GB; what is larger than this is none of the tools we fetch.
const MAX_BYTES: u64 = 2 << 30;
/// npm brings about 2 500 files, node's headers about as many.
const MAX_ENTRIES: usize = 50_000;

/// Unpacks a gzipped tar archive into `root`, without the first folder of every path (`package/` in a registry's
/// tarballs, `node-v22.11.0-linux-x64/` in node's own).
///
/// Files, folders and links that stay inside are made; files are 0644, or 0755 where anybody may execute them. Links
/// are made last, so that nothing is ever written through one.
///
/// # Errors
/// For anything else in it: absolute paths, `..`, devices, hard links, more than tools have.
pub(super) fn unpack(archive: impl Read, root: &Path) -> io::Result<()> {
    let mut archive = Archive::new(GzDecoder::new(archive));
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut left = MAX_BYTES;
    for (count, entry) in archive.entries()?.enumerate() {
        let entry = entry?;
        if count >= MAX_ENTRIES {
            return Err(refused("more files than a tool has"));
        }
        let name = entry.path()?.into_owned();
        let Some(path) = inside(&name)? else { continue };
        let place = root.join(&path);
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&place)?,
            EntryType::Regular | EntryType::Continuous => {
                left = left.checked_sub(entry.size()).ok_or_else(|| refused("larger than a tool is"))?;
                let executable = entry.header().mode()? & 0o111 != 0;
                write(entry, &place, executable)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| refused("a link to nowhere"))?.into_owned();
                stays_inside(&path, &target)?;
                links.push((place, target));
            }
            // Said about the archive or the next entry; the library has read what it needs of them.
            EntryType::XGlobalHeader | EntryType::XHeader => {}
            other => return Err(refused(&format!("{} is of the kind {other:?}", name.display()))),
        }
    }
    for (place, target) in links {
        make_parent(&place)?;
        symlink(target, place)?;
    }
    Ok(())
}

fn write(mut entry: impl Read, place: &Path, executable: bool) -> io::Result<()> {
    make_parent(place)?;
    let mut file = File::create(place)?;
    io::copy(&mut entry, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
}

fn make_parent(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), fs::create_dir_all)
}

/// The path below its first folder; `None` for that folder itself.
fn inside(name: &Path) -> io::Result<Option<PathBuf>> {
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            _ => return Err(refused(&format!("{} leaves its folder", name.display()))),
        }
    }
    Ok((parts.len() > 1).then(|| parts[1..].iter().collect()))
}

/// A link's target is read from the folder that the link is in.
fn stays_inside(link: &Path, target: &Path) -> io::Result<()> {
    let mut depth = link.components().count().saturating_sub(1);
    for component in target.components() {
        depth = match component {
            Component::Normal(_) => Some(depth + 1),
            Component::CurDir => Some(depth),
            Component::ParentDir => depth.checked_sub(1),
            _ => None,
        }
        .ok_or_else(|| refused(&format!("the link {} leaves its folder", link.display())))?;
    }
    Ok(())
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, Header};

    /// An archive of one entry, whose name is written as it is.
    fn archive(kind: EntryType, name: &str, link: &str, text: &[u8]) -> Vec<u8> {
        let mut head = Header::new_ustar();
        head.set_entry_type(kind);
        head.set_size(text.len() as u64);
        head.set_mode(0o4755);
        let bytes = head.as_old_mut();
        bytes.name[..name.len()].copy_from_slice(name.as_bytes());
        bytes.linkname[..link.len()].copy_from_slice(link.as_bytes());
        head.set_cksum();
        let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        tar.append(&head, text).expect("memory");
        tar.into_inner().and_then(GzEncoder::finish).expect("memory")
    }

    #[test]
    fn files_and_links_inside() {
        let dir = tempfile::tempdir().expect("a folder");
        unpack(&archive(EntryType::Regular, "package/bin/node", "", b"hello")[..], dir.path()).expect("a file");
        unpack(&archive(EntryType::Symlink, "x/bin/npm", "../lib/npm.js", b"")[..], dir.path()).expect("a link");
        let node = dir.path().join("bin/node");
        assert_eq!(node.metadata().expect("there").permissions().mode() & 0o7777, 0o755, "no set-user-id");
        assert_eq!(fs::read_link(dir.path().join("bin/npm")).expect("a link"), Path::new("../lib/npm.js"));
    }

    #[test]
    fn what_is_refused() {
        let check = |kind, name: &str, link: &str| {
            let dir = tempfile::tempdir().expect("a folder");
            let root = dir.path().join("root");
            let error = unpack(&archive(kind, name, link, b"")[..], &root).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}: {error}");
            assert!(fs::read_dir(dir.path()).expect("a folder").count() <= 1, "{name}: only the root");
        };
        check(EntryType::Regular, "package/../../etc", "");
        check(EntryType::Regular, "/etc/passwd", "");
        check(EntryType::Symlink, "package/a", "/etc/passwd");
        check(EntryType::Symlink, "package/a", "../b");
        check(EntryType::Symlink, "package/a/b", "../../c");
        check(EntryType::Link, "package/a", "package/b");
        check(EntryType::Char, "package/a", "");
        check(EntryType::Block, "package/a", "");
        check(EntryType::Fifo, "package/a", "");
    }

    #[test]
    fn an_archive_that_breaks_off_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let whole = archive(EntryType::Regular, "package/a", "", &[7; 5000]);
        assert!(unpack(&whole[..whole.len() / 2], dir.path()).is_err());
    }
}
