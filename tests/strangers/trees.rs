//! Commits that were made to hurt whoever checks them out.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::strangers::objects::{Id, Objects};
use crate::strangers::traces::nothing_is_left;
use crate::strangers::{pushed, settings};
use crate::support::forge::{Forge, Repo};
use crate::support::server::{Server, step};

/// Fails unless a build failed by its checkout, with these words.
#[track_caller]
pub(crate) fn refused(server: &Server, build: i64, words: &str) -> Value {
    let build = server.finished(build);
    let reason = build["reason"].as_str().unwrap_or_default();
    assert_eq!(
        (&build["outcome"], &step(&build, "checkout")["outcome"]),
        (&"failed".into(), &"failed".into()),
        "{build:#}"
    );
    let log = server.log(build["id"].as_i64().expect("an id"), "checkout");
    assert!(log.contains(words), "{words:?} is not in {log:?}");
    assert!(!reason.is_empty() && reason.chars().count() <= 140 && !reason.chars().any(char::is_control), "{reason:?}");
    build
}

#[test]
fn a_branch_is_a_name() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, settings());
    repo.push("main", &[("README.md", "# Shop\n")]);
    let owned = server.dir.path().join("owned");
    let touch = format!("touch${{IFS}}{}", owned.display()).replace("/.", "/");
    let branches = [
        format!("--upload-pack={touch}"),
        format!("$({touch})"),
        format!("a;{touch};"),
        format!("a`{touch}`"),
        format!("a|{touch}"),
        "-rf".to_owned(),
        "<script>alert(1)</script>".to_owned(),
        "main\u{202e}gpj".to_owned(),
        "größe/日本".to_owned(),
        "n".repeat(240),
    ];
    let builds: Vec<(String, String, i64)> = branches
        .iter()
        .enumerate()
        .map(|(number, branch)| {
            let moved = repo.push(branch, &[("README.md", &format!("# Shop {number}\n"))]);
            (branch.clone(), moved.after.clone(), server.deliver(&repo.pushed(&moved)).build())
        })
        .collect();
    for (branch, sha, id) in builds {
        let build = server.finished(id);
        assert_eq!(build["outcome"], "passed", "{branch}: {build:#}");
        assert_eq!(forge.final_status(&sha, "hookmill").state, "success");
        let page = server.get(&format!("/builds/{id}")).body;
        assert!(!page.contains("<script>alert") && !page.contains('\u{202e}'), "{branch}: {page}");
    }
    assert!(!owned.exists(), "a name was a command");
    forge.finish();
}

