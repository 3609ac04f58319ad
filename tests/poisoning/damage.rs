//! What is kept is damaged on disk, or the server is killed while it keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lockfiles::Manager;
use crate::shop::Shop;

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
    shop.is_clean(shop.pushed("main", "one", None), "one");
    let mut kept = Vec::new();
    installed(&shop.snapshots(), &mut kept);
    for file in &kept {
        fs::write(file, "module.exports = ").expect("ours");
    }
    shop.is_clean(shop.pushed("main", "two", None), "two");
    shop.is_clean(shop.pushed("main", "three", None), "three");
    shop.forge.finish();
}

/// The server is killed at random moments from the last lines of a build to some time after its end.
#[test]
fn killed_while_it_keeps_it_leaves_nothing_half() {
    const KILLS: u32 = 6;
    let mut shop = Shop::of(Manager::Yarn1);
    for round in 0..KILLS {
        let id = shop.pushed(&format!("branch-{round}"), &round.to_string(), None);
        shop.server.wait_for(id, |build| {
            let steps = build["steps"].as_array().expect("a list");
            steps.iter().any(|step| step["name"] == "bundle" && step["state"] != "queued")
        });
        let mut random = [0; 1];
        getrandom::fill(&mut random).expect("the system has random numbers");
        // The random moment of the kill.
        std::thread::sleep(Duration::from_millis(3 * u64::from(random[0])));
        shop.server.kill9();
        shop.server.restart();
        shop.is_clean(id, &round.to_string());
        shop.is_clean(shop.pushed(&format!("branch-{round}"), "after", None), "after");
    }
    shop.forge.finish();
}
