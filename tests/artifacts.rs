//! What a build leaves to be kept: collected without following links, served as attachments, gone in time.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::forge;
use crate::support::forge::{Forge, LOOK_AGAIN, PATIENCE};
use crate::support::server::{Server, Settings};

const FILE: &str = "[bundle]\ncommand = ['node', 'bundle.js']\n";

/// Writes files, a link out of the tree, and whatever else somebody may try.
const BUNDLE: &str = "const fs = require('fs');\n\
    fs.mkdirSync('dist/deep', { recursive: true });\n\
    fs.writeFileSync('dist/main.3f2a.js', 'console.log(1)\\n'.repeat(100));\n\
    fs.writeFileSync('dist/deep/ü \"x\".html', '<script>alert(1)</script>');\n\
    fs.symlinkSync('/etc/passwd', 'dist/passwd');\n\
    fs.symlinkSync('/etc', 'out');\n\
    fs.writeFileSync('report.txt', 'fine');\n";

fn built(server: &Server, repo: &forge::Repo, branch: &str, settings: &str, script: &str) -> Value {
    let file = format!("{FILE}{settings}");
    let moved = repo.push(branch, &[(".hookmill.toml", &file), ("bundle.js", script)]);
    let build = server.deliver(&repo.pushed(&moved)).build();
    server.finished(build)
}

fn artifacts(server: &Server, build: &Value) -> Vec<(String, u64)> {
    let reply = server.get(&format!("/api/v1/builds/{}/artifacts", build["id"]));
    assert_eq!(reply.code, 200, "{reply:?}");
    let list = reply.json()["artifacts"].as_array().expect("a list").clone();
    let entry =
        |entry: &Value| (entry["path"].as_str().expect("a path").to_owned(), entry["bytes"].as_u64().expect("a size"));
    list.iter().map(entry).collect()
}

#[test]
fn files_are_kept_served_as_attachments_and_survive_a_restart() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start(&forge);
    let settings = "[artifacts]\npaths = ['dist', 'out', '*.txt']\n";
    let build = built(&server, &repo, "main", settings, BUNDLE);
    assert_eq!(build["outcome"], "passed", "{build:#}");
    let expected = [("dist/deep/ü \"x\".html", 25), ("dist/main.3f2a.js", 1500), ("report.txt", 4)]
        .map(|(path, bytes)| (path.to_owned(), bytes));
    assert_eq!(artifacts(&server, &build), expected, "no link is followed, and none is kept");

    server.kill9();
    server.restart();
    assert_eq!(artifacts(&server, &build), expected);
    let at = format!("/api/v1/builds/{}/artifacts", build["id"]);
    let page = server.get(&format!("{at}/dist/deep/%C3%BC%20%22x%22.html"));
    assert_eq!((page.code, page.body.as_str()), (200, "<script>alert(1)</script>"));
    let header = |name: &str| page.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert!(header("content-disposition").starts_with("attachment; filename=\"_ _x_.html\"; filename*="), "{page:?}");
    assert!(header("content-security-policy").contains("sandbox"), "{page:?}");
    assert_eq!(header("x-content-type-options"), "nosniff");

    let part = server.get_with(&format!("{at}/dist/main.3f2a.js"), &[("range", "bytes=1485-")]);
    assert_eq!((part.code, part.body.as_str()), (206, "console.log(1)\n"));
    for unknown in ["/dist/passwd", "/out/hostname", "/dist", "/0", "/index.json", "/..%2F..%2Fhookmill.db"] {
        let reply = server.get(&format!("{at}{unknown}"));
        assert_eq!((reply.code, reply.json()["error"]["code"].clone()), (404, json!("not_found")), "{unknown}");
    }
    let page = server.get(&format!("/builds/{}", build["id"])).body;
    assert!(page.contains("3 files, 1.5 kB") && page.contains("/artifacts/dist/main.3f2a.js\""), "{page}");
}

#[test]
fn a_failed_build_keeps_only_what_it_is_asked_to_keep_always() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let script = format!("{BUNDLE}process.exit(3);\n");
    let failed = |branch: &str, when: &str| {
        let settings = format!("[artifacts]\npaths = ['report.txt', 'none']\n{when}");
        let build = built(&server, &repo, branch, &settings, &script);
        assert_eq!(build["outcome"], "failed", "{build:#}");
        artifacts(&server, &build)
    };
    assert_eq!(failed("one", ""), []);
    assert_eq!(failed("two", "when = 'always'\n"), [("report.txt".to_owned(), 4)]);
}

#[test]
fn old_artifacts_go_before_their_build() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let tables = "[retention]\nartifacts = \"1ms\"\n".to_owned();
    let mut server = Server::start_with(&forge, Settings { tables, ..Settings::default() });
    let build = built(&server, &repo, "main", "[artifacts]\npaths = ['report.txt']\n", BUNDLE);
    let kept = server.data().join("artifacts").join(build["id"].to_string());
    assert!(kept.join("index.json").is_file());
    // The sweeper looks at once after a start.
    server.kill9();
    std::fs::create_dir(server.data().join("artifacts/unfinished-77")).expect("a folder");
    server.restart();
    let deadline = Instant::now() + PATIENCE;
    while kept.exists() {
        assert!(Instant::now() < deadline, "old artifacts are still there");
        std::thread::sleep(LOOK_AGAIN);
    }
    assert!(!server.data().join("artifacts/unfinished-77").exists(), "what was never finished goes, too");
    assert_eq!(artifacts(&server, &build), []);
    assert_eq!(server.get(&format!("/api/v1/builds/{}", build["id"])).code, 200);
}
