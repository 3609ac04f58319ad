//! What a repository consists of besides its own files: submodules, Git LFS, forms of files, the repository file.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hookmill::checkout::{Base, Credential, Local, RefusalKind, Source};
use sha2::{Digest, Sha256};

use crate::support::git_http::{Behaviour, GitServer};
use crate::support::workbench;
use crate::support::workbench::{Workbench, refused, remote, run};

/// Another repository at the bench's forge (or below `root`), with one commit of these files and links to submodules.
fn repository(
    bench: &Workbench,
    root: &str,
    name: &str,
    files: &[(&str, &str)],
    links: &[(&str, &str, &str)],
) -> String {
    let (bare, work) =
        (bench.dir.path().join(root).join(format!("{name}.git")), bench.dir.path().join(format!("w-{name}")));
    if !work.exists() {
        std::fs::create_dir_all(&work).expect("a folder");
        bench.git_in(bench.dir.path(), &["init", "-q", "--bare", "-b", "main", &bare.to_string_lossy()]);
        bench.git_in(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        bench.git_in(&work, &["init", "-q", "-b", "main"]);
    }
    write(&work, files);
    bench.git_in(&work, &["add", "-A"]);
    link(bench, &work, links);
    bench.git_in(&work, &["commit", "-q", "--allow-empty", "-m", "a change"]);
    bench.git_in(&work, &["push", "-q", "-f", &bare.to_string_lossy(), "HEAD:refs/heads/main"]);
    bench.git_in(&work, &["rev-parse", "HEAD"])
}

fn write(work: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        std::fs::create_dir_all(work.join(path).parent().expect("inside")).expect("a folder");
        std::fs::write(work.join(path), text).expect("a file");
    }
}

