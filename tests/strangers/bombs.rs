//! Repositories that are small on the wire and enormous once they are unpacked.

use std::time::{Duration, Instant};

use crate::strangers::memory::Watch;
use crate::strangers::objects::{Id, Objects, Packed};
use crate::strangers::traces::nothing_is_left;
use crate::strangers::trees::refused;
use crate::strangers::{pushed, settings};
use crate::support::forge::{Forge, Repo};
use crate::support::server::{Server, Settings};

/// Until a commit that can't be checked out has failed. Counted in computing: others may have the machine busy.
const SOON: Duration = Duration::from_secs(60);
/// Bytes of the server and its child together.
const MOST_MEMORY: u64 = 1_000_000_000;

/// A forge with one repository, and a server that does one thing at a time: each bomb has the machine for itself.
struct Ground {
    forge: Forge,
    repo: Repo,
    server: Server,
}

impl Ground {
    fn new() -> Ground {
        let forge = Forge::start();
        let repo = forge.repo("acme/bombs");
        // What a stranger's forge would have: git stops at 2048 levels.
        repo.git_bare(&["config", "core.maxTreeDepth", "100000"]);
        repo.git_bare(&["config", "pack.window", "0"]);
        let server = Server::start_with(&forge, Settings { slots: 1, ..settings() });
        Ground { forge, repo, server }
    }

    /// Fails unless a commit with this tree fails soon, with these words and in bounded memory.
    #[track_caller]
    fn explodes_elsewhere(&self, name: &str, tree: Id, words: &str) {
        let commit = Objects::of(&self.repo.bare).commit(tree);
        let watch = Watch::of(self.server.pid());
        let begun = Instant::now();
        let build = pushed(&self.server, &self.repo, name, commit);
        refused(&self.server, build, words);
        let (took, peak) = (begun.elapsed(), watch.peak());
        println!(
            "{name}: {took:.1?}, of which {:.1?} computed, server {} MB, child {} MB",
            peak.computed,
            peak.server / 1_000_000,
            peak.child / 1_000_000
        );
        assert!(peak.child > 0, "no child was seen");
        assert!(peak.server + peak.child < MOST_MEMORY, "{name}: {peak:?}");
        assert!(peak.computed < SOON, "{name}: {peak:?}");
    }

    #[track_caller]
    fn is_clean(&self) {
        nothing_is_left(&self.server);
        self.forge.finish();
    }
}

#[test]
fn trees_that_grow_and_depths_without_end() {
    let ground = Ground::new();
    let objects = Objects::of(&ground.repo.bare);
    let blob = objects.write("blob", b"boom");
    let files = objects.bomb("100644", blob, 10, 9);
    ground.explodes_elsewhere("files", files, "more than 300000 files");
    let folders = objects.bomb("40000", objects.tree(&[]), 10, 9);
    ground.explodes_elsewhere("folders", folders, "more than 300000 folders");
    let wide = objects.bomb("100644", blob, 600, 2);
    ground.explodes_elsewhere("wide", wide, "more than 300000 files");
    let bottom = objects.tree(&[("100644", b"file", blob)]);
    let deep = (0..5000).fold(bottom, |id, _| objects.tree(&[("40000", b"d", id)]));
    ground.explodes_elsewhere("deep", deep, "lies deeper than 100 folders");
    let name = vec![b'n'; 250];
    let long = (0..60).fold(bottom, |id, _| objects.tree(&[("40000", &name, id)]));
    ground.explodes_elsewhere("long", long, "is a path longer than 4000 bytes");
    ground.is_clean();
}

/// A file that is larger than any may be, a kilobyte for a megabyte on the wire.
fn large(length: u64) {
    let ground = Ground::new();
    let objects = Objects::of(&ground.repo.bare);
    let file = Packed::zeros(length);
    let id = file.id();
    objects.pack(&[file]);
    let words = if length < 1 << 30 { "\"large.bin\" is larger than 256 MiB" } else { "" };
    ground.explodes_elsewhere("large", objects.tree(&[("100644", b"large.bin", id)]), words);
    ground.is_clean();
}

#[test]
fn a_file_that_is_too_large() {
    large((256 << 20) + 1);
}

#[test]
#[ignore = "half a minute in a build for tests; .ci/run asks for it"]
fn a_file_of_two_gigabytes() {
    large(2 << 30);
}

/// git sends differences as they were pushed, and so whoever pushes decides what they unpack to.
#[test]
fn differences_that_grow() {
    let ground = Ground::new();
    let objects = Objects::of(&ground.repo.bare);
    // 16 MB, and what is sixteen times or a hundred times as large, in some kilobytes.
    let base = Packed::zeros(16 << 20);
    let base_length = 16 << 20;
    let name = |number: u8| -> Id { [number; 20] };
    let copies =
        |number: u8, times: u64| Packed::Copies { id: name(number), base: 0, base_length, times, tail: [number; 8] };
    let base_id = base.id();
    objects.pack(&[base, copies(1, 100)]);
    let tree = objects.tree(&[("100644", b"base", base_id), ("100644", b"large", name(1))]);
    ground.explodes_elsewhere("memory", tree, "more memory than a checkout may use");
    let many: Vec<Packed> =
        std::iter::once(Packed::zeros(16 << 20)).chain((2..=200).map(|number| copies(number, 15))).collect();
    objects.pack(&many);
    let names: Vec<String> = (2..=200).map(|number| format!("{number:03}")).collect();
    // With their base among what is asked for, they are sent as they are.
    let files = (2..=200).zip(&names).map(|(number, file)| ("100644", file.as_bytes(), name(number)));
    let entries: Vec<(&str, &[u8], Id)> = files.chain([("100644", &b"base"[..], base_id)]).collect();
    ground.explodes_elsewhere("time", objects.tree(&entries), "takes too long to unpack");
    ground.is_clean();
}

#[test]
fn refs_without_number_cost_little() {
    let ground = Ground::new();
    let moved = ground.repo.push("main", &[("README.md", "# Bombs\n")]);
    let packed: String = (0..50_000).map(|number| format!("{} refs/heads/many/{number:06}\n", moved.after)).collect();
    std::fs::write(
        ground.repo.bare.join("packed-refs"),
        format!("# pack-refs with: peeled fully-peeled sorted \n{packed}"),
    )
    .expect("refs");
    let watch = Watch::of(ground.server.pid());
    let build = ground.server.finished(ground.server.deliver(&ground.repo.pushed(&moved)).build());
    let peak = watch.peak();
    assert_eq!(build["outcome"], "passed", "{build:#}");
    assert!(peak.computed < SOON && peak.server + peak.child < MOST_MEMORY / 4, "{peak:?}");
    ground.forge.finish();
}
