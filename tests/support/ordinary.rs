//! Tests once more as an ordinary user: root may do what others may not, and others may not do what root may. Both have
//! to be safe.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

/// A user that no machine has. It can write nowhere but in `/tmp` and in a HOME of its own.
const NOBODY: u32 = 54_321;

/// Runs those tests whose names begin with one of these as an ordinary user, unless it is run by one, or one can't use it
/// here, which is said. The test that asks for it has to be called `…as_an_ordinary_user`. What tests make once for all of
/// them root has to make before: such a user can't.
#[track_caller]
pub(crate) fn again<Name: AsRef<str>>(begin: &[Name]) {
    as_nobody(begin, 2);
}

/// The same one by one: for tests that look at what is left of all that their process started.
#[track_caller]
pub(crate) fn again_one_by_one<Name: AsRef<str>>(begin: &[Name]) {
    as_nobody(begin, 1);
}

#[track_caller]
fn as_nobody<Name: AsRef<str>>(begin: &[Name], at_once: usize) {
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
    let tests = those_of(&this, begin);
    let told = ordinary()
        .arg(&this)
        .args(["--exact", "--test-threads", &at_once.to_string()])
        .args(&tests)
        .env_remove("TMPDIR")
        .env("HOME", home.path())
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}{}", String::from_utf8_lossy(&told.stderr));
}

/// The names of a test program's tests that begin so: a filter of its own would find these words anywhere in a name.
#[track_caller]
fn those_of<Name: AsRef<str>>(program: &Path, begin: &[Name]) -> Vec<String> {
    let listed = Command::new(program).args(["--list", "--format", "terse"]).output().expect("this test").stdout;
    let listed = String::from_utf8(listed).expect("names");
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<String> = names.filter(|name| !name.ends_with("_as_an_ordinary_user")).map(str::to_owned).collect();
    let wanted = |start: &Name| {
        let found: Vec<String> = names.iter().filter(|name| name.starts_with(start.as_ref())).cloned().collect();
        assert!(!found.is_empty(), "no test begins with {}", start.as_ref());
        found
    };
    begin.iter().flat_map(wanted).collect()
}
