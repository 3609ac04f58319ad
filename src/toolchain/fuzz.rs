//! What unpacking an archive promises, whoever published it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::unpack::unpack;
use crate::fuzz::Target;

/// See [`crate::fuzz`]. An input is a line for each entry of an archive: kind, name, where it links to.
pub const TARGETS: &[Target] = &[
    Target {
        name: "archive",
        real: &[
            b"0 package/bin/tool\n0 package/package.json\n5 package/lib\n2 package/bin/link ../lib/tool.js\n",
            b"5 node-v22\n2 node-v22/bin/npm ../lib/node_modules/npm/bin/npm-cli.js\n0 node-v22/lib/node_modules/npm/bin/npm-cli.js\n",
            b"2 package/a /etc\n0 package/a/passwd\n2 package/b ..\n0 package/b/owned\n1 package/c /etc/passwd\n3 package/d\n6 package/e\n",
        ],
        words: &["0 ", "1 ", "2 ", "5 ", "x ", "g ", "L ", "K ", "S ", "../", "/", "./", "package/", " ", "\n", "\0", "a", "..", "\\", "ü"],
        tries: 200,
        holds: archives,
    },
    Target {
        name: "archive-bytes",
        real: &[b"package/a\0\0\0\0\0\0\0\0\0\0\0", b""],
        words: &["\0", "ustar\0", "package/", "0000644\0", "77777777777\0", "\0\0\0\x01"],
        tries: 100,
        holds: unpacked,
    },
];

/// Archives whose entries are named and linked as the input says.
fn archives(bytes: &[u8]) {
    let mut tar = Builder::new(Vec::new());
    for line in bytes.split(|byte| *byte == b'\n').take(200) {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let kind = parts.next().and_then(|kind| kind.first()).copied().unwrap_or(b'0');
        let (name, link) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mut head = Header::new_ustar();
        head.set_entry_type(EntryType::new(kind));
        head.set_size(if kind == b'0' { 5 } else { 0 });
        head.set_mode(0o6777);
        let (name, link) = (&name[..name.len().min(100)], &link[..link.len().min(100)]);
        let old = head.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        head.set_cksum();
        let text: &[u8] = if kind == b'0' { b"hello" } else { b"" };
        tar.append(&head, text).expect("memory");
    }
    unpacked(&tar.into_inner().expect("memory"));
}

/// Everything that comes of it lies in its folder and leads nowhere else, also when it is refused half-way.
fn unpacked(tar: &[u8]) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a folder");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(tar).expect("memory");
    let _refused = unpack(&gzip.finish().expect("memory")[..], &root);
    let beside: Vec<_> = fs::read_dir(dir.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(beside, ["root"]);
    check(&root, 0);
}

fn check(folder: &Path, depth: usize) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("known");
        assert!(!kind.is_fifo() && !kind.is_block_device() && !kind.is_char_device() && !kind.is_socket(), "{entry:?}");
        if kind.is_symlink() {
            let target = fs::read_link(entry.path()).expect("a link");
            let mut at = depth;
            for part in target.components() {
                at = match part {
                    Component::Normal(_) => at + 1,
                    Component::CurDir => at,
                    Component::ParentDir => {
                        at.checked_sub(1).unwrap_or_else(|| panic!("{entry:?} leads out to {target:?}"))
                    }
                    _ => panic!("{entry:?} leads to {target:?}"),
                };
            }
        } else {
            let mode = entry.metadata().expect("there").permissions().mode();
            assert_eq!(mode & 0o7000, 0, "{entry:?} has privileges");
            if kind.is_dir() {
                check(&entry.path(), depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}
