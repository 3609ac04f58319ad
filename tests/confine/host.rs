//! What the host gives, and what it does not.

use std::path::Path;
use std::process::Command;

use hookmill::confine::{Holder, HolderError, probe};

use super::{Build, bare, confined, exe, within};

#[tokio::test]
async fn a_view_that_is_not_there_is_told() {
    let Some(layers) = confined().await else { return };
    let mut build = Build::new(&layers);
    match build.view.tree.lowers.first_mut() {
        Some(lower) => *lower = "/nowhere at all".into(),
        None => build.view.tree.upper = "/nowhere at all".into(),
    }
    let error = within(Holder::open(exe(), &layers, &build.view)).await.expect_err("no such layer");
    assert!(error.to_string().contains("/nowhere at all"), "{error}");
}

#[tokio::test]
async fn a_holder_that_is_no_holder_is_told() {
    let build = Build::new(&bare().await);
    let error = within(Holder::open(Path::new("/nowhere"), &build.layers, &build.view)).await.expect_err("not there");
    assert!(matches!(error, HolderError::Spawn { .. }), "{error}");
    let error = within(Holder::open(Path::new("/bin/true"), &build.layers, &build.view)).await.expect_err("no holder");
    assert!(matches!(error, HolderError::Lost), "{error}");
}

#[tokio::test]
async fn a_host_that_forbids_namespaces_is_probed_as_such() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec {} --exact confine::host::the_layers_of_this_host --ignored --nocapture'",
        std::env::current_exe().expect("this test").display()
    );
    if confined().await.is_none() {
        return;
    }
    let told = Command::new("sh").args(["-c", &script]).env("TMPDIR", dir.path()).output().expect("runs");
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("layers: NONE: no user namespaces: could not make user, mount and PID namespaces"), "{told}");
}

#[tokio::test]
#[ignore = "run by another test, elsewhere"]
async fn the_layers_of_this_host() {
    let dir = tempfile::tempdir().expect("a directory");
    println!("layers: {}", probe(exe(), dir.path()).await.expect("probed").name());
}

/// root's namespaces differ in detail from an ordinary user's, so the whole file runs as one too.
#[test]
fn all_of_this_as_an_ordinary_user() {
    crate::support::ordinary::again(&["confine::"]);
}
