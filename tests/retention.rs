//! `[retention]`: what is too old goes from the running server, each kind by its own age.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::forge::Forge;
use crate::support::server::{ADMIN, Server};

const BUNDLED: &[(&str, &str)] = &[
    (".hookmill.toml", "[bundle]\ncommand = ['node', 'bundle.js']\n[artifacts]\npaths = ['dist']\n"),
    (
        "bundle.js",
        "console.log('bundled');\nconst fs = require('fs');\nfs.mkdirSync('dist');\nfs.writeFileSync('dist/a.js', '1');\n",
    ),
];

fn kept_deliveries(server: &Server) -> usize {
    let list = server.get_with("/api/v1/deliveries", &[("authorization", &format!("Bearer {ADMIN}"))]).json();
    list["deliveries"].as_array().map_or(0, Vec::len)
}

fn audited(server: &Server) -> usize {
    let list = server.get_with("/api/v1/audit", &[("authorization", &format!("Bearer {ADMIN}"))]).json();
    list["entries"].as_array().map_or(0, Vec::len)
}

fn artifacts(server: &Server, build: i64) -> usize {
    server.get(&format!("/api/v1/builds/{build}/artifacts")).json()["artifacts"].as_array().map_or(0, Vec::len)
}

/// Starts it again with this in its configuration; what is too old goes at once.
fn restart_with(server: &mut Server, text: &str, retention: &str) {
    assert_eq!(server.stop(), Some(0));
    fs::write(server.config_file(), format!("{text}\n[retention]\n{retention}")).expect("written");
    server.restart();
}

#[test]
fn each_kind_goes_by_its_own_age_and_mirrors_by_their_size() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start(&forge);
    let text = fs::read_to_string(server.config_file()).expect("its configuration");
    let build = server.deliver(&repo.pushed(&repo.push("main", BUNDLED))).build();
    assert_eq!(server.finished(build)["outcome"], "passed");
    let there = |server: &Server| {
        (server.log(build, "bundle").contains("bundled"), artifacts(server, build) > 0, kept_deliveries(server) > 0)
    };
    let becomes = |server: &Server, expected: (bool, bool, bool)| {
        forge.wait(|| (there(server) == expected).then_some(()), || format!("{:?}, not {expected:?}", there(server)));
    };
    // Each start is an entry, which is written a moment after it.
    let started = |server: &Server, times: usize| {
        forge.wait(|| (audited(server) == times).then_some(()), || format!("{} starts", audited(server)));
    };
    started(&server, 1);
    restart_with(&mut server, &text, "");
    started(&server, 2);
    becomes(&server, (true, true, true));
    restart_with(&mut server, &text, "logs = \"1ms\"\n");
    started(&server, 3);
    becomes(&server, (false, true, true));
    restart_with(&mut server, &text, "artifacts = \"1ms\"\n");
    started(&server, 4);
    becomes(&server, (false, false, true));
    restart_with(&mut server, &text, "deliveries = \"1ms\"\n");
    started(&server, 5);
    becomes(&server, (false, false, false));
    // This start's entry may come before or after the look at what is old.
    restart_with(&mut server, &text, "audit = \"1ms\"\n");
    forge.wait(|| (audited(&server) <= 1).then_some(()), || format!("{} starts", audited(&server)));
    assert_eq!(server.build(build)["outcome"], "passed", "the record stays");

    // A mirror that a build may still read from stays; one that nobody used lately goes.
    let mirrors = || {
        let entries = fs::read_dir(server.data().join("mirrors")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "git")).count()
    };
    assert_eq!(mirrors(), 1);
    for entry in fs::read_dir(server.data().join("mirrors")).expect("mirrors").flatten() {
        if entry.path().extension().is_some_and(|ext| ext == "lock") {
            let at = SystemTime::now() - Duration::from_secs(7 * 3600);
            fs::File::open(entry.path()).and_then(|file| file.set_modified(at)).expect("its time");
        }
    }
    let data = server.data();
    let of = |folder: &std::path::Path| fs::read_dir(folder).into_iter().flatten().flatten().count();
    restart_with(&mut server, &text, "mirrors = \"1kB\"\nbuilds = \"1ms\"\n");
    let gone = || server.get(&format!("/api/v1/builds/{build}")).code == 404 && of(&data.join("mirrors")) == 1;
    forge.wait(|| gone().then_some(()), || "the build and the mirror stay".to_owned());
    assert_eq!(server.get("/api/v1/builds").json()["builds"], Value::Array(Vec::new()));
    forge.finish();
}
