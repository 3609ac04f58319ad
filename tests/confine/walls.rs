//! The second walls: what Landlock and seccomp refuse inside works outside. And a fence that is none starts nothing.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::Command;

use hookmill::confine::{Holder, Layers, Missing};
use hookmill::domain::spec::Network;
use hookmill::process::Exit;

use super::{Build, all, bare, confined, exe, within};

/// How this test calls itself inside.
const INSIDE: [&str; 5] =
    ["--exact", "confine::walls::what_is_refused_here", "--ignored", "--nocapture", "--test-threads=1"];
/// The name of an abstract socket of the host, for the program inside.
const SOCKET: &str = "HOOKMILL_TEST_SOCKET";

/// What a call came to: `0`, or the error's name.
fn word(result: i64) -> String {
    if result >= 0 {
        return "0".to_owned();
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
#[ignore = "run by another test, inside and outside"]
fn what_is_refused_here() {
    let buffer = [0_u8; 8];
    let mut copy = [0_u8; 8];
    let local = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: 8 };
    let pid = i64::from(std::process::id());
    // SAFETY: both vectors name eight bytes of this very process, and the third buffer is one byte that is there.
    unsafe {
        let read = libc::syscall(libc::SYS_process_vm_readv, pid, &raw const local, 1, &raw const remote, 1, 0);
        println!("process_vm_readv {}", word(read));
        println!("keyctl {}", word(libc::syscall(libc::SYS_keyctl, 0, -3_i64, 0)));
        println!("clone3 {}", word(libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0_usize)));
        println!("kcmp {}", word(libc::syscall(libc::SYS_kcmp, pid, pid, 0, 0, 0)));
        println!("typing {}", word(libc::ioctl(0, libc::TIOCSTI, buffer.as_ptr()).into()));
        println!("unshare {}", word(libc::unshare(libc::CLONE_NEWUSER).into()));
    }
    let tmp = std::env::var("TMPDIR").expect("given");
    let made = |kind: libc::mode_t, name: &str| {
        let path = std::ffi::CString::new(format!("{tmp}/{name}")).expect("plain");
        // SAFETY: the path ends in a NUL. Device 0:0 is no device, and anybody may make one.
        unsafe { libc::mknod(path.as_ptr(), kind | 0o600, 0) }
    };
    println!("fifo {}", word(made(libc::S_IFIFO, "fifo").into()));
    println!("device {}", word(made(libc::S_IFCHR, "device").into()));
    let socket = SocketAddr::from_abstract_name(std::env::var(SOCKET).expect("given")).expect("a name");
    println!("abstract socket {}", UnixStream::connect_addr(&socket).map_or(word(-1), |_| "0".to_owned()));
    fs::create_dir_all(format!("{tmp}/from")).and_then(|()| fs::write(format!("{tmp}/from/file"), "")).expect("made");
    let moved = fs::rename(format!("{tmp}/from/file"), format!("{tmp}/file"));
    println!("rename across folders {}", moved.map_or(word(-1), |()| "0".to_owned()));
}

/// Runs it as a step, with an open network.
async fn inside(layers: &Layers, socket: &str) -> String {
    let mut build = Build::new(layers);
    let this = std::env::current_exe().expect("this test");
    build.view.readable = vec![this.clone()];
    let mut command = build.command("");
    command.argv = std::iter::once(this.to_str().expect("plain")).chain(INSIDE).map(str::to_owned).collect();
    command.env.insert(SOCKET.to_owned(), socket.to_owned());
    command.network = Network::Open;
    let holder = build.open().await;
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    holder.close().await;
    assert_eq!(exit, Exit::Code(0), "{text}");
    text
}

