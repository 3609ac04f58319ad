//! What is kept is damaged on disk, or the server is killed while it keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::poisoning::shop::Shop;
use crate::support::lockfiles::Manager;
use crate::support::server::step;

/// Every file below `dir` that is called `alpha/index.js`.
fn installed(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => installed(&path, found),
            Ok(kind) if kind.is_file() && path.ends_with("alpha/index.js") => found.push(path),
            _ => {}
        }
    }
}

/// Whatever was kept of the dependencies is cut short on disk.
#[test]
fn a_damaged_snapshot_fails_no_build() {
    let shop = Shop::of(Manager::Yarn1);
    let first = shop.pushed("main", "one", None);
    shop.is_clean(first, "one");
    shop.kept(first);
    let mut kept = Vec::new();
    installed(&shop.snapshots(), &mut kept);
    assert!(!kept.is_empty(), "nothing was kept");
    for file in &kept {
        fs::write(file, "module.exports = ").expect("ours");
    }
    assert!(!shop.damages().is_empty(), "nothing is damaged");
    let second = shop.pushed("main", "two", None);
    shop.is_clean(second, "two");
    let build = shop.kept(second);
    let note = step(&build, "yarn")["cache_note"].as_str().unwrap_or_default();
    assert!(note.contains("damaged"), "{build:#}");
    assert_eq!(shop.damages(), [], "it is whole again");
    let third = shop.pushed("main", "three", None);
    shop.is_clean(third, "three");
    shop.installs_are_of(third, Some(second));
    shop.forge.finish();
}

/// The server is killed at random moments from the last lines of a build to some time after its end.
#[test]
fn killed_while_it_keeps_it_leaves_nothing_half() {
    const KILLS: u32 = 4;
    let mut shop = Shop::of(Manager::Yarn1);
    for round in 0..KILLS {
        let id = shop.pushed(&format!("branch-{round}"), &round.to_string(), None);
        let keeps_soon = round % 2 == 0;
        shop.server.wait_for(id, |build| {
            let steps = build["steps"].as_array().expect("a list");
            let bundles = steps.iter().any(|step| step["name"] == "bundle" && step["state"] != "queued");
            if keeps_soon { build["state"] == "finished" } else { bundles }
        });
        let mut random = [0; 1];
        getrandom::fill(&mut random).expect("the system has random numbers");
        // The random moment of the kill.
        let most = if keeps_soon { 60 } else { 600 };
        std::thread::sleep(Duration::from_millis(most * u64::from(random[0]) / 255));
        shop.server.kill9();
        assert_eq!(shop.damages(), [], "kill -9 number {round}");
        shop.server.restart();
        shop.is_clean(id, &round.to_string());
        shop.is_clean(shop.pushed(&format!("branch-{round}"), "after", None), "after");
    }
    shop.forge.finish();
}
