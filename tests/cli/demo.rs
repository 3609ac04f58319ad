//! `hookmill demo` as a person runs it. Uses node, npm, git and the npm registry of this machine.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any of these runs takes on a busy machine; it only bounds a test that hangs.
const LIMIT: Duration = Duration::from_secs(240);

/// A demo that has its temporary folder in `scratch`.
fn demo(scratch: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookmill"));
    command.arg("demo").args(arguments).env("TMPDIR", scratch);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// The rest of the one line that begins so.
fn only_line<'a>(text: &'a str, start: &str) -> &'a str {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(start));
    match (found.next(), found.next()) {
        (Some(rest), None) => rest,
        _ => panic!("not exactly one line begins with {start:?}:\n{text}"),
    }
}

fn names_in(folder: &Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(folder).expect("readable").flatten().map(|entry| entry.file_name()).collect()
}

/// Two demos share nothing: neither ports nor folders.
#[test]
fn a_sound_and_a_broken_push_at_once() {
    let scratch = tempfile::tempdir().expect("a folder");
    let sound = demo(scratch.path(), &["--once"]).spawn().expect("started");
    let broken = demo(scratch.path(), &["--once", "--break"]).spawn().expect("started");
    let (sound, broken) = (sound.wait_with_output().expect("ended"), broken.wait_with_output().expect("ended"));

    let told = stdout(&sound);
    assert_eq!(code(&sound), Some(0), "{told}\n{}", stderr(&sound));
    assert!(only_line(&told, "page: ").starts_with("http://127.0.0.1:"), "{told}");
    assert!(only_line(&told, "forge: ").starts_with("http://127.0.0.1:"), "{told}");
    assert!(only_line(&told, "status: ").starts_with("success Passed in "), "{told}");
    assert_eq!(only_line(&told, "build: "), "1 passed");
    assert!(only_line(&told, "beside npm: ").contains(" s, not "), "{told}");
    assert!(only_line(&told, "202 in ").contains(" ms"), "{told}");
    let place = |start: &str| told.lines().position(|line| line.trim_start().starts_with(start));
    let order = ["prerequisites", "push: ", "202 in ", "beside npm: ", "status: ", "page: ", "forge: ", "build: "];
    let places: Vec<_> = order.iter().map(|start| place(start).unwrap_or_else(|| panic!("{start}\n{told}"))).collect();
    assert!(places.is_sorted(), "{places:?}\n{told}");

    let told = stdout(&broken);
    assert_eq!(code(&broken), Some(1), "{told}\n{}", stderr(&broken));
    assert!(only_line(&told, "status: ").starts_with("failure "), "{told}");
    assert!(only_line(&told, "status: ").contains("./prices"), "the reason names what is missing: {told}");
    assert_eq!(only_line(&told, "build: "), "1 failed");

    assert!(names_in(scratch.path()).is_empty(), "left: {:?}", names_in(scratch.path()));
}

#[test]
fn without_node_it_says_so_and_how_to_mend_it_before_anything_else() {
    let scratch = tempfile::tempdir().expect("a folder");
    let tools = tempfile::tempdir().expect("a folder");
    let path = std::env::var_os("PATH").expect("set");
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("git"));
    let git = programs.find(|program| program.exists()).expect("git is on PATH");
    std::os::unix::fs::symlink(git, tools.path().join("git")).expect("linked");

    let output = demo(scratch.path(), &["--once"]).env("PATH", tools.path()).output().expect("ended");
    let said = stderr(&output);
    assert_eq!(code(&output), Some(3), "{said}");
    assert!(said.contains("node: not found on PATH") && said.contains("npm: not found on PATH"), "{said}");
    assert!(said.contains("install"), "the command that mends it: {said}");
    assert!(!said.contains("git:"), "what is there is not named: {said}");
    assert_eq!(stdout(&output), "");
    assert!(names_in(scratch.path()).is_empty());
}

#[test]
fn a_registry_that_does_not_answer_is_named_within_a_few_seconds() {
    let scratch = tempfile::tempdir().expect("a folder");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = format!("http://{}/", silent.local_addr().expect("bound"));
    let begun = Instant::now();
    let output = demo(scratch.path(), &["--once"]).env("npm_config_registry", &registry).output().expect("ended");
    let said = stderr(&output);
    assert_eq!(code(&output), Some(3), "{said}");
    assert!(said.contains(&format!("npm registry: {registry}: it did not answer within 5 s")), "{said}");
    assert!(said.contains("npm ping"), "{said}");
    assert_eq!(stdout(&output), "");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn wrong_usage_is_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let full = tempfile::tempdir().expect("a folder");
    std::fs::write(full.path().join("mine"), "").expect("written");
    let keep = full.path().to_str().expect("UTF-8");
    let output = demo(scratch.path(), &["--once", "--keep", keep]).output().expect("ended");
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("not empty"), "{}", stderr(&output));

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let output = demo(scratch.path(), &["--once", "--port", &port]).output().expect("ended");
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains(&port), "{}", stderr(&output));
}

/// Ctrl-C in the middle of the installs: the exit code of a signal, no process and no file left.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut child = demo(scratch.path(), &["--once"]).spawn().expect("started");
    let mut told = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.trim_start().starts_with("npm ") || !line.contains("starts") {
        line.clear();
        assert_ne!(told.read_line(&mut line).expect("readable"), 0, "it ended before npm started");
    }
    let family = descendants(child.id());
    assert!(!family.is_empty(), "the server at least");

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("readable");
    assert_eq!(wait(&mut child), Some(130), "{rest}");

    // What is killed with the demo ends a moment after it.
    let running =
        || family.iter().filter(|process| started(process.0).as_ref() == Some(&process.1)).collect::<Vec<_>>();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !running().is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", running());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(names_in(scratch.path()).is_empty(), "left: {:?}", names_in(scratch.path()));
}

#[cfg(target_os = "linux")]
fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().expect("waited") {
            return status.code();
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every process below one, with its start time: together they name a process for ever.
#[cfg(target_os = "linux")]
fn descendants(root: u32) -> BTreeSet<(u32, String)> {
    let mut family = BTreeSet::from([root]);
    let mut grown = true;
    while grown {
        grown = false;
        for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let parent = field(pid, 1).and_then(|parent| parent.parse().ok());
            if parent.is_some_and(|parent| family.contains(&parent)) {
                grown |= family.insert(pid);
            }
        }
    }
    family.remove(&root);
    family.into_iter().filter_map(|pid| Some((pid, started(pid)?))).collect()
}

#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<String> {
    field(pid, 19).filter(|_| field(pid, 0).as_deref() != Some("Z"))
}

/// A field of /proc/PID/stat by its place after the program's name: 0 state, 1 parent, 19 start time (proc(5)).
#[cfg(target_os = "linux")]
fn field(pid: u32, place: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(place).map(str::to_owned)
}
