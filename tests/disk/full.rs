//! The disk is full: what can't be kept is not acknowledged, no build is blamed on its commit, and when space returns
//! everything goes on without a repair.

use std::fs;
use std::io::Write;

use crate::support::forge::{Forge, Moved, Repo};
use crate::support::machine::{Database, NO_OP, nothing_left, script};
use crate::support::server::{Server, Settings, step};
use crate::support::small_disk::{Disk, all_on, data_on};

fn builds_and_passes(forge: &Forge, server: &Server, repo: &Repo, moved: &Moved) {
    let build = server.finished(server.deliver(&repo.pushed(moved)).build());
    assert_eq!(build["outcome"], "passed", "{build:#}");
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
}

/// The marks would stop the build, and the reserve give the store room for its last words: here the disk is to be full.
fn without_marks(mut settings: Settings) -> Settings {
    settings.env.push(("HOOKMILL_DATA__RESERVE".to_owned(), "1B".to_owned()));
    settings.env.push(("HOOKMILL_DATA__LOW_PERCENT".to_owned(), "0".to_owned()));
    settings
}

#[test]
fn a_full_store_acknowledges_nothing_until_there_is_space() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "32m") else { return };
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, without_marks(all_on(&disk.at)));
    builds_and_passes(&forge, &server, &repo, &repo.push("main", NO_OP));

    disk.fill();
    let moved = repo.push("main", &[("n", "1")]);
    let delivery = repo.pushed(&moved);
    // What was already allocated in its log may take a few more; each that is acknowledged has to be kept.
    let mut kept = Vec::new();
    let refused = loop {
        let one = repo.push(&format!("more-{}", kept.len()), &[("n", &kept.len().to_string())]);
        let reply = server.deliver(&repo.pushed(&one));
        if reply.code != 202 {
            break reply;
        }
        kept.push((one, reply.build()));
        assert!(kept.len() < 500, "it never was full");
    };
    assert_eq!(refused.code, 503, "{refused:?}");
    assert_eq!(refused.headers.get("retry-after").and_then(|value| value.to_str().ok()), Some("30"), "{refused:?}");
    assert_eq!(server.deliver(&delivery).code, 503);
    let ready = server.get("/readyz");
    assert_eq!((ready.code, &ready.json()["parts"]["store"]["ok"]), (503, &false.into()), "{ready:?}");

    disk.free();
    let build = server.deliver(&delivery).build();
    assert_eq!(server.finished(build)["outcome"], "passed");
    for (moved, build) in &kept {
        server.finished(*build);
        forge.final_status(&moved.after, "hookmill");
    }
    forge.wait(|| (server.get("/readyz").code == 200).then_some(()), || "never ready again".to_owned());
    forge.finish();
    assert_eq!(server.stop(), Some(0));
    Database::open(&disk.at.join("hookmill.db")).is_whole();
}

/// A forge does not deliver again what was answered 503.
#[test]
fn a_push_that_could_not_be_taken_is_found_once_there_is_space() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "32m") else { return };
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, Settings { sweep: "5m", ..all_on(&disk.at) });
    builds_and_passes(&forge, &server, &repo, &repo.push("main", NO_OP));
    disk.fill();
    let mut kept = Vec::new();
    let refused = loop {
        let moved = repo.push("main", &[("n", &kept.len().to_string())]);
        match server.deliver(&repo.pushed(&moved)).code {
            503 => break moved,
            _ => kept.push(moved),
        }
        assert!(kept.len() < 500, "it never was full");
    };
    disk.free();
    assert_eq!(forge.final_status(&refused.after, "hookmill").state, "success");
    let builds = server.builds();
    let mine: Vec<_> = builds.iter().filter(|build| build["sha"] == refused.after.as_str()).collect();
    assert_eq!((mine.len(), &mine[0]["event"]), (1, &"sweep".into()), "{mine:#?}");
    forge.finish();
}

#[test]
fn a_build_that_runs_while_the_disk_is_full_gets_its_word_afterwards() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "32m") else { return };
    let repo = forge.repo("acme/shop");
    // A build with caches has files of ours in its HOME, whose end would make the room that is not to be there.
    let settings = Settings { repo: "cache = false\n".to_owned(), ..without_marks(all_on(&disk.at)) };
    let mut server = Server::start_with(&forge, settings);
    // It prints for longer than what is allocated already can take.
    let moved = repo.push("main", &[(".hookmill.toml", &script("echo begun; sleep 10; head -c 1000000 /dev/zero"))]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(id, "bundle", "begun");
    disk.fill();
    forge.wait(|| server.log_text().contains("could not be written yet").then_some(()), || "it was written".to_owned());
    assert_eq!(server.get(&format!("/builds/{id}")).code, 200, "what is there can be read");
    assert_eq!(server.build(id)["state"], "running");

    disk.free();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "broken", "{build:#}");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.state, "error");
    assert!(word.description.contains("space") || word.description.contains("full"), "{word:?}");
    builds_and_passes(&forge, &server, &repo, &repo.push("main", NO_OP));
    forge.finish();
    assert_eq!(server.stop(), Some(0));
    Database::open(&disk.at.join("hookmill.db")).is_whole();
}