#[test]
fn names_that_lead_elsewhere_fail_the_commit() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, settings());
    let objects = Objects::of(&repo.bare);
    let blob = objects.write("blob", b"owned");
    let config = objects.tree(&[("100644", b"config", blob)]);
    let long = vec![b'n'; 256];
    // Every spelling of `.git` that some file system takes for it, ways out, and names that would draw on a terminal.
    let names: &[(&[u8], &str)] = &[
        (b".git", "is a form of \".git\""),
        (b".GIT", "is a form of \".git\""),
        (b".git ", "is a form of \".git\""),
        (b".git.", "is a form of \".git\""),
        (b"git~1", "is a form of \".git\""),
        (b".git::$INDEX_ALLOCATION", "is a form of \".git\""),
        (b".git\\hooks", "is a form of \".git\""),
        (".g\u{200c}it".as_bytes(), "is a form of \".git\""),
        ("\u{feff}.Git".as_bytes(), "is a form of \".git\""),
        (b"..", "is no name for a file"),
        (b".", "is no name for a file"),
        (b"../owned", "holds a slash"),
        (b"/tmp/owned", "holds a slash"),
        (b"..\\owned", "would leave its folder on some systems"),
        (b"a\x1b]0;owned\x07", "holds a control character"),
        (b"a\nPassed", "holds a control character"),
        (&long, "is longer than 255 bytes"),
    ];
    let mut builds: Vec<(i64, &str)> = Vec::new();
    for (number, (name, rule)) in names.iter().enumerate() {
        let (mode, id) = if number % 2 == 0 { ("40000", config) } else { ("100644", blob) };
        let tree = objects.tree(&[("100644", b"0", blob), (mode, name, id)]);
        builds.push((pushed(&server, &repo, &format!("name/{number}"), objects.commit(tree)), rule));
    }
    let deep = objects.tree(&[("40000", b".git", config)]);
    let shapes: [(&str, Id, &str); 3] = [
        ("nested", objects.tree(&[("40000", b"sub", deep)]), "\"sub/.git\" is a form of \".git\""),
        ("twice", objects.tree(&[("120000", b"a", blob), ("40000", b"a", config)]), "is there twice in one folder"),
        ("device", objects.tree(&[("020644", b"a", blob)]), "neither file, folder, link nor submodule"),
    ];
    for (name, tree, rule) in shapes {
        builds.push((pushed(&server, &repo, &format!("shape/{name}"), objects.commit(tree)), rule));
    }
    for (build, rule) in builds {
        let build = refused(&server, build, rule);
        let sha = build["sha"].as_str().expect("a commit");
        let status = forge.final_status(sha, "hookmill");
        assert_eq!(status.state, "failure", "{status:?}");
        assert!(!status.description.chars().any(char::is_control), "{status:?}");
    }
    nothing_is_left(&server);
    for place in [server.dir.path(), std::path::Path::new("/tmp")] {
        assert!(!place.join("owned").exists(), "{}", place.display());
    }
    // What looks odd and harms nobody is built: names that differ in case alone, reordered ones, the longest.
    let longest = vec![b'n'; 255];
    let odd = objects.tree(&[
        ("100644", b"-rf", blob),
        ("100644", b"README", blob),
        ("100644", b"Readme", blob),
        ("100644", "a\u{202e}gpj.exe".as_bytes(), blob),
        ("100644", &longest, blob),
        ("100644", b"not utf-8 \xff", blob),
        ("100644", b"readme", blob),
    ]);
    let build = server.finished(pushed(&server, &repo, "odd", objects.commit(odd)));
    assert_eq!(build["outcome"], "passed", "{build:#}");
    forge.finish();
}

/// Commits a link in place of whatever is there.
fn link(repo: &Repo, target: impl AsRef<std::path::Path>, path: &str) {
    let place = repo.work.join(path);
    let _ = std::fs::remove_file(&place);
    symlink(target, place).expect("a link");
}

