use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn with(self, path: &str, bytes: &[u8]) -> Folder {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
        self
    }

    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        tree::walk(self.0.path(), |entry| {
            if entry.kind != Kind::Dir {
                files.push(entry.path.to_string_lossy().into_owned());
            }
            Visit::Continue
        })
        .expect("ours");
        files
    }

    fn clean(&self, lockfile: &str) -> Kept {
        let mut lockfiles = Lockfiles::default();
        lockfiles.add(lockfile);
        clean(self.0.path(), &lockfiles).expect("ours")
    }
}

const TARBALL: &[u8] = b"\x1f\x8b tarball";

fn content(bytes: &[u8]) -> String {
    let hex = hex::encode(Sha512::digest(bytes));
    format!("npm/_cacache/content-v2/sha512/{}/{}/{}", &hex[..2], &hex[2..4], &hex[4..])
}

fn stored(version: &str, bytes: &[u8]) -> String {
    let hex = hex::encode(Sha512::digest(bytes));
    format!("pnpm/{version}/files/{}/{}", &hex[..2], &hex[2..])
}

#[test]
fn only_what_is_held_against_a_digest_is_kept() {
    let integrity = "sha512-".to_owned() + &base64_of(b"x");
    let index = format!(r#"{{"files":{{"lib/a.js":{{"integrity":"{integrity}","mode":420,"size":1}}}}}}"#);
    let zip = hex::encode(Sha512::digest(b"PK"));
    let sha1 = hex::encode(Sha1::digest(TARBALL));
    let old = format!("npm/_cacache/content-v2/sha1/{}/{}/{}", &sha1[..2], &sha1[2..4], &sha1[4..]);
    let mut kept =
        vec![content(TARBALL), old, "yarn-mirror/dep-1.0.0.tgz".into(), "yarn/cache/dep-npm-1.0.0.zip".into()];
    kept.extend([stored("v3", b"x"), stored("v10", b"x") + "-exec", stored("v11", b"")]);
    kept.extend(["pnpm/v10/index/ab/cdef-dep@1.0.0.json", "pnpm/v3/files/ab/cdef-index.json"].map(String::from));
    kept.push("pnpm/v11/index.db".into());
    let bytes_of = |path: &str| -> Vec<u8> {
        match path {
            path if path.contains("content-v2") || path.contains("mirror") => TARBALL.to_vec(),
            path if path.ends_with(".zip") => b"PK".to_vec(),
            path if path.ends_with(".json") => index.clone().into_bytes(),
            path if path.ends_with(".db") => b"SQLite format 3\0".to_vec(),
            path if path.contains("v11") => Vec::new(),
            _ => b"x".to_vec(),
        }
    };
    let folder = kept.iter().fold(Folder::new(), |folder, path| folder.with(path, &bytes_of(path)));
    let dropped = [
        "npm/_logs/x.log",
        "npm/_npx/a/package.json",
        "npm/_update-notifier-last-checked",
        "npm/_cacache/index-v5/a/b/c",
        "npm/_cacache/tmp/x",
        "yarn/metadata/npm/x.json",
        "yarn/index/ab/x.dat",
        "yarn-cache/v6/npm-dep/index.js",
        "bun/dep@1/index.js",
        "bower/packages/x/bower.json",
        "bower/registry/x",
        "corepack/v1/pnpm/1.0.0/pnpm.cjs",
        "pnpm-metadata/x.json",
        "pnpm/v10/links/dep/index.js",
        "pnpm/v10/server/server.json",
        "pnpm/v99/files/ab/cd",
        "pnpm/v11/index.db-wal",
        "evil.sh",
    ];
    let folder = dropped.iter().fold(folder, |folder, path| folder.with(path, b"x"));
    let answer = folder.clean(&format!("integrity sha512-{}\nchecksum: 10c0/{zip}\n", base64_of(TARBALL)));
    kept.sort();
    let mut files = folder.files();
    files.sort();
    assert_eq!(files, kept);
    assert_eq!((answer.files, answer.refusals), (kept.len() as u64, 0), "{answer:?}");
    let expected: u64 = kept.iter().map(|path| bytes_of(path).len() as u64).sum();
    assert_eq!(answer.bytes, expected);
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(Sha512::digest(bytes))
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let check = |path: &str, bytes: &[u8]| {
        let folder = Folder::new().with(path, bytes);
        let kept = folder.clean("integrity sha512-AAAA\n");
        assert_eq!((kept.files, kept.refusals), (0, 1), "{path}");
        assert_eq!(kept.refused, [PathBuf::from(path)]);
        assert!(fs::read_dir(folder.0.path()).expect("there").next().is_none(), "{path}: its folders are gone too");
    };
    check(&content(TARBALL), b"\x1f\x8b tarbalL");
    check(&content(b"{\"a document\":1}"), b"{\"a document\":1}");
    check(&stored("v10", b"x"), b"y");
    check(&(stored("v3", b"x") + "-exec"), b"y");
    check("yarn-mirror/dep-1.0.0.tgz", TARBALL);
    check("yarn/cache/dep-npm-1.0.0-aa-10c0.zip", b"PK");
    check("pnpm/v11/index.db", b"text");
    let index = "pnpm/v10/index/ab/cdef-dep@1.0.0.json";
    let sound = format!("\"integrity\":\"sha512-{}\"", base64_of(b"x"));
    check(index, b"not JSON");
    check(index, b"{}");
    check(index, b"{\"files\":{\"a\":{\"integrity\":\"sha1-AAAA\"}}}");
    check(index, format!("{{\"files\":{{\"../a\":{{{sound}}}}}}}").as_bytes());
    check(index, format!("{{\"files\":{{\"a\":{{{sound}}}}},\"sideEffects\":{{\"linux\":{{}}}}}}").as_bytes());
}

#[test]
fn hostile_folders_are_not_followed_entered_or_waited_for() {
    let victim = Folder::new().with("kept", b"x");
    let folder = Folder::new().with(&content(TARBALL), TARBALL);
    let root = folder.0.path();
    symlink(victim.0.path(), root.join("yarn-mirror")).expect("a link");
    symlink(victim.0.path().join("kept"), root.join("npm/_cacache/content-v2/sha512/link")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("npm/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a pipe");
    fs::create_dir_all(root.join("npm/_cacache/content-v2/sha512/aa/bb/cc/dd")).expect("folders");
    fs::create_dir_all(root.join(stored("v10", b"x"))).expect("a folder in the place of a file");
    assert_eq!((folder.clean("").files, folder.files()), (1, vec![content(TARBALL)]));
    assert_eq!(victim.files(), ["kept"]);

    let twice = Folder::new().with(&stored("v10", b"x"), b"x");
    fs::hard_link(twice.0.path().join(stored("v10", b"x")), victim.0.path().join("second")).expect("same file system");
    assert_eq!(twice.clean("").refusals, 1, "whoever holds the second name could write");
    let none = tempfile::tempdir().expect("a folder");
    assert_eq!(clean(&none.path().join("none"), &Lockfiles::default()).expect("nothing there"), Kept::default());
}

#[test]
fn a_layer_that_means_another_tarball_is_told() {
    let folder = Folder::new().with("yarn-mirror/dep-1.0.0.tgz", TARBALL).with("yarn-mirror/other-1.0.0.tgz", b"");
    let check = |integrity: &str, expected: Option<&str>| {
        let mut lockfiles = Lockfiles::default();
        lockfiles.add(&format!(
            "dep@^1:\n  resolved \"https://registry.example/dep/-/dep-1.0.0.tgz\"\n  integrity sha512-{integrity}\n"
        ));
        assert_eq!(contradiction(folder.0.path(), &lockfiles), expected.map(PathBuf::from));
    };
    check(&base64_of(TARBALL), None);
    check(&base64_of(b"republished"), Some("yarn-mirror/dep-1.0.0.tgz"));
    assert_eq!(contradiction(folder.0.path(), &Lockfiles::default()), None);
}

#[test]
fn what_installs_point_into() {
    let check =
        |tool, version, expected: &[&str]| assert_eq!(belongs_to_packages(tool, version), expected, "{tool} {version}");
    check("npm", "11.19.1", &[]);
    check("yarn", "1.22.22", &[]);
    check("yarn", "4.9.2", &[".downloads/yarn/cache"]);
    check("pnpm", "9.15.9", &[]);
    check("pnpm", "10.34.9", &[".downloads/pnpm/v10/links", ".downloads/pnpm/v11/links"]);
}
