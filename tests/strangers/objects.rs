//! Objects of git that git itself would not make: written by hand, without a process each, and without ever holding what
//! they unpack to.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use sha1::{Digest, Sha1};

pub(crate) type Id = [u8; 20];

/// The objects of a bare repository.
pub(crate) struct Objects(PathBuf);

impl Objects {
    pub(crate) fn of(bare: &Path) -> Objects {
        Objects(bare.join("objects"))
    }

    /// Writes one object as it is.
    pub(crate) fn write(&self, kind: &str, content: &[u8]) -> Id {
        let mut whole = format!("{kind} {}\0", content.len()).into_bytes();
        whole.extend_from_slice(content);
        let id: Id = Sha1::digest(&whole).into();
        let name = hex::encode(id);
        let folder = self.0.join(&name[..2]);
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join(&name[2..]);
        if !file.exists() {
            fs::write(file, deflated(&whole)).expect("an object");
        }
        id
    }

    /// A tree of these entries, in this order, whatever git thinks of them.
    pub(crate) fn tree(&self, entries: &[(&str, &[u8], Id)]) -> Id {
        self.write("tree", &tree(entries))
    }

    /// A commit of a tree.
    pub(crate) fn commit(&self, tree: Id) -> Id {
        let who = "Eve <eve@evil.example> 1750000000 +0000";
        let text = format!("tree {}\nauthor {who}\ncommitter {who}\n\nA friendly change\n", hex::encode(tree));
        self.write("commit", text.as_bytes())
    }

    /// Folders within folders, each with the same entry `count` times: a bomb of `count` ^ `levels` entries.
    pub(crate) fn bomb(&self, mode: &str, innermost: Id, count: usize, levels: usize) -> Id {
        let names: Vec<String> = (0..count).map(|number| format!("{number:03}")).collect();
        (0..levels).fold(innermost, |id, level| {
            let mode = if level == 0 { mode } else { "40000" };
            let entries: Vec<(&str, &[u8], Id)> = names.iter().map(|name| (mode, name.as_bytes(), id)).collect();
            self.tree(&entries)
        })
    }

    /// Writes a pack, and an index that says of each entry what it is given to say.
    pub(crate) fn pack(&self, entries: &[Packed]) {
        let mut pack = b"PACK\0\0\0\x02".to_vec();
        pack.extend(u32::try_from(entries.len()).expect("few").to_be_bytes());
        let mut index = Vec::new();
        let mut offsets = Vec::new();
        for entry in entries {
            let offset = pack.len();
            let (kind, size, body) = entry.encoded(offset, &offsets);
            put_header(&mut pack, kind, size);
            pack.extend(body);
            let mut crc = Crc::new();
            crc.update(&pack[offset..]);
            index.push((entry.id(), crc.sum(), u32::try_from(offset).expect("small")));
            offsets.push(offset);
        }
        let sum: Id = Sha1::digest(&pack).into();
        pack.extend(sum);
        let stem = self.0.join("pack").join(format!("pack-{}", hex::encode(sum)));
        fs::create_dir_all(self.0.join("pack")).expect("a folder");
        fs::write(stem.with_extension("pack"), pack).expect("a pack");
        fs::write(stem.with_extension("idx"), index_of(index, sum)).expect("an index");
    }
}