#[test]
fn links_out_show_nothing_and_reach_nothing() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, settings());
    // What a file of the host's would show, in a file that can be looked for everywhere.
    let victim = server.dir.path().join("victim");
    std::fs::create_dir(&victim).expect("a folder");
    let secret = "the-host's-own-words";
    let manifest = format!(r#"{{"name": "{secret}", "private": true}}"#);
    std::fs::write(victim.join("package.json"), manifest).expect("a file");
    for (path, target) in [
        ("package.json", victim.join("package.json")),
        ("package-lock.json", "/etc/passwd".into()),
        ("bower.json", victim.join("package.json")),
        (".npmrc", victim.join("package.json")),
        (".nvmrc", victim.join("package.json")),
        ("webpack.config.js", victim.join("package.json")),
        ("dist", victim.clone()),
        ("node_modules", "..".into()),
        ("root", "/".into()),
    ] {
        link(&repo, target, path);
    }
    let settings = "[bundle]\ncommand = ['node', '-e', 'console.log(42)']\n[cache]\ninputs = ['root/etc/passwd']\n\
                    [artifacts]\nwhen = 'always'\npaths = ['dist', 'root/etc', 'package.json', 'node_modules/**', '*.json']\n";
    let moved = repo.push("main", &[(".hookmill.toml", settings)]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let id = build["id"].as_i64().expect("an id");
    let artifacts = server.get(&format!("/api/v1/builds/{id}/artifacts")).json()["artifacts"].clone();
    assert_eq!(artifacts, serde_json::json!([]), "{build:#}");
    let status = forge.final_status(&moved.after, "hookmill");
    let everything = [
        server.log(id, ""),
        server.get(&format!("/builds/{id}")).body,
        server.get("/").body,
        build.to_string(),
        status.description,
        server.log_text(),
    ];
    for text in &everything {
        assert!(!text.contains(secret) && !text.contains("root:x:0"), "{text}");
    }

    // A build that makes such links itself, and one that has folders where the links were: clean-up follows neither.
    for name in ["dist", "root", "node_modules", "webpack.config.js", "bower.json", ".npmrc", ".nvmrc"] {
        std::fs::remove_file(repo.work.join(name)).expect("a link");
    }
    for name in ["package.json", "package-lock.json"] {
        std::fs::remove_file(repo.work.join(name)).expect("a link");
    }
    let script = format!(
        "const fs = require('fs'), os = require('os'), path = require('path');\n\
         for (const dir of ['dist', 'deep/dist', path.join(os.homedir(), 'out'), path.join(os.tmpdir(), 'out')]) {{\n\
           fs.mkdirSync(path.dirname(dir), {{ recursive: true }});\n\
           fs.symlinkSync({victim:?}, dir);\n\
         }}\n\
         fs.mkdirSync('locked'); fs.writeFileSync('locked/file', ''); fs.chmodSync('locked', 0);\n"
    );
    let settings = "[bundle]\ncommand = ['node', 'links.js']\n[artifacts]\npaths = ['dist', 'deep', 'locked']\n";
    let moved = repo.push("main", &[(".hookmill.toml", settings), ("links.js", &script)]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "passed", "{build:#}\n{}", server.log(build["id"].as_i64().expect("an id"), ""));
    let moved = repo.push("main", &[("links.js", ""), ("dist/package.json", "{}"), ("node_modules/x", "")]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "passed", "{build:#}");
    let builds = |slot: std::fs::DirEntry| slot.path().join("builds");
    let slots = || std::fs::read_dir(server.data().join("slots")).expect("slots").flatten().map(builds);
    let busy = || slots().flat_map(|builds| std::fs::read_dir(builds).into_iter().flatten()).count();
    forge.wait(|| (busy() == 0).then_some(()), || "a build's folder stays".to_owned());
    let trash = server.data().join("trash");
    let full = || std::fs::read_dir(&trash).map_or(0, Iterator::count);
    forge.wait(|| (full() == 0).then_some(()), || format!("{} stays", trash.display()));
    let left: Vec<_> = std::fs::read_dir(&victim).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["package.json"]);
    assert!(std::fs::read_to_string(victim.join("package.json")).expect("a file").contains(secret));
    forge.finish();
}

#[test]
fn submodules_and_lfs_pointers_have_words() {
    let forge = Forge::start();
    let (repo, other) = (forge.repo("acme/shop"), forge.repo("acme/secret"));
    let server = Server::start_with(&forge, settings());
    let marker = server.dir.path().join("owned");
    let owned = marker.display();
    other.push("main", &[("README.md", "")]);
    let objects = Objects::of(&repo.bare);
    let commit_there: Id = [0x11; 20];
    let urls = [
        format!("ext::sh -c touch% {owned}"),
        format!("file://{}", other.bare.display()),
        other.bare.display().to_string(),
        "--upload-pack=x".to_owned(),
        format!("ssh://-oProxyCommand=touch%20{owned}/x"),
        "git://127.0.0.1/x".to_owned(),
        "../../../../../etc".to_owned(),
    ];
    let mut builds = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        let text = format!("[submodule \"a\"]\n\tpath = vendor/a\n\turl = {url}\n\tupdate = !touch {owned}\n");
        let file = objects.write("blob", text.as_bytes());
        let vendor = objects.tree(&[("160000", b"a", commit_there)]);
        let tree = objects.tree(&[("100644", b".gitmodules", file), ("40000", b"vendor", vendor)]);
        builds.push(pushed(&server, &repo, &format!("module/{number}"), objects.commit(tree)));
    }
    for build in builds {
        refused(&server, build, "submodule vendor/a: ");
    }
    assert!(!marker.exists(), "a submodule was a command");
    assert!(forge.git.requests().iter().all(|asked| asked.line.contains("/acme/shop.git/")), "fetched from elsewhere");

    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let moved = repo.push("main", &[("img/a.png", pointer), (".gitattributes", "*.png filter=lfs\n")]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "passed", "{build:#}");
    let page = server.get(&format!("/builds/{id}")).body;
    assert!(page.contains("Git LFS is not fetched: img/a.png"), "{page}");
    forge.finish();
}
