//! The agent is killed in the middle of a step that did all it can to outlive it: after the restart nothing of it is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::forge::Forge;
use crate::support::machine::{adopt_orphans, nothing_left, of_builds, script};
use crate::support::server::{Server, Settings};

/// Sessions of their own, parents that are gone, deaf to every signal that can be ignored; files in each place that a step may
/// write.
const STORY: &str = r#"
for place in . "$HOME" "$TMPDIR"; do mktemp "$place/left-behind.XXXXXX" > /dev/null; done
(setsid sh -c 'trap "" TERM HUP INT; (setsid sleep 601 &); while :; do sleep 602; done' > /dev/null 2>&1 &)
setsid nohup sleep 603 > /dev/null 2>&1 &
setsid sleep 604 &
there() { for one in /proc/[0-9]*; do [ "$(tr '\0' ' ' 2> /dev/null < $one/cmdline)" = "$* " ] && return; done; false; }
for left in 601 603 604; do until there sleep $left; do sleep 0.05; done; done
echo ready
sleep 605 & wait
"#;

fn left_behind(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with("left-behind.") {
            found.push(path);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            left_behind(&path, found);
        }
    }
}

#[test]
fn a_killed_agent_finds_nothing_left_when_it_is_back() {
    adopt_orphans();
    for require in ["available", "none"] {
        let forge = Forge::start();
        let tables = format!("[sandbox]\nrequire = \"{require}\"\n");
        let mut server = Server::start_with(&forge, Settings { tables, ..crate::fence::plain() });
        let repo = forge.repo("acme/shop");
        let moved = repo.push("main", &[(".hookmill.toml", &script(STORY))]);
        let id = server.deliver(&repo.pushed(&moved)).build();
        server.wrote(id, "bundle", "ready");
        let (url, alive) = (server.url(), of_builds(&server.url()));
        for what in ["sleep 601", "sleep 603", "sleep 604"] {
            assert!(alive.iter().any(|line| line.ends_with(what)), "{require}: no {what}: {alive:#?}");
        }
        let mut files = Vec::new();
        left_behind(&server.data(), &mut files);
        assert!(files.len() >= 3, "{require}: {files:#?}");

        server.kill9();
        server.restart();
        let back = Instant::now();
        // The build begins anew at once, so those are asked for that were there before.
        let of_before = || of_builds(&url).into_iter().filter(|line| alive.contains(line)).collect::<Vec<_>>();
        forge.wait(|| of_before().is_empty().then_some(()), || format!("{require}: left behind: {:#?}", of_before()));
        let took = back.elapsed();
        assert!(took < Duration::from_secs(5), "{require}: gone after {took:?}");
        let there = || files.iter().filter(|file| file.exists()).collect::<Vec<_>>();
        forge.wait(|| there().is_empty().then_some(()), || format!("{require}: left behind: {:#?}", there()));

        // It would go on for ever.
        server.kill9();
        nothing_left(&forge, &url);
        forge.nothing_wrong();
    }
}
