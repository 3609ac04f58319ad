//! What keeping and finding cost, by the number of files.
//! `cargo test --release --test all -- snapshots::figures --ignored --nocapture --test-threads 1`

use std::fs;
use std::time::{Duration, Instant};

use hookmill::domain::snapshot::{Level, Place};

use super::{Data, alone, inputs, main_branch, record};

#[test]
#[ignore = "a measurement"]
fn sealing_finding_and_taking() {
    for files in [9_000, 37_000] {
        let data = Data::new();
        let tree = tempfile::tempdir_in(data.dir.path()).expect("a directory").keep();
        for n in 0..files {
            let dir = tree.join(format!("node_modules/p{}/d{}", n / 60, n / 10 % 6));
            fs::create_dir_all(&dir).expect("made");
            fs::write(dir.join(format!("f{n}.js")), format!("{n}").repeat(1000 + n % 900)).expect("written");
        }
        let start = Instant::now();
        let sealed = data.cache.seal(&tree, u64::MAX).expect("sealed");
        let seal = start.elapsed();
        let layers = vec![sealed.layer(Place::Tree)];
        let size = sealed.disk_bytes >> 20;
        data.cache.put(&record(&main_branch(), Level::Packages, &inputs("20"), layers.clone())).expect("kept");
        drop(sealed);
        let mut finds: Vec<Duration> = (0..21)
            .map(|_| {
                let start = Instant::now();
                drop(data.hit(&alone(&main_branch()), Level::Packages, &inputs("20")));
                start.elapsed()
            })
            .collect();
        finds.sort_unstable();
        let start = Instant::now();
        assert!(data.cache.verify(false).expect("verified").damages.is_empty());
        let verify = start.elapsed();
        let mut held = data.hit(&alone(&main_branch()), Level::Packages, &inputs("20"));
        let start = Instant::now();
        data.cache.take(&mut held, &layers[0].id, &data.path("into")).expect("taken");
        println!(
            "{files} files, {size} MiB: seal {seal:.1?}, find median {:.2?} (most {:.2?}), verify {verify:.1?}, take {:.1?}",
            finds[10],
            finds[20],
            start.elapsed()
        );
    }
}
