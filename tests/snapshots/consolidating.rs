//! One layer in the place of several shows the same: compared by mounting both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookmill::cache::Sealed;
use hookmill::domain::snapshot::{LayerId, Place};

use super::Data;

/// Everything that a mount shows, a line each, and nothing that only the file system below knows.
const SHOW: &str = r#"cd "$JOINED" && find . -mindepth 1 -printf '%y %m %T@ %p %l\n' | sort && find . -type f -exec sha256sum {} + | sort"#;

/// Runs `script` on an overlay, as an ordinary user could; `None` where this host gives none.
fn on_overlay(data: &Data, lowers: &[PathBuf], upper: &str, script: &str) -> Option<String> {
    let dir = tempfile::tempdir_in(data.dir.path()).expect("a directory").keep();
    let text = |path: &Path| path.to_str().expect("plain").to_owned();
    let upper = if upper.is_empty() { dir.join("upper") } else { data.path(upper) };
    for part in [&upper, &dir.join("work"), &dir.join("joined")] {
        fs::create_dir_all(part).expect("made");
    }
    let lowers: Vec<String> = lowers.iter().map(|path| text(path)).collect();
    let options = format!(
        "userxattr,volatile,lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        text(&upper),
        text(&dir.join("work"))
    );
    let mounted = format!(r#"mount -t overlay -o "$OPTIONS" overlay "$JOINED" || exit 99; set -e; {script}"#);
    let told = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &mounted])
        .env("OPTIONS", options)
        .env("JOINED", dir.join("joined"))
        .output()
        .expect("unshare runs");
    let errors = String::from_utf8_lossy(&told.stderr);
    // overlayfs leaves a directory without any rights.
    hookmill::tree::remove(&dir.join("work")).expect("removed");
    if told.status.code() == Some(99) || errors.contains("unshare failed") {
        eprintln!("NOT TRIED, this host has no overlay: {errors}");
        return None;
    }
    assert!(told.status.success(), "{errors}\n{script}");
    Some(String::from_utf8(told.stdout).expect("plain names"))
}

/// Changes by chance, the same for the same seed: paths of few names, so that they meet.
fn changes(seed: u64, count: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % bound
    };
    let mut script = String::from("cd \"$JOINED\"\n");
    for n in 0..count {
        let mut path = || {
            let depth = 1 + next(3);
            let parts: Vec<&str> = (0..depth).map(|_| ["a", "b", "c"][next(3)]).collect();
            parts.join("/")
        };
        let (one, two) = (path(), path());
        // Links lead nowhere, so that no path goes through one.
        let change = match next(7) {
            0 | 1 => format!("rm -rf {one}"),
            2 => format!("rm -rf {one}; mkdir -p {one}"),
            3 => format!("mkdir -p $(dirname {one}) && [ ! -d {one} ] && echo {seed}-{n} > {one}"),
            4 => format!("mkdir -p $(dirname {one}) && rm -rf {one} && ln -s to-{n} {one}"),
            5 => format!("[ -e {one} ] && chmod 7{}5 {one}", next(6)),
            _ => format!("[ -e {one} ] && [ ! -e {two} ] && [ -d $(dirname {two}) ] && mv {one} {two}"),
        };
        script.push_str(&format!("{{ {change}; }} 2>/dev/null || true\n"));
    }
    script
}

fn files(data: &Data, sealed: &Sealed) -> PathBuf {
    data.layer(&sealed.layer(Place::Tree)).join("files")
}

#[test]
fn one_layer_shows_what_its_chain_shows() {
    for seed in 1..=4 {
        let data = Data::new();
        let base = data.tree(&[("a/a/a", "1"), ("a/b/c", "2"), ("b/a", "3"), ("c/c/c", "4"), ("c/a/b", "5")]);
        // The layers, the topmost first.
        let mut chain: Vec<Sealed> = Vec::new();
        for layer in 0..4 {
            let below: Vec<PathBuf> = chain.iter().map(|one| files(&data, one)).chain([base.clone()]).collect();
            let name = format!("upper{layer}");
            if on_overlay(&data, &below, &name, &changes(seed * 100 + layer, 12)).is_none() {
                return;
            }
            chain.insert(0, data.cache.seal(&data.path(&name), u64::MAX).expect("sealed"));
        }
        let bottom = files(&data, &chain[3]);
        let ids: Vec<LayerId> = chain[..3].iter().map(|one| one.id.clone()).collect();
        let one = data.cache.consolidate(&ids).expect("consolidated");
        let stacked: Vec<PathBuf> = chain[..3].iter().map(|one| files(&data, one)).collect();
        let bare = data.tree(&[("other", "")]);
        let bases = [vec![bottom, base.clone()], vec![bare], vec![base]];
        for below in bases {
            let shown = |layers: &[PathBuf]| {
                on_overlay(&data, &[layers, &below].concat(), "", SHOW).expect("it was there a moment ago")
            };
            assert_eq!(shown(&stacked), shown(&[files(&data, &one)]), "seed {seed}, over {below:?}");
        }
        assert_eq!(data.cache.verify(false).expect("verified").damages, []);
    }
}
