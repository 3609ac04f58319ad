//! Trees that were made to hurt: nothing outside the workspace is written or read, and the person
//! who pushed them is told which path breaks which rule.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use hookmill::checkout::{Budget, Job, Refusal, RefusalKind};
use hookmill::domain::outcome::Outcome;

use crate::support::workbench::{Workbench, refused, run};
use crate::support::{ordinary, workbench};

/// The raw bytes of a tree object.
fn tree(entries: &[(&str, &[u8], &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(mode.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend((0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("hex")));
    }
    bytes
}

impl Workbench {
    /// Writes an object of any content into the forge's repository; answers with its id.
    fn object(&self, kind: &str, content: &[u8]) -> String {
        let args = ["hash-object", "-t", kind, "--literally", "-w", "--stdin"];
        workbench::git(self.dir.path(), &self.bare(), &args, content)
    }

    /// A commit of a tree that was made by `object`, on a branch of the forge.
    fn commit_tree(&self, tree: &str, branch: &str) -> String {
        let sha = self.git_bare(&["commit-tree", tree, "-m", "a tree"]);
        self.git_bare(&["update-ref", &format!("refs/heads/{branch}"), &sha]);
        sha
    }

    /// The id of a commit with these entries at the top.
    fn hostile(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let id = self.object("tree", &tree(entries));
        self.commit_tree(&id, "main")
    }

    async fn refusal(&self, sha: &str) -> Refusal {
        let refusal = refused(self.checkout(sha).await);
        assert_eq!(refusal.kind, RefusalKind::Unacceptable, "{refusal}");
        assert_eq!(refusal.verdict().outcome, Outcome::Failed, "the commit's fault");
        assert!(!refusal.may_retry());
        refusal
    }
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_before_the_first_file() {
    let bench = Workbench::new();
    let good = bench.push(&[("a.js", "1")]);
    bench.checkout(&good).await.expect("a plain repository");
    let blob = bench.object("blob", b"owned");
    let folder = bench.object("tree", &tree(&[("100644", b"config", &blob)]));
    let long = "n".repeat(300);
    for name in [
        ".git",
        ".GIT",
        ".git ",
        "git~1",
        ".git::$INDEX_ALLOCATION",
        ".git\\hooks",
        "..",
        "../owned",
        "/tmp/owned",
        ".g\u{200c}it",
        "a\u{1b}[31mb",
        "a\nb",
        "..\\owned",
        ".",
        long.as_str(),
    ] {
        for (mode, id) in [("40000", &folder), ("100644", &blob), ("120000", &blob)] {
            let refusal = bench.refusal(&bench.hostile(&[("100644", b"0", &blob), (mode, name.as_bytes(), id)])).await;
            assert!(refusal.message.starts_with("the commit's tree is not acceptable: \""), "{refusal}");
            assert!(!refusal.message.contains('\u{1b}') && !refusal.message.contains('\n'), "{refusal}");
        }
    }
    let nested =
        bench.object("tree", &tree(&[("40000", b"sub", &bench.object("tree", &tree(&[("100644", b".git", &blob)])))]));
    let refusal = bench.refusal(&bench.hostile(&[("40000", b"deep", &nested)])).await;
    assert_eq!(refusal.message, "the commit's tree is not acceptable: \"deep/sub/.git\" is a form of \".git\"");
    // The workspace is as it was, and still known.
    assert_eq!(bench.status(), "");
    assert_eq!(bench.checkout(&good).await.expect("as before").changed, 0);
    let owned = std::process::Command::new("find").arg(bench.dir.path()).args(["-name", "owned*"]).output();
    assert!(owned.expect("find").stdout.is_empty());
}

#[tokio::test]
async fn a_name_that_is_there_twice_is_refused() {
    let bench = Workbench::new();
    let blob = bench.object("blob", b"/tmp");
    let folder = bench.object("tree", &tree(&[("100644", b"file", &blob)]));
    let refusal = bench.refusal(&bench.hostile(&[("120000", b"a", &blob), ("40000", b"a", &folder)])).await;
    assert!(refusal.message.ends_with("\"a\" is there twice in one folder"), "{refusal}");
}

#[tokio::test]
async fn links_are_made_as_links_and_never_followed() {
    let bench = Workbench::new();
    let victim = bench.dir.path().join("victim");
    std::fs::create_dir(&victim).expect("a folder");
    std::fs::write(victim.join("kept"), "kept").expect("a file");
    symlink("/etc/passwd", bench.work().join("package.json")).expect("a link");
    symlink(&victim, bench.work().join("dist")).expect("a link");
    symlink("..", bench.work().join("node_modules")).expect("a link");
    let links = bench.push(&[("bower.json", "{}")]);
    let done = bench.checkout(&links).await.expect("links are allowed");
    assert_eq!(done.listing.paths.iter().collect::<Vec<_>>(), ["bower.json"], "a manifest that is a link is not read");
    assert!(!format!("{done:?}").contains("root:"));
    assert_eq!(std::fs::read_link(bench.src().join("dist")).expect("a link"), victim);
    assert_eq!(bench.status(), "");

    // The link becomes a folder, with files under the names that the victim has.
    for name in ["dist", "node_modules", "package.json"] {
        std::fs::remove_file(bench.work().join(name)).expect("a link");
    }
    let folders = bench.push(&[("dist/kept", "ours"), ("node_modules/x", "ours"), ("package.json", "{}")]);
    let done = bench.checkout(&folders).await.expect("links go");
    assert!(done.listing.has("package.json"));
    assert_eq!(std::fs::read_to_string(victim.join("kept")).expect("a file"), "kept");
    assert_eq!(std::fs::read_to_string(bench.src().join("dist/kept")).expect("a file"), "ours");
    assert_eq!(bench.status(), "");
    // And back: removing what was in the folder must not remove what the link points at.
    bench.checkout(&links).await.expect("folders go");
    assert_eq!(std::fs::read_to_string(victim.join("kept")).expect("a file"), "kept");
    assert_eq!(bench.status(), "");
}

#[tokio::test]
async fn what_a_build_planted_in_the_workspace_is_not_followed() {
    let bench = Workbench::new();
    let victim = bench.dir.path().join("victim");
    std::fs::create_dir(&victim).expect("a folder");
    std::fs::write(victim.join("a.js"), "kept").expect("a file");
    let first = bench.push(&[("src/a.js", "1"), ("b.js", "1")]);
    bench.checkout(&first).await.expect("a plain repository");
    std::fs::remove_dir_all(bench.src().join("src")).expect("a folder");
    symlink(&victim, bench.src().join("src")).expect("a link");
    std::fs::remove_dir_all(bench.src().join(".git")).expect("a folder");
    symlink(&victim, bench.src().join(".git")).expect("a link");
    let second = bench.push(&[("src/a.js", "2")]);
    let answer = bench.checkout(&second).await;
    assert_eq!(std::fs::read_to_string(victim.join("a.js")).expect("a file"), "kept");
    assert_eq!(std::fs::read_dir(&victim).expect("a folder").count(), 1);
    // Refused this time, and written anew the next: the state was forgotten before the first change.
    let refusal = refused(answer);
    assert_eq!(refusal.kind, RefusalKind::Broken, "{refusal}");
    bench.checkout(&second).await.expect("a new workspace");
    assert_eq!(bench.status(), "");
    assert_eq!(std::fs::read_dir(&victim).expect("a folder").count(), 1);
}

#[tokio::test]
async fn hostile_submodules_are_named_and_never_fetched() {
    let bench = Workbench::new();
    let gitmodules = "[submodule \"a\"]\n\tpath = vendor/a\n\turl = ext::sh -c touch% owned\n\tupdate = !touch owned\n\
                      [submodule \"b\"]\n\tpath = vendor/b\n\turl = file:///etc\n";
    bench.push(&[("a.js", "1")]);
    let link = |text: &str, file: &str| {
        std::fs::write(bench.work().join(".gitmodules"), text).expect("a file");
        std::fs::write(bench.work().join(".hookmill.toml"), file).expect("a file");
        bench.git(&["add", ".gitmodules", ".hookmill.toml"]);
        for path in ["vendor/a", "vendor/b"] {
            bench.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},{path}", "1".repeat(40))]);
        }
        bench.git(&["commit", "-q", "-m", "submodules"]);
        bench.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
        bench.git(&["rev-parse", "HEAD"])
    };
    let refusal = refused(bench.checkout(&link(gitmodules, "")).await);
    assert_eq!(refusal.kind, RefusalKind::Unacceptable);
    assert!(refusal.message.starts_with("submodule vendor/a: ext::sh -c touch% owned is not fetched"), "{refusal}");
    assert!(bench.server.requests().iter().all(|request| request.line.contains("/shop.git/")));
    // git itself refuses to look at that `update`; without it, it finds nothing to complain of.
    let mild = gitmodules.replace("!touch owned", "none");
    let off = link(&mild, "[checkout]\nsubmodules = false\n");
    let done = bench.checkout(&off).await.expect("they are left out");
    assert_eq!(
        done.notices,
        ["Submodules are not fetched: vendor/a and 1 more left empty; checkout.submodules is false"]
    );
    assert!(bench.src().join("vendor/a").is_dir());
    assert_eq!(bench.status(), "");
    let gone = bench.push(&[("a.js", "2")]);
    let done = bench.checkout(&gone).await.expect("without them");
    assert!(done.notices.is_empty() && !bench.src().join("vendor").exists());
}

#[tokio::test]
async fn lfs_pointers_are_noticed() {
    let bench = Workbench::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let sha = bench.push(&[("img/a.png", pointer), ("img/b.png", pointer), (".gitattributes", "*.png filter=lfs\n")]);
    // Pointers to nothing that could be asked for.
    let words = "Git LFS is not fetched: img/a.png and 1 more hold pointers and not their contents; \
                 .gitattributes does not name them, or the folder lacks them";
    let done = bench.checkout(&sha).await.expect("pointers are files");
    assert_eq!(done.notices, [words]);
    assert_eq!(bench.checkout(&sha).await.expect("the same").notices, [words], "also when nothing is written");
    let sha = bench.push(&[("img/a.png", "real"), ("img/b.png", "real")]);
    assert!(bench.checkout(&sha).await.expect("contents").notices.is_empty());
}

#[tokio::test]
async fn a_bomb_has_its_verdict_at_once() {
    let bench = Workbench::new();
    let blob = bench.object("blob", b"boom");
    let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let mut id = blob;
    for level in 0..9 {
        let mode = if level == 0 { "100644" } else { "40000" };
        let entries: Vec<(&str, &[u8], &str)> = names.iter().map(|name| (mode, name.as_bytes(), id.as_str())).collect();
        id = bench.object("tree", &tree(&entries));
    }
    let files = bench.commit_tree(&id, "main");
    let mut id = bench.object("tree", b"");
    for _ in 0..9 {
        let entries: Vec<(&str, &[u8], &str)> =
            names.iter().map(|name| ("40000", name.as_bytes(), id.as_str())).collect();
        id = bench.object("tree", &tree(&entries));
    }
    let folders = bench.commit_tree(&id, "other");
    for (sha, words) in [(files, "more than 300000 files"), (folders, "more than 300000 folders")] {
        let begun = Instant::now();
        let refusal = bench.refusal(&sha).await;
        assert!(refusal.message.contains(words), "{refusal}");
        // 0.3 s in a release build; a debug build on a busy machine is allowed more.
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(!bench.src().exists(), "nothing was written");
    }
}

#[tokio::test]
async fn depth_length_and_size_have_bounds() {
    let bench = Workbench::new();
    let mut id = bench.object("blob", b"x");
    for level in 0..150 {
        let mode = if level == 0 { "100644" } else { "40000" };
        id = bench.object("tree", &tree(&[(mode, b"d", &id)]));
    }
    let refusal = bench.refusal(&bench.commit_tree(&id, "main")).await;
    assert!(refusal.message.contains("lies deeper than 100 folders"), "{refusal}");

    let mut id = bench.object("blob", b"x");
    for level in 0..30 {
        let mode = if level == 0 { "100644" } else { "40000" };
        id = bench.object("tree", &tree(&[(mode, "n".repeat(200).as_bytes(), &id)]));
    }
    let refusal = bench.refusal(&bench.commit_tree(&id, "main")).await;
    assert!(refusal.message.contains("is a path longer than 4000 bytes"), "{refusal}");
    assert!(refusal.message.len() < 400);

    let sha = bench.push(&[("big.bin", &"x".repeat(2_000_000)), ("b.js", "1")]);
    let tight = |budget| Job { budget, ..bench.job(&sha, "refs/heads/main") };
    let plain = Budget { files: 10, bytes: 10_000_000, depth: 100, path_bytes: 4000 };
    run(&tight(plain)).await.expect("within");
    let refusal = refused(run(&tight(Budget { files: 1, ..plain })).await);
    assert_eq!(refusal.kind, RefusalKind::Unacceptable, "a limit that was lowered holds for what is there, too");
}

#[tokio::test]
async fn a_commit_that_grows_past_the_budget_is_counted_from_the_difference() {
    let bench = Workbench::new();
    let budget = Budget { files: 3, bytes: 1000, depth: 100, path_bytes: 4000 };
    let first = bench.push(&[("a", "1"), ("b", "1")]);
    let job = |sha: &str| Job { budget, ..bench.job(sha, "refs/heads/main") };
    run(&job(&first)).await.expect("two files");
    let second = bench.push(&[("c", "1"), ("d", "1")]);
    let refusal = refused(run(&job(&second)).await);
    assert_eq!(refusal.message, "the commit is too large: more than 3 files (limits.checkout_files)");
    std::fs::remove_file(bench.work().join("a")).expect("a file");
    let third = bench.push(&[]);
    run(&job(&third)).await.expect("three files");
    let fourth = bench.push(&[("c", &"x".repeat(1100))]);
    let refusal = refused(run(&job(&fourth)).await);
    assert_eq!(refusal.message, "the commit is too large: more than 1000 bytes (limits.checkout_bytes)");
    assert!(Path::new(&bench.src().join("c")).exists());
}

/// root may write anywhere: what keeps it from that has to be there for both.
#[test]
fn all_of_this_as_an_ordinary_user() {
    ordinary::again(&["checkout::hostile::"]);
}
