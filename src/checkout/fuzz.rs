//! What a checkout reads of a stranger's: `.gitmodules`, pointers of Git LFS, trees and the names in them.

use std::path::Path;

use url::Url;

use super::gitdir::{self, Head};
use super::{diff, gitmodules, lfs, names};
use crate::fuzz::Target;

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[
    Target {
        name: "gitmodules",
        real: &[
            b"[submodule \"themes/x\"]\n\tpath = themes/x\n\turl = ../x.git\n\tbranch = main\n",
            b"[submodule \"a\"]\n\tpath = \"vendor/a\" ; here\n\turl = https://user:token@git.lan/acme/a.git\n\tupdate = !touch owned\n\
              [submodule \"b\"]\n\tpath = b\n\turl = git@git.lan:acme/b.git\n[include]\n\tpath = /etc/passwd\n",
            b"\xef\xbb\xbf[submodule \"a \\\"b\\\" \\\\ c\"]\r\n\tPath = ./a\r\n\tURL = ssh://git@git.lan/acme/a\r\n",
        ],
        words: &[
            "[submodule \"", "\"]\n", "path = ", "url = ", "../", "./", "file:///", "ext::sh -c ", "https://", "http://git.lan",
            "git@git.lan:", "ssh://", "@", ":", "#", "\\", "\"", "\n", "\r", "\0", "\u{85}", "..", "/", "\t",
        ],
        tries: 3000,
        holds: submodules,
    },
    Target {
        name: "lfs-pointer",
        real: &[b"version https://git-lfs.github.com/spec/v1\n\
                  oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"],
        words: &["oid sha256:", "size ", "\n", "../", "18446744073709551615", "-1", "A", "version "],
        tries: 3000,
        holds: pointer,
    },
    Target {
        name: "tree",
        real: &[
            b"100644 a.js\x000123456789012345678940000 src\x0001234567890123456789",
            b"120000 link\x0001234567890123456789160000 module\x0001234567890123456789100755 run\x0001234567890123456789",
        ],
        words: &["100644 ", "40000 ", "120000 ", "160000 ", "\0", ".git", "..", "/", "01234567890123456789"],
        tries: 3000,
        holds: tree,
    },
];

/// Nothing but http and https is fetched, nothing with a credential that the file brought, and nothing that a submodule
/// is called gets out of its section of the configuration that git reads.
fn submodules(bytes: &[u8]) {
    let parent = Url::parse("https://git.lan:8443/acme/shop.git").expect("an address");
    let text = String::from_utf8_lossy(bytes);
    let mut head = Head { commit: "0".repeat(40), ..Head::default() };
    for entry in gitmodules::parse(&text) {
        assert!(!entry.path.is_empty() && !entry.path.starts_with('/') && !entry.path.contains('\0'), "{entry:?}");
        let Ok(url) = gitmodules::resolve(&entry.url, &parent) else { continue };
        assert!(matches!(url.scheme(), "http" | "https") && url.host().is_some(), "{entry:?}: {url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{entry:?}: {url}");
        let names_a_host = Url::parse(&entry.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !names_a_host {
            assert_eq!(url.origin(), parent.origin(), "{entry:?}");
        }
        head.submodules.insert(entry.name, url.to_string());
    }
    if head.submodules.is_empty() || bytes.len() > 1 << 16 {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("config");
    std::fs::write(&file, gitdir::config(&head)).expect("a file");
    let config = git2::Config::open(&file).expect("git reads what we write");
    let mut keys = 0;
    config
        .entries(None)
        .expect("readable")
        .for_each(|entry| {
            let name = entry.name().expect("UTF-8");
            let known = ["core.", "gc.auto"].iter().any(|start| name.starts_with(start));
            keys += usize::from(!known);
            let of_module = name.starts_with("submodule.") && (name.ends_with(".active") || name.ends_with(".url"));
            assert!(known || of_module, "{name} in {}", gitdir::config(&head));
        })
        .expect("readable");
    assert_eq!(keys, 2 * head.submodules.len(), "{}", gitdir::config(&head));
}

/// The name of a kept file is its digest, so it lies in the folder.
fn pointer(bytes: &[u8]) {
    if let Some(pointer) = lfs::Pointer::parse(bytes) {
        assert!(bytes.len() < 1024 && pointer.oid.len() == 64);
        assert!(pointer.oid.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{pointer:?}");
        let written = format!("oid sha256:{}\nsize {}\n", pointer.oid, pointer.size);
        let again = lfs::Pointer::parse(format!("version https://git-lfs.github.com/spec/v1\n{written}").as_bytes());
        assert_eq!(again, Some(pointer));
    }
}

/// A tree that is read is read whole, and a name that may be written names something in its folder.
fn tree(bytes: &[u8]) {
    let Ok(entries) = diff::parse(bytes) else { return };
    let length: usize = entries.iter().map(|entry| entry.name.len() + 22).sum();
    assert!((length + 5 * entries.len()..=length + 6 * entries.len()).contains(&bytes.len()));
    for entry in entries {
        let name = &entry.name;
        if names::broken_rule(name).is_some() {
            continue;
        }
        use std::os::unix::ffi::OsStrExt as _;
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        let mut parts = path.components();
        assert!(
            matches!(parts.next(), Some(std::path::Component::Normal(part)) if part.as_bytes() == &name[..]),
            "{path:?}"
        );
        assert!(parts.next().is_none() && name.len() <= 255 && !name.iter().any(u8::is_ascii_control), "{path:?}");
        let letters: String = String::from_utf8_lossy(name).chars().filter(char::is_ascii).collect();
        assert!(!letters.trim_end_matches(['.', ' ']).eq_ignore_ascii_case(".git") || !name.is_ascii(), "{path:?}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}