#[tokio::test]
async fn what_is_refused_inside_works_outside() {
    let Some(layers) = confined().await else { return };
    let name = format!("hookmill-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("bound");

    let tmp = tempfile::tempdir().expect("a directory");
    let this = std::env::current_exe().expect("this test");
    let outside = Command::new(this).args(INSIDE).env("TMPDIR", tmp.path()).env(SOCKET, &name).output().expect("runs");
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    for works in ["process_vm_readv", "fifo", "device", "abstract socket", "rename across folders"] {
        assert!(outside.contains(&format!("{works} 0\n")), "{works} outside: {outside}");
    }
    // Refused there for other reasons: this process has threads, and the third is no terminal.
    for other in ["clone3 ENOSYS", "unshare EPERM", "typing EPERM"] {
        assert!(!outside.contains(other), "{outside}");
    }

    for layers in [layers, bare().await] {
        is_refused(&layers, &inside(&layers, &name).await);
    }
}

/// What a step of these layers was told.
fn is_refused(layers: &Layers, inside: &str) {
    if layers.seccomp.is_ok() {
        for refused in ["process_vm_readv", "keyctl", "kcmp", "typing", "unshare"] {
            assert!(inside.contains(&format!("{refused} EPERM\n")), "{refused} inside: {inside}");
        }
        assert!(inside.contains("clone3 ENOSYS\n"), "as on a kernel without it: {inside}");
    } else {
        eprintln!("NOT TRIED: {}", layers.name());
    }
    assert!(inside.contains("fifo 0\n") && inside.contains("rename across folders 0\n"), "{inside}");
    match layers.landlock {
        Ok(version) => {
            assert!(inside.contains("device EACCES\n"), "{inside}");
            assert_eq!(inside.contains("abstract socket EPERM\n"), version >= 6, "{inside}");
        }
        Err(_) => eprintln!("NOT TRIED: {}", layers.name()),
    }
}

#[tokio::test]
async fn a_layer_that_is_not_there_is_not_put_on() {
    let Some(layers) = confined().await else { return };
    let missing = || Missing("a test does without".to_owned());
    let name = format!("hookmill-test-plain-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("bound");
    let plain = Layers { landlock: Err(missing()), seccomp: Err(missing()), ..layers };
    let inside = inside(&plain, &name).await;
    for works in ["process_vm_readv", "device", "abstract socket"] {
        assert!(inside.contains(&format!("{works} 0\n")), "{works}: {inside}");
    }
}

/// What the repository's own environment loads must not come before the walls.
#[tokio::test]
async fn the_steps_environment_does_not_reach_the_launcher() {
    let Some(layers) = confined().await else { return };
    let build = Build::new(&layers);
    let mut command = build.command("echo in the step");
    command.env.insert("LD_PRELOAD".to_owned(), "/build/nothing.so".to_owned());
    let holder = build.open().await;
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    holder.close().await;
    assert_eq!(exit, Exit::Code(0), "{text}");
    // The loader complains once for each program that it starts with it: the shell alone.
    assert_eq!(text.matches("cannot be preloaded").count(), 1, "{text}");
}

/// A bubblewrap that goes, breaks or does nothing after the host was looked at.
#[test]
fn a_bubblewrap_that_is_none_starts_nothing() {
    let check = |script: Option<&str>, expected: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("readable");
        if let Some(script) = script {
            let path = dir.path().join("bwrap");
            fs::write(&path, script).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        let this = std::env::current_exe().expect("this test");
        let told = Command::new(this)
            .args(["--exact", "confine::walls::a_step_with_this_bubblewrap", "--ignored", "--nocapture"])
            .env("PATH", dir.path())
            .output()
            .expect("runs");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(!told.contains("the step ran"), "{told}");
    };
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if rt.block_on(confined()).is_none() {
        return;
    }
    check(None, "bwrap is not on the agent's PATH");
    check(Some("#!/bin/sh\nexit 0\n"), "NotStarted");
    check(Some("#!/bin/sh\necho bwrap: it is broken; exit 1\n"), "it is broken\nended NotStarted");
    check(
        Some("#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"\n"),
        "bubblewrap built no fence: the step would run in the holder's own user namespace\nended NotStarted",
    );
}

#[tokio::test]
#[ignore = "run by another test, with another PATH"]
async fn a_step_with_this_bubblewrap() {
    let found_before = Layers {
        userns: Ok(()),
        overlay: Ok(()),
        bubblewrap: Ok("0.8.0".to_owned()),
        netns: Ok(()),
        ..Layers::none("nothing is there")
    };
    let build = Build::new(&found_before);
    let holder = within(Holder::open(exe(), &found_before, &build.view)).await.expect("a holder");
    match holder.start(&build.command("echo the step ran")).await {
        Err(error) => println!("{error}"),
        Ok(running) => {
            let (text, exit, _) = all(running).await;
            println!("{text}ended {exit:?}");
        }
    }
    holder.close().await;
}