#[test]
fn a_log_that_fits_nowhere_is_not_the_commits_fault() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "4m") else { return };
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, without_marks(data_on(&disk.at)));
    builds_and_passes(&forge, &server, &repo, &repo.push("main", NO_OP));

    let flood = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 20000000";
    let moved = repo.push("main", &[(".hookmill.toml", &script(flood))]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "broken", "{build:#}");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.state, "error");
    assert_eq!(word.description, "Not your commit: no space left on the agent's disk for the log");
    nothing_left(&forge, &server.url());

    disk.grow("64m");
    builds_and_passes(&forge, &server, &repo, &repo.push("main", NO_OP));
    forge.finish();
}

#[test]
fn a_checkout_that_fits_nowhere_is_not_the_commits_fault() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "4m") else { return };
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, without_marks(data_on(&disk.at)));
    // Random, so that git can't make it small.
    let mut random = vec![0; 6 << 20];
    getrandom::fill(&mut random).expect("the system has random numbers");
    repo.write(NO_OP);
    fs::write(repo.work.join("photo.raw"), random).expect("a file");
    repo.commit("a photo");
    let moved = repo.push_head("refs/heads/main");
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "broken", "{build:#}");
    assert_eq!(step(&build, "checkout")["outcome"], "broken");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.state, "error");
    assert!(
        word.description.starts_with("Not your commit: ") && word.description.contains("no space left"),
        "{word:?}"
    );

    disk.grow("64m");
    let again = server.post(&format!("/api/v1/builds/{}/rerun", build["id"]), r#"{"cache":true}"#).build();
    let build = server.finished(again);
    assert_eq!(build["outcome"], "passed", "{build:#}");
    forge.finish();
}

#[test]
fn a_step_that_fills_the_disk_is_not_the_commits_fault() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "8m") else { return };
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, all_on(&disk.at));
    let moved = repo.push("main", &[(".hookmill.toml", &script("head -c 20000000 /dev/zero > bundle.js"))]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "broken", "{build:#}");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!((word.state.as_str(), word.description.contains("no space left")), ("error", true), "{word:?}");
    // What it filled goes away with the build; nobody frees anything.
    let moved = repo.push("main", NO_OP);
    let delivery = repo.pushed(&moved);
    let build = server.finished(server.deliver(&delivery).build());
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(build["outcome"], "passed", "{word:?}");
    forge.finish();
}

#[test]
fn a_server_starts_on_a_full_disk_and_goes_on_when_there_is_space() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "32m") else { return };
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, without_marks(all_on(&disk.at)));
    let moved = repo.push("main", &[(".hookmill.toml", &script("echo begun; sleep 10"))]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(id, "bundle", "begun");
    disk.fill();
    server.kill9();
    server.restart();
    assert!(server.log_text().contains("could not be put right yet"), "{}", server.log_text());
    assert_eq!(server.build(id)["state"], "running", "as it was left");

    disk.free();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "passed", "{build:#}");
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    forge.finish();
}

#[test]
fn what_a_killed_build_filled_the_disk_with_is_removed_at_start() {
    let forge = Forge::start();
    let Some(disk) = Disk::mount(forge.dir.path().join("disk"), "16m") else { return };
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, without_marks(all_on(&disk.at)));
    // It says nothing: the first word that can't be kept would end it.
    let flood = "head -c 100000000 /dev/zero > bundle.js 2> /dev/null; sleep 10; exit 1";
    let moved = repo.push("main", &[(".hookmill.toml", &script(flood))]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let is_full = || {
        let mut probe = fs::File::create(disk.at.join("probe")).ok()?;
        let full = probe.write_all(&[7; 65_536]).is_err();
        fs::remove_file(disk.at.join("probe")).expect("it was there");
        full.then_some(())
    };
    forge.wait(is_full, || "the disk never was full".to_owned());
    server.kill9();
    server.restart();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "broken", "{build:#}");
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "error");
    builds_and_passes(&forge, &server, &repo, &repo.push("main", NO_OP));
    forge.finish();
}
