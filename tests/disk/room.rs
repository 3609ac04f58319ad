//! Little room on the disk: no build is started, hooks are taken, what can be spared goes, and it recovers by itself.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::forge::Forge;
use crate::support::machine::{NO_OP, script};
use crate::support::server::{ADMIN, EXE, Server, Settings};
use crate::support::small_disk::{Disk, all_on};

/// Half of the disk is the first mark, and an eighth of that the second.
fn half_is_low(disk: &Disk) -> Settings {
    let mut settings = all_on(&disk.at);
    settings.env.push(("HOOKMILL_DATA__LOW_PERCENT".to_owned(), "50".to_owned()));
    settings
}

fn disk_part(server: &Server) -> (bool, String) {
    let part = server.get("/readyz").json()["parts"]["disk"].clone();
    (part["ok"] == true, part["detail"].as_str().expect("words").to_owned())
}

/// Blocks of the reserve, in bytes; 0 where there is none.
fn reserve(disk: &Disk) -> u64 {
    fs::metadata(disk.at.join("data/reserve")).map(|data| data.blocks() * 512).unwrap_or_default()
}

fn wait(forge: &Forge, what: &str, is_so: impl Fn() -> bool) {
    forge.wait(|| is_so().then_some(()), || format!("never: {what}"));
}

#[test]
fn below_the_mark_nothing_is_claimed_and_hooks_are_taken_until_there_is_room() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "64m") else { return };
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, half_is_low(&disk));
    wait(&forge, "a reserve of a hundredth", || reserve(&disk) >= (64 << 20) / 100);
    assert!(disk_part(&server).0, "{:?}", disk_part(&server));

    disk.fill_up_to(16 << 20);
    let first = server.deliver(&repo.pushed(&repo.push("main", NO_OP))).build();
    wait(&forge, "a look at the disk", || server.log_text().contains("there is little room on the disk"));
    let (ok, detail) = disk_part(&server);
    assert!(!ok && detail.contains("left, and no build is started below 31 MiB ([data] low)"), "{detail}");
    assert_eq!(server.get("/readyz").code, 200, "hooks are taken");
    wait(&forge, "the agent's own word on it", || server.get("/api/v1/agents").body.contains("\"disk_low\""));
    let waits = server.build(first)["waits"].as_str().expect("why").to_owned();
    assert!(waits.starts_with("the disk of agent ") && waits.contains(" MiB left"), "{waits}");
    assert!(server.get(&format!("/builds/{first}")).body.contains("It waits: <bdi>the disk of agent"));
    assert!(server.get("/").body.contains("Queued builds wait: <bdi>the disk of agent"));
    let listed = run(Command::new(EXE).args(["builds", "list", "--json", "--server", &server.url()]));
    assert_eq!(listed["waits"].as_str(), Some(waits.as_str()));
    assert!(reserve(&disk) > 0, "nobody needed it yet");

    // Somebody takes the very last byte: the reserve is what the store writes into then.
    // It must not look at the disk while only almost all of it is taken: the reserve it gives up would be filled too.
    server.signal(Signal::STOP);
    disk.fill();
    server.signal(Signal::CONT);
    let second = server.deliver(&repo.pushed(&repo.push("main", &[("n", "1")]))).build();
    wait(&forge, "the reserve is given up", || reserve(&disk) == 0);
    assert_eq!((&server.build(first)["state"], &server.build(second)["state"]), (&"queued".into(), &"queued".into()));

    disk.free();
    for build in [first, second] {
        let ended = server.finished(build);
        assert_eq!((&ended["outcome"], ended.get("waits")), (&"passed".into(), None), "{ended:#}");
    }
    wait(&forge, "the reserve again", || reserve(&disk) >= (64 << 20) / 100);
    assert!(disk_part(&server).0);
    forge.finish();
}

fn run(command: &mut Command) -> Value {
    let ran = command.env("HOOKMILL_TOKEN", ADMIN).output().expect("it ran");
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// A mirror that nobody used for a day.
fn old_mirror(data: &Path, bytes: usize) {
    let pack = data.join("mirrors/0123456789abcdef0123456789abcdef.git/objects/pack");
    fs::create_dir_all(&pack).expect("a folder");
    fs::write(pack.join("pack-1.pack"), vec![7; bytes]).expect("room");
    fs::write(pack.join("pack-1.idx"), b"").expect("room");
    let lock = fs::File::create(data.join("mirrors/0123456789abcdef0123456789abcdef.lock")).expect("a file");
    lock.set_modified(SystemTime::now() - Duration::from_secs(86_400)).expect("its time");
}

#[test]
fn what_can_be_spared_goes_and_builds_are_started_again() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "64m") else { return };
    let repo = forge.repo("acme/shop");
    old_mirror(&disk.at.join("data"), 40 << 20);
    let server = Server::start_with(&forge, half_is_low(&disk));
    let build = server.finished(server.deliver(&repo.pushed(&repo.push("main", NO_OP))).build());
    assert_eq!(build["outcome"], "passed", "{build:#}");
    assert!(!disk.at.join("data/mirrors/0123456789abcdef0123456789abcdef.git").exists(), "it was what could be spared");
    assert!(server.log_text().contains("mirrors over their quota removed"), "{}", server.log_text());
    forge.finish();
}

#[test]
fn inodes_that_run_out_hold_builds_back_too() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "64m,nr_inodes=4000") else { return };
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, all_on(&disk.at));
    let crowd = disk.at.join("crowd");
    fs::create_dir(&crowd).expect("a folder");
    for n in 0.. {
        if disk.left().1 <= 150 {
            break;
        }
        fs::write(crowd.join(n.to_string()), b"").expect("an inode");
    }
    let build = server.deliver(&repo.pushed(&repo.push("main", NO_OP))).build();
    wait(&forge, "why it waits", || {
        server.build(build)["waits"]
            .as_str()
            .is_some_and(|why| why.contains(" files left, and no build is started below 200"))
    });
    assert_eq!(server.build(build)["state"], "queued");
    fs::remove_dir_all(&crowd).expect("it was there");
    assert_eq!(server.finished(build)["outcome"], "passed");
    forge.finish();
}

#[test]
fn a_build_that_fills_the_disk_is_stopped_before_it_is_full() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "64m") else { return };
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, half_is_low(&disk));
    // It heeds no error and never ends by itself.
    let eater = "while :; do head -c 100000 /dev/zero >> bundle.js 2> /dev/null; done";
    let moved = repo.push("main", &[(".hookmill.toml", &script(eater))]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "broken", "{build:#}");
    assert!(server.log_text().contains("the build that takes most is stopped"), "{}", server.log_text());
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.description, "Not your commit: no space left on the agent's disk");
    // What it took is gone with it.
    let next = server.finished(server.deliver(&repo.pushed(&repo.push("main", NO_OP))).build());
    assert_eq!(next["outcome"], "passed", "{next:#}");
    forge.finish();
}
