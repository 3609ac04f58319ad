//! The packs of a mirror become one while others read it, and whenever that is killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use git2::{Oid, Repository};
use hookmill::checkout::{client, crowded};

use crate::support::workbench::{EXE, Workbench, git};

const PATIENCE: Duration = Duration::from_secs(60);

/// A bench whose mirror was fetched into `packs` times more than once, as far as its packs and refs show. Answers with
/// the mirror and its new objects. Nothing leads to those of the last pack.
fn crowd(bench: &Workbench, packs: usize) -> (PathBuf, Vec<Oid>) {
    let job = bench.job(&"0".repeat(40), "refs/heads/main");
    let folder = job.mirror.join("objects/pack");
    let mut objects = Vec::new();
    for number in 0..packs {
        let text = format!("{number}\n").repeat(40);
        let input = format!(
            "commit refs/heads/made-{number}\ncommitter Ada <ada@acme.dev> {number} +0000\ndata 1\nx\n\
             M 100644 inline a.js\ndata {}\n{text}\n",
            text.len()
        );
        git(bench.dir.path(), &bench.work(), &["fast-import", "--quiet", "--force"], input.as_bytes());
        let listed = bench.git(&["rev-list", "--objects", "--no-object-names", &format!("refs/heads/made-{number}")]);
        let into = folder.join("pack").display().to_string();
        git(
            bench.dir.path(),
            &bench.work(),
            &["-c", "pack.writeReverseIndex=false", "pack-objects", "-q", &into],
            format!("{listed}\n").as_bytes(),
        );
        objects.extend(listed.lines().map(|id| Oid::from_str(id).expect("an id")));
        let name = format!("refs/hookmill/{number:032}");
        let tip = if number + 1 == packs { objects[0] } else { objects[objects.len() - 3] };
        bench.git_in(&job.mirror, &["update-ref", &name, &tip.to_string()]);
    }
    (job.mirror, objects)
}

fn packs(mirror: &Path) -> usize {
    let entries = std::fs::read_dir(mirror.join("objects/pack")).expect("a mirror");
    entries.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pack")).count()
}

/// Reads every object, so that its hash is compared too.
fn read_all(repo: &Repository, objects: &[Oid]) {
    let odb = repo.odb().expect("objects");
    for id in objects {
        let object = odb.read(*id).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert!(!object.data().is_empty());
    }
}

#[tokio::test]
async fn packs_become_one_while_others_read() {
    let bench = Workbench::new();
    let first = bench.push(&[("a.js", "1")]);
    bench.checkout(&first).await.expect("the first");
    let (mirror, objects) = crowd(&bench, 110);
    let mirrors = mirror.parent().expect("a folder").to_owned();
    assert_eq!((packs(&mirror), crowded(&mirrors)), (111, vec![mirror.clone()]));
    // Has the list of the old packs, and has opened one of them only.
    let early = Repository::open_bare(&mirror).expect("a mirror");
    read_all(&early, &objects[..1]);
    let done = Arc::new(AtomicBool::new(false));
    let readers = [(); 2].map(|()| {
        let (mirror, objects, done) = (mirror.clone(), objects.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            while !done.load(Ordering::Acquire) {
                read_all(&Repository::open_bare(&mirror).expect("a mirror"), &objects);
            }
        })
    });
    let became = client::consolidate(Path::new(EXE), &mirror, PATIENCE).await;
    done.store(true, Ordering::Release);
    for reader in readers {
        reader.join().expect("every object, at every moment");
    }
    let became = became.expect("consolidated");
    assert_eq!((became, packs(&mirror), crowded(&mirrors)), (111, 1, Vec::new()));
    read_all(&early, &objects);
    bench.git_in(&mirror, &["fsck", "--full", "--strict"]);
    let refs = std::fs::read_dir(mirror.join("refs/hookmill")).expect("refs").count();
    assert_eq!(refs, 100, "the newest");
    assert!(!mirror.join("objects/tmp_consolidated").exists());

    // The workspace that borrows them goes on, and so do checkouts.
    assert_eq!(bench.status(), "");
    assert_eq!(bench.git_in(&bench.src(), &["rev-parse", "HEAD"]), first);
    let next = bench.push(&[("a.js", "2")]);
    let done = bench.checkout(&next).await.expect("the next");
    assert_eq!((done.mirror_had_it, done.changed, packs(&mirror)), (false, 1, 2));
    let became = client::consolidate(Path::new(EXE), &mirror, PATIENCE).await.expect("few packs");
    assert_eq!((became, packs(&mirror)), (0, 2));
}

#[tokio::test]
async fn killed_at_any_moment_no_object_is_lost() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    bench.checkout(&sha).await.expect("the first");
    let (mirror, objects) = crowd(&bench, 60);
    let beside = mirror.join("objects/tmp_consolidated");
    let moments: [&dyn Fn() -> bool; 4] = [
        &|| beside.join("old/pack").exists(),
        &|| beside.join("new/pack").read_dir().is_ok_and(|mut entries| entries.next().is_some()),
        &|| packs(&mirror) > 61,
        &|| packs(&mirror) < 50,
    ];
    for moment in moments {
        let mut child = Command::new(EXE)
            .args(["internal", "consolidate"])
            .arg(&mirror)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("our binary");
        // It may be done before it is seen there: then there is nothing to kill.
        while !moment() && child.try_wait().expect("ours").is_none() {
            std::hint::spin_loop();
        }
        child.kill().expect("ours");
        child.wait().expect("ours");
        read_all(&Repository::open_bare(&mirror).expect("a mirror"), &objects);
    }
    // Whoever has the lock next clears what is left, and goes on.
    let next = bench.push(&[("a.js", "2")]);
    bench.checkout(&next).await.expect("the next");
    assert!(!beside.exists());
    client::consolidate(Path::new(EXE), &mirror, PATIENCE).await.expect("whatever is left to do");
    read_all(&Repository::open_bare(&mirror).expect("a mirror"), &objects);
    bench.git_in(&mirror, &["fsck", "--full", "--strict"]);
    let halves = std::fs::read_dir(mirror.join("objects/pack")).expect("packs").count();
    assert_eq!(halves, 2 * packs(&mirror), "each with its index, and nothing else");
}
