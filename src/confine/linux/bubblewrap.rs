//! A step as arguments for bubblewrap, to be run inside a holder that has already built the root.

use super::wire::Netns;
use crate::domain::spec::StepCommand;
use crate::domain::view::BUILD_DIR;
use std::ffi::OsString;

/// The user that steps are inside. Outside it is the agent's own user.
pub const BUILD_UID: u32 = 1000;
/// The host name that steps see.
pub const HOST_NAME: &str = "hookmill";

/// What bubblewrap reads from the descriptor of `--args`, each followed by a NUL. Of the command it says only where it
/// runs: command and environment go to the launcher ([`Job`](super::launch::Job)).
///
/// Of `/proc`, `covered` can't be written, each folder or file by its path.
pub fn options(command: &StepCommand, netns: Netns, covered: &[&str]) -> Vec<u8> {
    let mut options = Options(Vec::with_capacity(4096));
    options.add(["--unshare-all"]);
    // A network with a door is made before bubblewrap starts.
    if netns != Netns::Own {
        options.add(["--share-net"]);
    }
    let uid = BUILD_UID.to_string();
    options.add(["--unshare-user", "--uid", &uid, "--gid", &uid, "--disable-userns"]);
    options.add(["--hostname", HOST_NAME, "--die-with-parent", "--new-session"]);
    // Devices too: the holder made a /dev, and forbade them on every other mount.
    options.add(["--dev-bind", "/", "/", "--proc", "/proc", "--clearenv"]);
    for path in covered {
        options.add(["--ro-bind", path, path]);
    }
    options.add(["--chdir", &inside(&command.dir)]);
    options.0
}

/// The descriptors that bubblewrap and the launcher are given.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors {
    /// The [`options`].
    pub options: i32,
    /// Where bubblewrap writes its [`Status`].
    pub status: i32,
    /// This binary: the step's root need not have it.
    pub launcher: i32,
    /// The launcher's [`Job`](super::launch::Job).
    pub job: i32,
    /// Where the launcher writes why it starts nothing.
    pub refusal: i32,
}

/// The argument list of bubblewrap itself.
pub fn arguments(fds: Descriptors) -> Vec<OsString> {
    let Descriptors { options, status, launcher, job, refusal } = fds;
    let launcher = format!("/proc/self/fd/{launcher}");
    let [options, status, job, refusal] = [options, status, job, refusal].map(|fd| fd.to_string());
    let words =
        ["--args", &options, "--json-status-fd", &status, "--", &launcher, "internal", "launch", &job, &refusal];
    words.map(OsString::from).into()
}

fn inside(dir: &str) -> String {
    match dir {
        "" | "." => BUILD_DIR.to_owned(),
        dir => format!("{BUILD_DIR}/{dir}"),
    }
}

struct Options(Vec<u8>);

impl Options {
    fn add<const N: usize>(&mut self, options: [&str; N]) {
        for option in options {
            // A NUL can't be in an argument or in an environment; what follows one is dropped, as exec(2) would.
            let end = option.find('\0').unwrap_or(option.len());
            self.0.extend_from_slice(&option.as_bytes()[..end]);
            self.0.push(0);
        }
    }
}

/// The documents that bubblewrap writes to its status descriptor, one a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The process id of the first process inside, in the holder's own count. It ends the PID namespace with itself.
    pub child: Option<i32>,
    /// How the command ended. Missing for ever if it was never run.
    pub exit_code: Option<i32>,
}

impl Status {
    /// Reads what was written so far; an unfinished line is left out.
    pub fn read(text: &[u8]) -> Status {
        let mut status = Status::default();
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let Ok(document) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
            let number = |key: &str| document.get(key).and_then(serde_json::Value::as_i64);
            let number = |key: &str| number(key).and_then(|number| i32::try_from(number).ok());
            status.child = number("child-pid").or(status.child);
            status.exit_code = number("exit-code").or(status.exit_code);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Netns;
    use std::collections::BTreeMap;

    use super::{Descriptors, Status, arguments, options};
    use crate::domain::spec::{Network, StepCommand};

    fn command(dir: &str) -> StepCommand {
        StepCommand {
            argv: vec!["npm".into(), "ci".into()],
            env: BTreeMap::from([("TOKEN".to_owned(), "secret value".to_owned())]),
            dir: dir.into(),
            network: Network::Closed,
            processes: 512,
            memory: 4 << 30,
            cpus: None,
        }
    }

    #[test]
    fn the_argument_list_names_no_environment() {
        let arguments = arguments(Descriptors { options: 5, status: 6, launcher: 7, job: 8, refusal: 9 });
        let words = "--args 5 --json-status-fd 6 -- /proc/self/fd/7 internal launch 8 9";
        assert_eq!(arguments, words.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn options_close_what_they_should() {
        let words = |netns, dir| -> Vec<String> {
            let options = options(&command(dir), netns, &["/proc/sys"]);
            let text = String::from_utf8(options).expect("text");
            text.strip_suffix('\0').expect("ended").split('\0').map(str::to_owned).collect()
        };
        let closed = words(Netns::Own, ".");
        assert!(!closed.contains(&"--share-net".to_owned()));
        assert!(closed.ends_with(&["--chdir", "/build"].map(str::to_owned)));
        assert!(!closed.iter().any(|word| word.contains("TOKEN")), "{closed:?}");
        assert!(closed.windows(3).any(|window| window == ["--dev-bind", "/", "/"]));
        assert!(closed.windows(3).any(|window| window == ["--ro-bind", "/proc/sys", "/proc/sys"]));
        let open = words(Netns::Host, "client");
        assert!(open.contains(&"--share-net".to_owned()));
        assert!(open.ends_with(&["--chdir", "/build/client"].map(str::to_owned)));
    }

    #[test]
    fn the_status_is_read_as_far_as_it_was_written() {
        let check =
            |text: &str, child, exit_code| assert_eq!(Status::read(text.as_bytes()), Status { child, exit_code });
        check("", None, None);
        check("{ \"child-pid\": 12 }\n", Some(12), None);
        check("{ \"child-pid\": 12 }\n{ \"exit-code\": 1", Some(12), None);
        check("{ \"child-pid\": 12, \"mnt-namespace\": 4026532000 }\n{ \"exit-code\": 0 }\n", Some(12), Some(0));
    }
}
