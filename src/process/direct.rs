//! Programs that are children of this process, in a process group of their own.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};

use super::exit::Exit;
use super::pipe::output_pipe;
use super::running::{Domain, Running};

/// A command with everything that its process gets. Standard input is empty.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// Program and arguments; a bare program name is looked up on `env`'s `PATH`.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub dir: PathBuf,
}

/// Starts a program in its own process group. What leaves the group (`setsid`) is not ended with it:
/// a step goes through a holder instead.
///
/// # Errors
/// `InvalidInput` for an empty command; else what exec(2) says: not found, not executable, no such directory.
pub fn spawn(command: &Spawn) -> io::Result<Running> {
    let (program, args) = command
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let (read, write) = output_pipe()?;
    let mut child = {
        let mut child = tokio::process::Command::new(program);
        child
            .args(args)
            .env_clear()
            .envs(&command.env)
            .current_dir(&command.dir)
            .stdin(Stdio::null())
            .stdout(write.try_clone()?)
            .stderr(write)
            .process_group(0)
            .kill_on_drop(true);
        // The command holds our copies of the pipe's end; they must be gone before the end can be seen.
        child.spawn()?
    };
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        .ok_or_else(|| io::Error::other("the child ended before it had a process id"))?;
    let exit = async move { child.wait().await.map_or(Exit::NotStarted, Exit::from) };
    Running::new(read, Box::pin(exit), Box::new(Group(group)))
}

/// A process group, by its leader.
struct Group(Pid);

impl Domain for Group {
    fn terminate(&self) {
        // ESRCH: it ended by itself, which is what was wanted.
        let _ = kill_process_group(self.0, Signal::TERM);
    }

    fn kill(&self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// For a process that holds secrets: no core dumps, its memory, environment and open files are closed to others of the
/// same user (`PR_SET_DUMPABLE`), and no descriptor that it was started with goes on to what it starts. An unconfined
/// build runs under that very user.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn harden() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
        keep_descriptors();
    }
    Ok(())
}

/// Those of a careless parent; our own are closed at exec(2) anyway. Before Linux 5.11 they stay: a holder closes what it
/// inherits.
#[cfg(target_os = "linux")]
fn keep_descriptors() {
    // SAFETY: the call changes a flag of descriptors and closes none.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::Event;
    use super::*;

    fn sh(script: &str) -> Running {
        let command = Spawn {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            dir: "/".into(),
        };
        spawn(&command).expect("sh starts")
    }

    /// Everything until the end: what was printed, how it exited, whether it leaked.
    async fn all(mut running: Running) -> (String, Exit, bool) {
        let (mut text, mut how) = (Vec::new(), None);
        loop {
            match running.next().await.expect("Ended comes before None") {
                Event::Output(bytes) => text.extend_from_slice(&bytes),
                Event::Exited(exit) => how = Some(exit),
                Event::Ended { leaked } => {
                    assert_eq!(running.next().await, None);
                    return (String::from_utf8_lossy(&text).into_owned(), how.expect("an exit before the end"), leaked);
                }
            }
        }
    }

    #[tokio::test]
    async fn output_keeps_its_order_and_the_status_its_value() {
        let (text, exit, leaked) = all(sh("echo one; echo two >&2; echo three; exit 7")).await;
        assert_eq!((text.as_str(), exit, leaked), ("one\ntwo\nthree\n", Exit::Code(7), false));
    }

    #[tokio::test]
    async fn the_environment_is_made_and_standard_input_is_empty() {
        let (text, exit, _) = all(sh("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL=; cat")).await;
        assert_eq!((text.as_str(), exit), ("PATH=/usr/bin:/bin\n", Exit::Code(0)));
    }

    #[tokio::test]
    async fn a_stop_is_asked_first() {
        let mut running = sh("trap 'echo bye; exit 3' TERM; echo ready; sleep 600 & wait");
        assert_eq!(running.next().await, Some(Event::Output("ready\n".into())));
        running.stop(GRACE_FOR_TESTS);
        let (text, exit, _) = all(running).await;
        assert_eq!((text.as_str(), exit), ("bye\n", Exit::Code(3)));
    }

    const GRACE_FOR_TESTS: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn who_ignores_the_question_is_killed_after_the_grace() {
        let mut running = sh("trap '' TERM; echo ready; while :; do sleep 1; done");
        assert_eq!(running.next().await, Some(Event::Output("ready\n".into())));
        running.stop(Duration::from_millis(50));
        let (_, exit, _) = all(running).await;
        assert_eq!(exit, Exit::Signal(9));
    }

    #[tokio::test]
    async fn a_second_stop_does_not_wait() {
        let mut running = sh("trap '' TERM; echo ready; while :; do sleep 1; done");
        assert_eq!(running.next().await, Some(Event::Output("ready\n".into())));
        running.stop(GRACE_FOR_TESTS);
        running.stop(GRACE_FOR_TESTS);
        let began = Instant::now();
        assert_eq!(all(running).await.1, Exit::Signal(9));
        assert!(began.elapsed() < GRACE_FOR_TESTS / 2);
    }

    #[tokio::test]
    async fn a_leaked_pipe_bounds_the_end_and_not_the_status() {
        let (text, exit, leaked) = all(sh("sleep 600 & echo done")).await;
        assert_eq!((text.as_str(), exit, leaked), ("done\n", Exit::Code(0), true));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let command = Spawn { argv: vec!["no-such-program".into()], env: BTreeMap::new(), dir: "/".into() };
        assert_eq!(spawn(&command).expect_err("not found").kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_dropped_program_ends() {
        let mut running = sh("echo $$; exec sleep 600");
        let Some(Event::Output(pid)) = running.next().await else { panic!("no pid") };
        drop(running);
        let pid: i32 = String::from_utf8_lossy(&pid).trim().parse().expect("a pid");
        let pid = Pid::from_raw(pid).expect("not zero");
        while rustix::process::test_kill_process(pid).is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
