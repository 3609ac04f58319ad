//! Tests once more as an ordinary user: root may do what others may not, and others may not do what root may. Both have
//! to be safe.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

/// A user that no machine has. It can write nowhere but in `/tmp` and in a HOME of its own.
const NOBODY: u32 = 54_321;

/// Runs those tests of this program whose names hold one of these (of none: all) as an ordinary user, unless it is run by
/// one, or one can't use it here, which is said. The test that asks for it has to be called `…as_an_ordinary_user`. What
/// tests make once for all of them root has to make before: such a user can't.
#[track_caller]
pub(crate) fn again(names: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let ordinary = || {
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        command
    };
    let this = std::env::current_exe().expect("this test");
    let (exe, here) = (Path::new(env!("CARGO_BIN_EXE_hookmill")), Path::new(env!("CARGO_MANIFEST_DIR")));
    for (what, kind) in [(this.as_path(), "-x"), (exe, "-x"), (here, "-r")] {
        if !ordinary().args(["test", kind]).arg(what).status().expect("setpriv runs").success() {
            eprintln!("NOT TRIED: an ordinary user can't use {}", what.display());
            return;
        }
    }
    let home = tempfile::tempdir().expect("a folder");
    chown(home.path(), Some(NOBODY), Some(NOBODY)).expect("we are root");
    let told = ordinary()
        .arg(&this)
        .args(names)
        .args(["--skip", "as_an_ordinary_user", "--test-threads", "2"])
        .env_remove("TMPDIR")
        .env("HOME", home.path())
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}{}", String::from_utf8_lossy(&told.stderr));
    assert!(!text.contains("running 0 tests"), "no test is called {names:?}");
}