/// The raw bytes of a tree object.
fn tree(entries: &[(&str, &[u8], Id)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(mode.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(id);
    }
    bytes
}

/// An entry of a pack.
pub(crate) enum Packed {
    /// A file of so many zeros.
    Zeros { id: Id, length: u64 },
    /// What copies of its base make, and after them a few bytes that no other has.
    Copies { id: Id, base: usize, base_length: u64, times: u64, tail: [u8; 8] },
}

impl Packed {
    /// A file of zeros under its true name.
    pub(crate) fn zeros(length: u64) -> Packed {
        let script = format!("(printf 'blob {length}\\0'; head -c {length} /dev/zero) | sha1sum");
        let mut id = [0; 20];
        hex::decode_to_slice(&piped(&script)[..40], &mut id).expect("sha1sum's form");
        Packed::Zeros { id, length }
    }

    pub(crate) fn id(&self) -> Id {
        match self {
            Packed::Zeros { id, .. } | Packed::Copies { id, .. } => *id,
        }
    }

    /// Its type, its size as the header says it, and the bytes after the header (gitformat-pack(5)).
    fn encoded(&self, offset: usize, offsets: &[usize]) -> (u8, u64, Vec<u8>) {
        match self {
            Packed::Zeros { length, .. } => (3, *length, deflated_zeros(*length)),
            Packed::Copies { base, base_length, times, tail, .. } => {
                let delta = delta(*base_length, *times, tail);
                let mut body = distance(offset - offsets[*base]);
                body.extend(deflated(&delta));
                (6, delta.len() as u64, body)
            }
        }
    }
}

/// Instructions to copy all of the base so many times.
fn delta(base: u64, times: u64, tail: &[u8; 8]) -> Vec<u8> {
    const MOST: u64 = 0xff_ffff;
    let mut bytes = varint(base);
    bytes.extend(varint(base * times + tail.len() as u64));
    for _ in 0..times {
        let mut at = 0;
        while at < base {
            let length = MOST.min(base - at);
            bytes.push(0b1111_1111);
            bytes.extend(&u32::try_from(at).expect("within 4 GiB").to_le_bytes());
            bytes.extend(&length.to_le_bytes()[..3]);
            at += length;
        }
    }
    bytes.push(8);
    bytes.extend(tail);
    bytes
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// How far back the base begins.
fn distance(mut number: usize) -> Vec<u8> {
    let mut bytes = vec![(number & 0x7f) as u8];
    while number >= 0x80 {
        number = (number >> 7) - 1;
        bytes.insert(0, (number & 0x7f) as u8 | 0x80);
    }
    bytes
}

fn put_header(pack: &mut Vec<u8>, kind: u8, size: u64) {
    let (first, mut rest) = ((kind << 4) | (size & 0xf) as u8, size >> 4);
    pack.push(if rest > 0 { first | 0x80 } else { first });
    while rest > 0 {
        let seven = (rest & 0x7f) as u8;
        rest >>= 7;
        pack.push(if rest > 0 { seven | 0x80 } else { seven });
    }
}

/// An index of version 2.
fn index_of(mut entries: Vec<(Id, u32, u32)>, pack: Id) -> Vec<u8> {
    entries.sort_unstable();
    let mut bytes = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=255 {
        let count = entries.iter().filter(|(id, ..)| id[0] <= first).count();
        bytes.extend(u32::try_from(count).expect("few").to_be_bytes());
    }
    bytes.extend(entries.iter().flat_map(|(id, ..)| *id));
    bytes.extend(entries.iter().flat_map(|(_, crc, _)| crc.to_be_bytes()));
    bytes.extend(entries.iter().flat_map(|(.., offset)| offset.to_be_bytes()));
    bytes.extend(pack);
    let sum: Id = Sha1::digest(&bytes).into();
    bytes.extend(sum);
    bytes
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("memory")
}

/// The same for zeros, by programs that are quick about it: what gzip wrote without its frame, in zlib's (RFC 1950, RFC 1952).
fn deflated_zeros(length: u64) -> Vec<u8> {
    let gzip = piped(&format!("head -c {length} /dev/zero | gzip -1n"));
    // Adler-32 of zeros: the first sum stays one, the second counts.
    let sum = (u32::try_from(length % 65521).expect("small") << 16) | 1;
    [&[0x78, 0x01], &gzip[10..gzip.len() - 8], &sum.to_be_bytes()].concat()
}

fn piped(script: &str) -> Vec<u8> {
    let output = Command::new("sh").args(["-c", script]).output().expect("a shell");
    assert!(output.status.success(), "{script}");
    output.stdout
}
