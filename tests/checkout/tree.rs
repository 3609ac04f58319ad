//! From a commit at a forge to files on disk: real git over HTTP, the real child process.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookmill::checkout::{Job, Local, RefusalKind, Source};
use hookmill::domain::outcome::Outcome;

use crate::support::git_http::Behaviour;
use crate::support::workbench::{Workbench, refused, run};

/// Every file of a folder but `.git`, with inode and time.
fn inodes(root: &Path) -> BTreeMap<PathBuf, (u64, i64)> {
    let mut found = BTreeMap::new();
    hookmill::tree::walk(root, |entry| {
        if entry.path == Path::new(".git") {
            return hookmill::tree::Visit::Skip;
        }
        if entry.kind != hookmill::tree::Kind::Dir {
            found.insert(entry.path.clone(), (entry.inode, entry.modified.0));
        }
        hookmill::tree::Visit::Continue
    })
    .expect("readable");
    found
}

#[tokio::test]
async fn a_first_checkout_holds_exactly_the_tree() {
    let bench = Workbench::new();
    bench.push(&[("README", "first")]);
    std::os::unix::fs::symlink("src/index.js", bench.work().join("entry.js")).expect("a link");
    std::fs::write(bench.work().join("build.sh"), "#!/bin/sh\n").expect("a file");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bench.work().join("build.sh"), executable).expect("ours");
    let sha = bench.push(&[("package.json", "{}"), ("src/index.js", "1"), ("client/bower.json", "{\"name\":\"c\"}")]);

    let done = bench.checkout(&sha).await.expect("a plain repository");
    assert_eq!(done.commit.as_ref().map(|id| id.as_str()), Some(sha.as_str()));
    assert_eq!(done.tree, bench.git(&["rev-parse", "HEAD^{tree}"]));
    assert_eq!((done.files, done.changed, done.mirror_had_it), (6, 6, false));
    assert!(done.fetched_bytes > 0);
    assert_eq!(done.title.as_deref(), Some("a change"));
    assert_eq!(done.author.as_deref(), Some("Ada"));
    assert!(done.notices.is_empty(), "{:?}", done.notices);
    assert_eq!(done.listing.paths.iter().collect::<Vec<_>>(), ["client/bower.json", "package.json"]);
    assert_eq!(done.listing.text("client/bower.json"), Some("{\"name\":\"c\"}"));

    let src = bench.src();
    assert_eq!(std::fs::read_to_string(src.join("src/index.js")).expect("a file"), "1");
    assert_eq!(std::fs::read_link(src.join("entry.js")).expect("a link"), Path::new("src/index.js"));
    let git = |args: &[&str]| bench.git_in(&src, args);
    assert_eq!(bench.status(), "");
    assert_eq!(git(&["diff-files"]), "", "the index knows sizes and times: nothing has to be read");
    assert_eq!(git(&["rev-parse", "HEAD"]), sha);
    assert_eq!(git(&["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD", "detached");
    assert_eq!(git(&["remote", "get-url", "origin"]), bench.clone_url().as_str());
    assert_eq!(git(&["rev-list", "--count", "HEAD"]), "1", "a depth of 1 was asked for");
    assert_eq!(git(&["ls-files", "-s", "build.sh"]).split(' ').next(), Some("100755"));
    git(&["fsck", "--connectivity-only"]);
}

#[tokio::test]
async fn one_new_commit_touches_only_what_changed() {
    let bench = Workbench::new();
    let files: Vec<(String, String)> = (0..50).map(|n| (format!("src/m{}/f{n}.js", n % 7), n.to_string())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let first = bench.push(&files);
    bench.checkout(&first).await.expect("a plain repository");
    let before = inodes(&bench.src());

    std::fs::remove_dir_all(bench.work().join("src/m3")).expect("a folder");
    let second = bench.push(&[("src/m0/f0.js", "changed"), ("new/file.js", "new")]);
    let done = bench.checkout(&second).await.expect("one commit more");
    let after = inodes(&bench.src());
    let gone = files.iter().filter(|(path, _)| path.starts_with("src/m3/")).count() as u64;
    assert_eq!(done.changed, 2 + gone);
    assert!(!done.mirror_had_it);
    for (path, what) in &after {
        if path != Path::new("src/m0/f0.js") && path != Path::new("new/file.js") {
            assert_eq!(before.get(path), Some(what), "{} was touched", path.display());
        }
    }
    assert!(!bench.src().join("src/m3").exists(), "empty folders go");
    assert_eq!(bench.status(), "");
    assert_eq!(bench.git_in(&bench.src(), &["diff-files"]), "");

    // And back: the same content has the same time as before.
    bench.checkout(&first).await.expect("the mirror has it");
    assert_eq!(bench.status(), "");
    let times = |from: &BTreeMap<PathBuf, (u64, i64)>| from.values().map(|(_, time)| *time).collect::<Vec<_>>();
    let again = inodes(&bench.src());
    assert_eq!(before.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    assert_eq!(times(&before), times(&again));
}

#[tokio::test]
async fn nothing_new_needs_no_request_and_no_write() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    bench.checkout(&sha).await.expect("a plain repository");
    let (asked, before) = (bench.server.requests().len(), inodes(&bench.src()));
    let index = std::fs::metadata(bench.src().join(".git/index")).expect("an index").ino();
    bench.server.behave(Behaviour::Status(500));
    let done = bench.checkout(&sha).await.expect("no forge is needed");
    assert!(done.mirror_had_it);
    assert_eq!((done.changed, done.fetched_bytes), (0, 0));
    assert_eq!(bench.server.requests().len(), asked);
    assert_eq!(inodes(&bench.src()), before);
    assert_eq!(std::fs::metadata(bench.src().join(".git/index")).expect("an index").ino(), index);
}

#[tokio::test]
async fn a_commit_that_its_branch_has_left_behind_is_fetched_by_its_id() {
    let bench = Workbench::new();
    bench.push(&[("a.js", "1")]);
    let passed = bench.push(&[("a.js", "2")]);
    bench.push(&[("a.js", "3")]);
    bench.checkout(&passed).await.expect("by its id");
    assert_eq!(std::fs::read_to_string(bench.src().join("a.js")).expect("a file"), "2");
}

#[tokio::test]
async fn a_server_that_gives_no_ids_is_asked_for_the_ref() {
    let bench = Workbench::new();
    bench.push(&[("a.js", "1")]);
    let passed = bench.push(&[("a.js", "2")]);
    bench.push(&[("a.js", "3")]);
    bench.git_bare(&["config", "uploadpack.allowAnySHA1InWant", "false"]);
    bench.checkout(&passed).await.expect("through its branch");
    assert_eq!(std::fs::read_to_string(bench.src().join("a.js")).expect("a file"), "2");
}

#[tokio::test]
async fn a_commit_that_was_forced_away_is_said_to_be_gone() {
    let bench = Workbench::new();
    bench.push(&[("a.js", "1")]);
    let lost = bench.push(&[("a.js", "lost")]);
    bench.git(&["reset", "-q", "--hard", "HEAD~1"]);
    bench.push(&[("a.js", "other")]);
    let words = format!("commit {} is no longer at the forge (force-pushed away?)", &lost[..7]);
    for given in ["false", "true"] {
        bench.git_bare(&["config", "uploadpack.allowAnySHA1InWant", given]);
        bench.git_bare(&["reflog", "expire", "--expire=now", "--all"]);
        bench.git_bare(&["gc", "-q", "--prune=now"]);
        let refusal = refused(bench.checkout(&lost).await);
        assert_eq!((refusal.kind, refusal.message.as_str()), (RefusalKind::CommitGone, words.as_str()));
        assert_eq!(refusal.verdict().outcome, Outcome::Broken);
        assert!(!refusal.may_retry());
    }
    let refusal = refused(run(&bench.job(&lost, "refs/heads/never-was")).await);
    assert_eq!(refusal.kind, RefusalKind::CommitGone);
}

#[tokio::test]
async fn branch_names_that_look_like_commands_are_names() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    bench.git_bare(&["config", "uploadpack.allowAnySHA1InWant", "false"]);
    for (n, name) in ["--upload-pack=touch${IFS}owned", "$(touch owned)", "a;touch owned", "<script>", "\u{202e}x"]
        .into_iter()
        .filter(|name| !name.contains(' '))
        .chain(["$(touch${IFS}owned)", "a;touch${IFS}owned"])
        .enumerate()
    {
        let git_ref = format!("refs/heads/{name}");
        let next = bench.push(&[("a.js", &format!("{n}-{sha}"))]);
        bench.git_bare(&["update-ref", &git_ref, &next]);
        // One commit behind the branch, so that the server has to be asked for the branch by its name.
        let ahead = bench.push(&[("a.js", "ahead")]);
        bench.git_bare(&["update-ref", &git_ref, &ahead]);
        bench.git_bare(&["update-ref", "-d", "refs/heads/main"]);
        run(&bench.job(&next, &git_ref)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bench.git_in(&bench.src(), &["rev-parse", "HEAD"]), next);
    }
    let owned = Command::new("find").arg(bench.dir.path()).args(["-name", "owned*"]).output().expect("find");
    assert_eq!(String::from_utf8_lossy(&owned.stdout), "");
}

#[tokio::test]
async fn what_a_killed_child_left_is_in_nobodys_way() {
    let bench = Workbench::new();
    let first = bench.push(&[("a.js", "1"), ("b/c.js", "1")]);
    bench.checkout(&first).await.expect("a plain repository");
    let second = bench.push(&[("a.js", "2")]);
    let job = bench.job(&second, "refs/heads/main");
    let refs = job.mirror.join("refs/hookmill");
    let name = std::fs::read_dir(&refs).expect("one ref").next().expect("one ref").expect("one ref").file_name();
    // A fetch was killed while it wrote a pack and held locks, and a switch in the middle.
    std::fs::write(refs.join(format!("{}.lock", name.to_string_lossy())), "").expect("a file");
    for left in
        ["objects/pack/tmp_pack_x", "objects/pack/pack_git2_0123456789abcdef", "config.lock", "packed-refs.lock"]
    {
        std::fs::write(job.mirror.join(left), "half").expect("a file");
    }
    std::fs::remove_file(bench.slot().join("state.json")).expect("a file");
    std::fs::write(bench.slot().join("index.lock"), "").expect("a file");
    std::fs::write(bench.src().join("half-written.js"), "ha").expect("a file");
    let done = run(&job).await.expect("as if nothing had happened");
    assert_eq!(done.changed, 2, "written anew");
    assert!(!bench.src().join("half-written.js").exists());
    assert_eq!(bench.status(), "");
    assert!(!job.mirror.join("objects/pack/tmp_pack_x").exists());
    assert_eq!(std::fs::read_dir(bench.slot().join("trash")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_mirror_that_the_disk_spoilt_is_made_anew() {
    let bench = Workbench::new();
    let first = bench.push(&[("a.js", "1")]);
    bench.checkout(&first).await.expect("a plain repository");
    let second = bench.push(&[("a.js", "2")]);
    let job = bench.job(&second, "refs/heads/main");
    for entry in std::fs::read_dir(job.mirror.join("objects/pack")).expect("packs").flatten() {
        if entry.path().extension().is_some_and(|ext| ext == "pack") {
            let mut bytes = std::fs::read(entry.path()).expect("a pack");
            let middle = bytes.len() / 2;
            bytes[12..middle].fill(0xa5);
            std::fs::remove_file(entry.path()).expect("a pack");
            std::fs::write(entry.path(), bytes).expect("a pack");
        }
    }
    run(&job).await.expect("a new mirror");
    assert_eq!(std::fs::read_to_string(bench.src().join("a.js")).expect("a file"), "2");
    assert_eq!(bench.status(), "");
}

#[tokio::test]
async fn a_whole_history_is_shown_when_asked_for_and_tags_lead_to_their_commit() {
    let bench = Workbench::new();
    for n in 0..3 {
        bench.push(&[("a.js", &n.to_string())]);
    }
    bench.git(&["tag", "-a", "v0", "-m", "nought"]);
    bench.git(&["tag", "light"]);
    bench.git(&["push", "-q", "origin", "v0", "light"]);
    for (asked, count, described) in [
        ("depth = 0\ntags = true", "4", Some("v0-1-g")),
        ("", "1", None),
        ("depth = 5\ntags = true", "5", Some("v0-3-g")),
        ("depth = 2", "2", None),
        ("depth = 0\ntags = true", "8", Some("v0-5-g")),
    ] {
        let sha = bench.push(&[(".hookmill.toml", &format!("[checkout]\n{asked}\n"))]);
        bench.checkout(&sha).await.expect("a commit");
        assert_eq!(bench.git_in(&bench.src(), &["rev-list", "--count", "HEAD"]), count, "{asked}");
        match described {
            Some(begin) => {
                assert_eq!(bench.git_in(&bench.src(), &["tag"]), "light\nv0");
                let told = bench.git_in(&bench.src(), &["describe"]);
                assert!(told.starts_with(begin), "{told}");
            }
            None => assert_eq!(bench.git_in(&bench.src(), &["tag"]), ""),
        }
        assert_eq!(bench.status(), "");
    }
    bench.git(&["tag", "-a", "v1", "-m", "one"]);
    bench.git(&["push", "-q", "origin", "v1"]);
    let tag = bench.git(&["rev-parse", "refs/tags/v1"]);
    let done = run(&bench.job(&tag, "refs/tags/v1")).await.expect("a tag");
    assert_eq!(done.commit.map(String::from), Some(bench.git(&["rev-parse", "HEAD"])));
}

#[tokio::test]
async fn two_slots_share_a_mirror_and_fetch_once() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    let one = bench.job(&sha, "refs/heads/main");
    let two = Job { slot: bench.dir.path().join("data/slots/1"), ..one.clone() };
    let (one, two) = tokio::join!(run(&one), run(&two));
    let (one, two) = (one.expect("a slot"), two.expect("the other"));
    assert!(one.fetched_bytes == 0 || two.fetched_bytes == 0, "the second finds what the first fetched");
    assert_eq!(bench.server.requests().len(), 2);
}

fn local(bench: &Workbench, dir: PathBuf, rev: Option<&str>) -> Job {
    let source = Source::Local(Local { dir, rev: rev.map(str::to_owned) });
    Job { source, mirror: bench.dir.path().join("data/local.git"), ..bench.job(&"0".repeat(40), "refs/heads/main") }
}

#[tokio::test]
async fn a_local_folder_is_built_as_it_lies_there_and_never_written_to() {
    let bench = Workbench::new();
    let sha = bench.push(&[("package.json", "{}"), ("kept.js", "1"), ("gone.js", "1"), (".gitignore", "dist\n")]);
    let work = bench.work();
    std::fs::write(work.join("kept.js"), "edited").expect("a file");
    std::fs::write(work.join("new.js"), "untracked").expect("a file");
    std::fs::remove_file(work.join("gone.js")).expect("a file");
    std::fs::create_dir(work.join("dist")).expect("a folder");
    std::fs::write(work.join("dist/out.js"), "ignored").expect("a file");
    let before = inodes(&bench.dir.path().join("work"));
    let index = std::fs::metadata(work.join(".git/index")).expect("an index").ctime_nsec();

    let done = run(&local(&bench, work.clone(), None)).await.expect("a folder");
    let names = |root: &Path| inodes(root).into_keys().map(|path| path.display().to_string()).collect::<Vec<_>>();
    assert_eq!(names(&bench.src()), [".gitignore", "kept.js", "new.js", "package.json"]);
    assert_eq!(std::fs::read_to_string(bench.src().join("kept.js")).expect("a file"), "edited");
    assert_eq!(done.commit.map(String::from), Some(sha.clone()));
    assert_eq!(bench.status().lines().count(), 3, "git in the copy sees the same three changes");
    assert_eq!(inodes(&work), before);
    assert_eq!(std::fs::metadata(work.join(".git/index")).expect("an index").ctime_nsec(), index);

    let done = run(&local(&bench, work.clone(), Some("HEAD"))).await.expect("a commit");
    assert_eq!(done.changed, 3);
    assert_eq!(names(&bench.src()), [".gitignore", "gone.js", "kept.js", "package.json"]);
    assert_eq!(bench.status(), "");
    let refusal = refused(run(&local(&bench, work, Some("no-such"))).await);
    assert_eq!(refusal.kind, RefusalKind::UnknownRevision);
}

#[tokio::test]
async fn a_folder_that_is_no_repository_and_a_part_of_one() {
    let bench = Workbench::new();
    let plain = bench.dir.path().join("plain");
    for (path, text) in [("package.json", "{}"), ("src/a.js", "1"), ("node_modules/x/index.js", "no")] {
        let path = plain.join(path);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let done = run(&local(&bench, plain, None)).await.expect("a folder");
    assert_eq!((done.commit, done.files), (None, 2));
    assert!(!bench.src().join(".git").exists());
    assert!(done.listing.has("package.json"));

    bench.push(&[("top.js", "1"), ("packages/app/package.json", "{}"), ("packages/app/a.js", "1")]);
    let done = run(&local(&bench, bench.work().join("packages/app"), None)).await.expect("a part");
    assert_eq!(done.files, 2);
    assert!(done.commit.is_none() && done.listing.has("package.json"));
    let done = run(&local(&bench, bench.work().join("packages/app"), Some("HEAD"))).await.expect("a part");
    assert_eq!((done.files, done.changed), (2, 0));
}