/// Puts submodules (path, address, commit) into the index, and all of them into `.gitmodules`.
fn link(bench: &Workbench, work: &Path, links: &[(&str, &str, &str)]) {
    let text: String = links
        .iter()
        .map(|(path, url, _)| format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n"))
        .collect();
    if links.is_empty() {
        return;
    }
    std::fs::write(work.join(".gitmodules"), text).expect("a file");
    bench.git_in(work, &["add", ".gitmodules"]);
    for (path, _, sha) in links {
        bench.git_in(work, &["update-index", "--add", "--cacheinfo", &format!("160000,{sha},{path}")]);
    }
}

/// Writes files, links submodules, commits and pushes `main` of the shop.
fn push(bench: &Workbench, files: &[(&str, &str)], links: &[(&str, &str, &str)]) -> String {
    write(&bench.work(), files);
    bench.git(&["add", "-A"]);
    link(bench, &bench.work(), links);
    bench.git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
    bench.git(&["push", "-q", "-f", "origin", "HEAD:refs/heads/main"]);
    bench.git(&["rev-parse", "HEAD"])
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[tokio::test]
async fn submodules_come_with_theirs_and_change_by_what_differs() {
    let bench = Workbench::new();
    let nested = repository(&bench, "forge", "nested", &[("n.js", "n")], &[]);
    let theme =
        repository(&bench, "forge", "theme", &[("t.js", "1"), ("kept.js", "k")], &[("in", "../nested.git", &nested)]);
    let sha = push(&bench, &[("a.js", "a")], &[("themes/x", "../theme.git", &theme)]);
    let done = bench.checkout(&sha).await.expect("submodules");
    let src = bench.src();
    assert_eq!((text(src.join("themes/x/t.js")), text(src.join("themes/x/in/n.js"))), ("1".to_owned(), "n".to_owned()));
    assert!(done.notices.is_empty(), "{:?}", done.notices);
    assert_eq!(done.objects.len(), 3);
    let told = bench.git_in(&src, &["submodule", "status", "--recursive"]);
    assert!(
        told.starts_with(&format!(" {theme} themes/x")) && told.contains(&format!("\n {nested} themes/x/in")),
        "{told}"
    );
    assert_eq!(bench.status(), "");
    assert_eq!(bench.git_in(&src.join("themes/x"), &["status", "--porcelain"]), "");
    assert_eq!(bench.git_in(&src.join("themes/x"), &["rev-parse", "HEAD"]), theme);
    assert_eq!(bench.git_in(&src, &["diff-files", "--ignore-submodules=all"]), "");
    assert!(bench.checkout(&sha).await.expect("again").mirror_had_it);

    let inode = |path: &str| std::fs::metadata(src.join(path)).expect("a file").ino();
    let before = (inode("themes/x/kept.js"), inode("themes/x/in/n.js"), inode("a.js"));
    let theme = repository(&bench, "forge", "theme", &[("t.js", "2")], &[("in", "../nested.git", &nested)]);
    let sha = push(&bench, &[], &[("themes/x", "../theme.git", &theme)]);
    let done = bench.checkout(&sha).await.expect("the next commit");
    assert_eq!((text(src.join("themes/x/t.js")), done.changed), ("2".to_owned(), 2), "the file and the link");
    assert_eq!(before, (inode("themes/x/kept.js"), inode("themes/x/in/n.js"), inode("a.js")));
    assert_eq!(bench.status(), "");

    // A folder of the repository's own takes its place, with a file that the submodule had too.
    bench.git(&["rm", "-q", "--cached", "themes/x"]);
    std::fs::remove_file(bench.work().join(".gitmodules")).expect("a file");
    let sha = push(&bench, &[("themes/x/kept.js", "k")], &[]);
    bench.checkout(&sha).await.expect("without");
    assert_eq!(text(src.join("themes/x/kept.js")), "k");
    assert!(!src.join("themes/x/in").exists() && !src.join("themes/x/.git").exists());
    assert_eq!(bench.status(), "");

    bench.git(&["rm", "-q", "-r", "--cached", "themes"]);
    std::fs::remove_dir_all(bench.work().join("themes")).expect("a folder");
    let sha = push(
        &bench,
        &[(".hookmill.toml", "[checkout]\nsubmodules = false\n")],
        &[("themes/x", "../theme.git", &theme)],
    );
    let done = bench.checkout(&sha).await.expect("off");
    assert!(done.notices[0].contains("themes/x left empty; checkout.submodules is false"), "{:?}", done.notices);
    assert_eq!(std::fs::read_dir(src.join("themes/x")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_submodule_that_can_not_be_had_is_named() {
    let bench = Workbench::new();
    let theme = repository(&bench, "forge", "theme", &[("t.js", "1")], &[]);
    let (unknown, base) = ("1a2b3c4".to_owned() + &"0".repeat(33), bench.server.origin());
    for (url, sha, words) in [
        ("../theme.git", unknown.as_str(), format!("submodule themes/x: commit 1a2b3c4 is not in {base}/theme.git")),
        ("../gone.git", &theme, format!("submodule themes/x: {base}/gone.git does not exist, or may not be read")),
        ("git@else.where:a/b.git", &theme, "submodule themes/x: git@else.where:a/b.git is not fetched".to_owned()),
        ("file:///etc", &theme, "submodule themes/x: file:///etc is not fetched".to_owned()),
    ] {
        let head = push(&bench, &[], &[("themes/x", url, sha)]);
        let refusal = refused(bench.checkout(&head).await);
        assert_eq!(refusal.kind, RefusalKind::Unacceptable, "{refusal}");
        assert!(refusal.message.starts_with(&words), "{refusal}");
    }
    let ssh = push(&bench, &[], &[("themes/x", "git@127.0.0.1:theme.git", &theme)]);
    bench.checkout(&ssh).await.expect("the forge by ssh is the forge");
    assert_eq!(text(bench.src().join("themes/x/t.js")), "1");
}

#[tokio::test]
async fn the_credential_goes_to_the_forge_alone_and_a_forks_only_where_the_base_points() {
    let bench = Workbench::new();
    let other = bench.dir.path().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let elsewhere = GitServer::start(&other);
    let free = repository(&bench, "other", "free", &[("f.js", "f")], &[]);
    let theme = repository(&bench, "forge", "theme", &[("t.js", "1")], &[]);
    let secret = repository(&bench, "forge", "secret", &[("s.js", "s")], &[]);
    bench.server.behave(Behaviour::Auth("x-access-token".to_owned(), "tok".to_owned()));
    let credential =
        Credential { username: "x-access-token".to_owned(), token: "tok".to_owned(), origin: bench.clone_url() };
    let free_url = format!("{}/free.git", elsewhere.origin());
    let known = [("themes/x", "../theme.git", theme.as_str()), ("free", free_url.as_str(), free.as_str())];
    let base = push(&bench, &[(".hookmill.toml", "[env]\nA = \"base\"\n")], &known);
    let mut job = bench.job(&base, "refs/heads/main");
    remote(&mut job).credential = Some(credential);
    run(&job).await.expect("the token is right");
    assert!(elsewhere.requests().iter().all(|asked| asked.authorization.is_none()), "{:?}", elsewhere.requests());
    assert_eq!(text(bench.src().join("free/f.js")), "f");
    // A member's build reads it, which puts it into a mirror.
    let member = push(&bench, &[], &[known[0], known[1], ("secret", "../secret.git", &secret)]);
    remote(&mut job).sha = member.parse().expect("a commit");
    run(&job).await.expect("a member may");

    let fork = |sha: &str| {
        let mut job = job.clone();
        remote(&mut job).sha = sha.parse().expect("a commit");
        remote(&mut job).base =
            Some(Base { git_ref: "refs/heads/main".parse().expect("a ref"), sha: base.parse().ok() });
        job
    };
    let words = format!(
        "submodule secret: {}/secret.git does not exist, or may not be read without a token",
        bench.server.origin()
    );
    assert_eq!(refused(run(&fork(&member)).await).message, words);
    let plain = push(&bench, &[(".hookmill.toml", "[env]\nA = \"head\"\n[checkout]\nsubmodules = false\n")], &known);
    let edited = push(&bench, &[], &known);
    assert_ne!(plain, edited);
    let done = run(&fork(&edited)).await.expect("what the base names");
    assert_eq!(done.listing.text(".hookmill.toml"), Some("[env]\nA = \"base\"\n"), "the fork's edit changes nothing");
    assert_eq!(text(bench.src().join("themes/x/t.js")), "1");
    let mut lost = fork(&edited);
    remote(&mut lost).base.as_mut().expect("a fork's").sha = None;
    remote(&mut lost).credential.as_mut().expect("one").token = "tok".to_owned();
    let refusal = refused(run(&lost).await);
    assert!(refusal.message.contains("themes/x") && refusal.message.contains("without a token"), "{refusal}");
}

fn pointer(contents: &[u8]) -> (String, String) {
    let oid: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
    (format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n", contents.len()), oid)
}

#[tokio::test]
async fn lfs_contents_take_the_place_of_their_pointers() {
    let bench = Workbench::new();
    bench.server.behave(Behaviour::Auth("x-access-token".to_owned(), "tok".to_owned()));
    let store = bench.dir.path().join("forge/lfs");
    std::fs::create_dir(&store).expect("a folder");
    let (one, two) = (vec![1_u8; 300_000], vec![2_u8; 5]);
    let ((first, first_oid), (second, second_oid)) = (pointer(&one), pointer(&two));
    std::fs::write(store.join(&first_oid), &one).expect("a file");
    let files =
        [(".gitattributes", "*.png filter=lfs diff=lfs merge=lfs -text\n"), ("img/a.png", &first), ("b.js", "b")];
    let sha = bench.push(&files);
    let job = |sha: &str| {
        let mut job = bench.job(sha, "refs/heads/main");
        let origin = bench.clone_url();
        let username = "x-access-token".to_owned();
        remote(&mut job).credential = Some(Credential { username, token: "tok".to_owned(), origin });
        job
    };
    let src = bench.src();
    let done = run(&job(&sha)).await.expect("contents");
    assert_eq!(std::fs::read(src.join("img/a.png")).expect("a file"), one);
    assert!(done.notices.is_empty(), "{:?}", done.notices);
    assert_eq!(bench.git_in(&src, &["diff-files"]), "", "the index knows the size of the contents");
    let (inode, asked) =
        (std::fs::metadata(src.join("img/a.png")).expect("a file").ino(), bench.server.requests().len());

    // Missing at the forge, then wrong there, then right.
    let sha = bench.push(&[("img/new b.png", &second)]);
    let refusal = refused(run(&job(&sha)).await);
    assert_eq!(refusal.kind, RefusalKind::Unacceptable);
    assert!(refusal.message.starts_with("Git LFS: the contents of img/new b.png are not at the forge"), "{refusal}");
    std::fs::write(store.join(&second_oid), b"wrong").expect("a file");
    let refusal = refused(run(&job(&sha)).await);
    assert!(refusal.message.contains("img/new b.png are not what its pointer names"), "{refusal}");
    std::fs::write(store.join(&second_oid), &two).expect("a file");
    let done = run(&job(&sha)).await.expect("right");
    assert_eq!(std::fs::read(src.join("img/new b.png")).expect("a file"), two);
    assert_eq!((done.changed, std::fs::metadata(src.join("img/a.png")).expect("a file").ino()), (1, inode));
    assert!(bench.server.requests().len() > asked);

    // Kept beside the mirror: another slot asks nothing.
    let asked = bench.server.requests().len();
    let mut elsewhere = job(&sha);
    elsewhere.slot = bench.dir.path().join("data/slots/1");
    run(&elsewhere).await.expect("from what is kept");
    assert_eq!(std::fs::read(elsewhere.slot.join("src/img/a.png")).expect("a file"), one);
    assert_eq!(bench.server.requests().len(), asked);

    let mut small = job(&sha);
    small.slot = bench.dir.path().join("data/slots/2");
    small.budget.bytes = 200_000;
    let refusal = refused(run(&small).await);
    assert!(refusal.message.contains("200000 bytes with Git LFS (limits.checkout_bytes)"), "{refusal}");

    let sha = bench.push(&[(".hookmill.toml", "[checkout]\nlfs = false\n")]);
    let done = run(&job(&sha)).await.expect("pointers");
    assert_eq!(text(src.join("img/a.png")), first);
    assert!(
        done.notices[0].ends_with("hold pointers and not their contents; checkout.lfs is false"),
        "{:?}",
        done.notices
    );
}

#[tokio::test]
async fn no_credential_follows_a_redirect_of_lfs_contents() {
    let bench = Workbench::new();
    let other = bench.dir.path().join("other");
    for store in [bench.dir.path().join("forge/lfs"), other.join("lfs")] {
        std::fs::create_dir_all(store).expect("a folder");
    }
    let contents = vec![3_u8; 5000];
    let (pointer, oid) = pointer(&contents);
    // The forge knows of it, and another host and port has it.
    std::fs::write(bench.dir.path().join("forge/lfs").join(&oid), b"").expect("a file");
    std::fs::write(other.join("lfs").join(&oid), &contents).expect("a file");
    let storage = GitServer::start(&other);
    bench.server.behave(Behaviour::Moved("/lfs-contents", format!("{}/storage", storage.origin())));
    let sha = bench.push(&[(".gitattributes", "*.png filter=lfs\n"), ("a.png", &pointer)]);
    let mut job = bench.job(&sha, "refs/heads/main");
    let (username, origin) = ("x-access-token".to_owned(), bench.clone_url());
    remote(&mut job).credential = Some(Credential { username, token: "tok".to_owned(), origin });
    run(&job).await.expect("contents");
    assert_eq!(std::fs::read(bench.src().join("a.png")).expect("a file"), contents);
    let with_token = |server: &GitServer, part: &str| -> Vec<bool> {
        let asked = server.requests().into_iter().filter(|asked| asked.line.contains(part));
        asked.map(|asked| asked.authorization.is_some()).collect()
    };
    assert_eq!(with_token(&bench.server, "/info/lfs/objects/batch"), [true]);
    assert_eq!(with_token(&bench.server, "/lfs-contents/"), [false]);
    assert_eq!(with_token(&storage, "/storage/"), [false]);
}

#[tokio::test]
async fn lfs_contents_of_a_submodule_come_from_its_own_repository() {
    let bench = Workbench::new();
    let store = bench.dir.path().join("forge/lfs");
    std::fs::create_dir(&store).expect("a folder");
    let contents = vec![4_u8; 5000];
    let (pointer, oid) = pointer(&contents);
    std::fs::write(store.join(&oid), &contents).expect("a file");
    let attributes = (".gitattributes", "*.png filter=lfs\n");
    let theme = repository(&bench, "forge", "theme", &[attributes, ("img/t.png", &pointer)], &[]);
    let sha = push(&bench, &[("t.png", &pointer)], &[("themes/x", "../theme.git", &theme)]);
    let done = bench.checkout(&sha).await.expect("contents");
    let src = bench.src();
    assert_eq!(std::fs::read(src.join("themes/x/img/t.png")).expect("a file"), contents);
    assert_eq!(text(src.join("t.png")), pointer, "attributes of a submodule end with it");
    assert!(done.notices[0].contains("t.png hold pointers"), "{:?}", done.notices);
    let asked: Vec<String> = bench.server.requests().into_iter().map(|asked| asked.line).collect();
    let batches: Vec<_> = asked.iter().filter(|line| line.contains("/info/lfs/")).collect();
    assert_eq!(batches, ["POST /theme.git/info/lfs/objects/batch"]);
    assert_eq!(bench.git_in(&src.join("themes/x"), &["diff-files"]), "");
}

#[tokio::test]
async fn submodules_are_bounded_in_depth_and_number() {
    let bench = Workbench::new();
    let mut inner = repository(&bench, "forge", "r0", &[("deepest.js", "d")], &[]);
    for level in 1..9 {
        let url = format!("../r{}.git", level - 1);
        inner = repository(&bench, "forge", &format!("r{level}"), &[], &[("in", &url, &inner)]);
    }
    // r8 within the shop: nine within each other. Its own is r7, which makes eight.
    let nine = push(&bench, &[], &[("in", "../r8.git", &inner)]);
    let refusal = refused(bench.checkout(&nine).await);
    assert_eq!(refusal.kind, RefusalKind::Unacceptable);
    let words = format!("\"{}\" has more than 200 submodules, or 8 within each other", ["in"; 9].join("/"));
    assert!(refusal.message.ends_with(&words), "{refusal}");
    let seven = bench.git_in(&bench.dir.path().join("w-r8"), &["rev-parse", "HEAD:in"]);
    let eight = push(&bench, &[], &[("in", "../r7.git", &seven)]);
    bench.checkout(&eight).await.expect("eight");
    assert_eq!(text(bench.src().join(["in"; 8].join("/")).join("deepest.js")), "d");

    let theme = bench.git_in(&bench.dir.path().join("w-r0"), &["rev-parse", "HEAD"]);
    let many = |count: usize| {
        let paths: Vec<String> = (0..count).map(|number| format!("m/{number:03}")).collect();
        let modules = paths.iter().map(|path| format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = ../r0.git\n"));
        write(&bench.work(), &[(".gitmodules", &modules.collect::<String>())]);
        let links: String = paths.iter().map(|path| format!("160000 {theme}\t{path}\n")).collect();
        bench.git(&["update-index", "--force-remove", "in"]);
        bench.git(&["add", ".gitmodules"]);
        workbench::git(bench.dir.path(), &bench.work(), &["update-index", "--index-info"], links.as_bytes());
        bench.git(&["commit", "-q", "-m", "many"]);
        bench.git(&["push", "-q", "-f", "origin", "HEAD:refs/heads/main"]);
        bench.git(&["rev-parse", "HEAD"])
    };
    bench.checkout(&many(200)).await.expect("two hundred");
    assert_eq!(text(bench.src().join("m/199/deepest.js")), "d");
    let refusal = refused(bench.checkout(&many(201)).await);
    assert!(refusal.message.contains("\"m/200\" has more than 200 submodules"), "{refusal}");
}

#[tokio::test]
async fn a_folder_brings_its_lfs_contents_and_its_submodules() {
    let bench = Workbench::new();
    let contents = vec![7_u8; 1000];
    let (pointer, oid) = pointer(&contents);
    let theme = repository(&bench, "forge", "theme", &[("t.js", "1"), (".gitignore", "dist\n")], &[]);
    push(
        &bench,
        &[(".gitattributes", "*.png filter=lfs\n"), ("a.png", &pointer)],
        &[("themes/x", "../theme.git", &theme)],
    );
    let kept = bench.work().join(".git/lfs/objects").join(&oid[..2]).join(&oid[2..4]);
    std::fs::create_dir_all(&kept).expect("a folder");
    std::fs::write(kept.join(&oid), &contents).expect("a file");
    let theirs = bench.work().join("themes/x");
    std::fs::create_dir_all(&theirs).expect("a folder");
    bench.git_in(&bench.dir.path().join("forge"), &["clone", "-q", "theme.git", &theirs.to_string_lossy()]);
    write(&theirs, &[("t.js", "edited"), ("new.js", "n"), ("dist/out.js", "o")]);
    let mut job = bench.job(&"0".repeat(40), "refs/heads/main");
    job.source = Source::Local(Local { dir: bench.work(), rev: None });
    job.mirror = bench.dir.path().join("data/local.git");
    let done = run(&job).await.expect("a folder");
    let src = bench.src();
    assert_eq!(std::fs::read(src.join("a.png")).expect("a file"), contents);
    assert_eq!(
        (text(src.join("themes/x/t.js")), text(src.join("themes/x/new.js"))),
        ("edited".to_owned(), "n".to_owned())
    );
    assert!(!src.join("themes/x/dist").exists());
    assert!(done.notices.is_empty(), "{:?}", done.notices);
}

/// Every file of a folder but `.git`, with its bytes.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    hookmill::tree::walk(root, |entry| {
        if entry.path == Path::new(".git") {
            return hookmill::tree::Visit::Skip;
        }
        if entry.kind == hookmill::tree::Kind::File {
            found.insert(entry.path.display().to_string(), std::fs::read(root.join(&entry.path)).expect("a file"));
        }
        hookmill::tree::Visit::Continue
    })
    .expect("readable");
    found
}

#[tokio::test]
async fn files_have_the_form_that_git_gives_them() {
    let bench = Workbench::new();
    let as_git_does = |sha: &str, name: &str| {
        let dir = bench.dir.path().join(name);
        bench.git_in(bench.dir.path(), &["clone", "-q", "forge/shop.git", name]);
        bench.git_in(&dir, &["checkout", "-q", sha]);
        files(&dir)
    };
    let attributes = "* text=auto\n*.bat text eol=crlf\n*.sln eol=crlf\n*.png binary\n*.raw -text eol=crlf\n\
                      [attr]dos text eol=crlf\n*.dos dos\n*.id ident\n\"with space.txt\" eol=crlf\n/top/*.cs text eol=crlf\n\
                      deep/**/x.js eol=crlf\n*.auto text=auto eol=crlf\n{a,b}.js eol=crlf\n*.old crlf=input\nfolder/ eol=crlf\n";
    let lines = "one\ntwo\n";
    let sha = bench.push(&[
        (".gitattributes", attributes),
        ("sub/.gitattributes", "*.bat eol=lf\n/only.js eol=crlf\n*.sln !eol\n*.dos -text\n"),
        ("a.bat", lines),
        ("sub/a.bat", lines),
        ("sub/only.js", lines),
        ("sub/deep/only.js", lines),
        ("sub/a.sln", lines),
        ("sub/a.dos", lines),
        ("a.sln", lines),
        ("a.png", "one\ntwo\0"),
        ("a.raw", lines),
        ("a.dos", lines),
        ("a.id", "x $Id$ y\n$Id: old $\n$Id: a b c $\n$Identity$ $Id"),
        ("with space.txt", lines),
        ("top/a.cs", lines),
        ("top/in/a.cs", lines),
        ("deep/x.js", lines),
        ("deep/a/b/x.js", lines),
        ("t.auto", lines),
        ("bin.auto", "one\ntwo\0\n"),
        ("esc.auto", "\u{1b}[1mbold\n"),
        ("{a,b}.js", lines),
        ("a.js", lines),
        ("a.old", lines),
        ("folder/x", lines),
        (".dotfile", lines),
        ("empty.bat", ""),
        ("no-end.bat", "one\ntwo"),
    ]);
    bench.checkout(&sha).await.expect("attributes");
    let same = |sha: &str, name: &str| {
        let (ours, gits) = (files(&bench.src()), as_git_does(sha, name));
        for (path, bytes) in &gits {
            let found = ours.get(path).map(|bytes| String::from_utf8_lossy(bytes));
            assert_eq!(found, Some(String::from_utf8_lossy(bytes)), "{path}");
        }
        assert_eq!(ours.len(), gits.len());
    };
    same(&sha, "first");
    assert_eq!(bench.git_in(&bench.src(), &["diff-files"]), "");
    assert_eq!(bench.status(), "");

    let inode = |path: &str| std::fs::metadata(bench.src().join(path)).expect("a file").ino();
    let before = inode("a.js");
    let sha = bench.push(&[(".gitattributes", "*.old eol=crlf\n*.id -ident\n")]);
    let done = bench.checkout(&sha).await.expect("other attributes");
    same(&sha, "second");
    assert_eq!(inode("a.js"), before, "its form is as before");
    assert!(done.changed < 20, "{}", done.changed);
    assert_eq!(bench.status(), "");
}

#[tokio::test]
async fn a_tree_that_differs_in_ignored_paths_alone_needs_no_build() {
    let bench = Workbench::new();
    let file = (".hookmill.toml", "[paths]\nignore = [\"docs/**\", \"*.md\", \"**/*.toml\"]\n");
    let passed = bench.push(&[file, ("a.js", "1"), ("docs/x", "1")]);
    let since = |sha: &str, passed: &[&str]| {
        let mut job = bench.job(sha, "refs/heads/main");
        remote(&mut job).passed = passed.iter().map(|sha| sha.parse().expect("a commit")).collect();
        job
    };
    bench.checkout(&passed).await.expect("the first");
    let docs = bench.push(&[("docs/x", "2"), ("README.md", "r")]);
    let done = run(&since(&docs, &[&passed])).await.expect("known");
    let needless = done.needless.expect("docs alone");
    assert_eq!((needless.since.as_str(), needless.globs.join(" ").as_str()), (passed.as_str(), "docs/** *.md"));
    assert_eq!(text(bench.src().join("docs/x")), "1", "nothing is written");

    let broke = bench.push(&[("a.js", "broken")]);
    let after = bench.push(&[("docs/x", "3")]);
    for (sha, passed) in [
        (&after, vec![docs.as_str()]),
        (&broke, vec![docs.as_str()]),
        (&docs, vec![]),
        (&docs, vec![docs.as_str()]),
        (&docs, vec!["0123456789012345678901234567890123456789"]),
    ] {
        assert_eq!(run(&since(sha, &passed)).await.expect("a commit").needless, None, "{passed:?}");
    }
    let mended = bench.push(&[("a.js", "1")]);
    let done = run(&since(&mended, &[&broke, &passed])).await.expect("a commit");
    assert_eq!(done.needless.expect("as it passed").since.as_str(), passed);
    let other = bench.push(&[(".hookmill.toml", "[paths]\nignore = [\"**\"]\n")]);
    assert_eq!(
        run(&since(&other, &[&mended])).await.expect("a commit").needless,
        None,
        "the file itself is never ignored"
    );
}
