//! Snapshots on a real disk: kept, found, damaged, shared between processes, collected.

mod collecting;
#[cfg(target_os = "linux")]
mod consolidating;
mod damage;
mod figures;
mod keeping;
mod sharing;
mod taking;

use std::fs;
use std::path::{Path, PathBuf};

use hookmill::cache::{Cache, Found, Held, Missed, Sealed};
use hookmill::domain::build::BuildId;
use hookmill::domain::snapshot::{Inputs, Layer, Level, Lineage, Place, Record, Scope};
use hookmill::domain::time::Timestamp;
use hookmill::domain::trust::Trust;

/// A data directory and its cache.
struct Data {
    dir: tempfile::TempDir,
    cache: Cache,
}

impl Data {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::new(dir.path());
        Self { dir, cache }
    }

    fn path(&self, rel: &str) -> PathBuf {
        self.dir.path().join(rel)
    }

    /// A directory as a build would have left it.
    fn tree(&self, files: &[(&str, &str)]) -> PathBuf {
        let root = tempfile::tempdir_in(self.dir.path()).expect("a directory").keep();
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a file in a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn seal(&self, files: &[(&str, &str)]) -> Sealed {
        self.cache.seal(&self.tree(files), u64::MAX).expect("sealed")
    }

    /// Keeps one layer with these files.
    fn keep(&self, scope: &Scope, level: Level, inputs: &Inputs, files: &[(&str, &str)]) -> Record {
        let sealed = self.seal(files);
        let record = record(scope, level, inputs, vec![sealed.layer(Place::Tree)]);
        self.cache.put(&record).expect("kept");
        record
    }

    fn hit(&self, lineage: &Lineage, level: Level, inputs: &Inputs) -> Held {
        match self.cache.find(lineage, level, inputs) {
            Found::Hit(held) => held,
            Found::Miss(missed) => panic!("a hit was expected: {missed:?}"),
        }
    }

    fn miss(&self, lineage: &Lineage, level: Level, inputs: &Inputs) -> Missed {
        match self.cache.find(lineage, level, inputs) {
            Found::Hit(held) => panic!("a miss was expected: {held:?}"),
            Found::Miss(missed) => missed,
        }
    }

    fn layer(&self, layer: &Layer) -> PathBuf {
        self.path("snapshots/layers").join(&layer.id.0)
    }
}

fn scope(trust: Trust, git_ref: &str) -> Scope {
    Scope { repo: "github/acme/shop".parse().expect("legal"), trust, git_ref: git_ref.parse().expect("legal") }
}

fn main_branch() -> Scope {
    scope(Trust::Trusted, "refs/heads/main")
}

fn alone(scope: &Scope) -> Lineage {
    Lineage { own: scope.clone(), above: Vec::new() }
}

fn inputs(node: &str) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add("node", node);
    inputs
}

fn record(scope: &Scope, level: Level, inputs: &Inputs, layers: Vec<Layer>) -> Record {
    Record {
        scope: scope.clone(),
        level,
        inputs: inputs.clone(),
        layers,
        build: BuildId(7),
        sha: "a".repeat(40).parse().expect("legal"),
        kept_at: Timestamp(1_763_820_000_000),
        note: None,
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("readable")
}
