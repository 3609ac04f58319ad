//! Stories that hold behind the fence and without one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookmill::confine::{HolderError, Mode};
use hookmill::domain::view::View;
use hookmill::process::{Event, Exit, Lines};

use super::{Build, PATIENCE, all, bare, confined, gone, until, within};

/// The same story behind the fence and without.
macro_rules! both {
    ($($name:ident)*) => {
        mod behind_the_fence {
            $(#[tokio::test] async fn $name() {
                if let Some(layers) = crate::confine::confined().await { super::$name(&crate::confine::Build::new(&layers)).await }
            })*
        }
        mod without_a_fence {
            $(#[tokio::test] async fn $name() { super::$name(&crate::confine::Build::new(&crate::confine::bare().await)).await })*
        }
    };
}

both! {
    a_step_prints_and_exits
    a_signal_is_told_by_its_name
    steps_run_side_by_side_in_one_view
    the_environment_is_exactly_what_was_given
    a_step_runs_in_its_directory
    who_ignores_term_is_killed_after_the_grace
    term_reaches_children_too
    a_daemon_is_gone_after_its_step
    a_daemon_does_not_outlive_a_closed_holder
    a_leaked_pipe_ends_soon
    a_killed_holder_ends_all
    a_killed_agent_ends_all
    a_dropped_step_ends
    a_program_that_is_not_there
    any_output_is_harmless
    core_dumps_privileges_and_descriptors
    a_missing_directory
}

async fn a_step_prints_and_exits(build: &Build) {
    let holder = build.open().await;
    let (text, exit) = build.run_in(&holder, "cat README; echo oops >&2; echo end; exit 3").await;
    assert_eq!((text.as_str(), exit), ("the sources\noops\nend\n", Exit::Code(3)));
    assert_eq!(build.run_in(&holder, "true").await, (String::new(), Exit::Code(0)));
    assert!(!holder.is_lost());
    holder.close().await;
}

async fn a_signal_is_told_by_its_name(build: &Build) {
    let (_, exit) = build.run("kill -SEGV $$").await;
    assert_eq!(exit.signal_name().as_deref(), Some("SEGV"));
}

async fn steps_run_side_by_side_in_one_view(build: &Build) {
    let holder = build.open().await;
    // Each waits for the other's file, so neither can end alone.
    let script = |mine: &str, other: &str| {
        build.command(&format!("echo {mine} > {mine}; while [ ! -s {other} ]; do sleep 0.01; done; cat {other}"))
    };
    let one = holder.start(&script("one", "two")).await.expect("started");
    let two = holder.start(&script("two", "one")).await.expect("started");
    let (one, two) = tokio::join!(all(one), all(two));
    assert_eq!((one.0.trim(), two.0.trim()), ("two", "one"));
    holder.close().await;
    assert_eq!(fs::read_to_string(build.written("one")).expect("written"), "one\n");
}

async fn the_environment_is_exactly_what_was_given(build: &Build) {
    let mut command = build.command("");
    command.argv = vec!["env".into(), "-0".into()];
    command.env.insert("ODD".into(), "a \"b\"\nc='d' é $HOME".into());
    let holder = build.open().await;
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    holder.close().await;
    assert_eq!(exit, Exit::Code(0), "{text}");
    let seen: BTreeMap<String, String> = text
        .split_terminator('\0')
        .map(|pair| pair.split_once('=').expect("a pair"))
        // bubblewrap says where it starts the command, as a shell would.
        .filter(|(name, _)| *name != "PWD")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(seen, command.env);
}

async fn a_step_runs_in_its_directory(build: &Build) {
    let mut command = build.command("cat deep; pwd -P");
    command.dir = "client".into();
    let holder = build.open().await;
    let (text, _, _) = all(holder.start(&command).await.expect("started")).await;
    holder.close().await;
    let expected = build.layers.seen(build.host()).build.join("client");
    assert_eq!(text, format!("deep\n{}\n", expected.display()));
}

async fn who_ignores_term_is_killed_after_the_grace(build: &Build) {
    let holder = build.open().await;
    let life = build.life_line();
    let script = "exec 3> $HOME/alive; trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = holder.start(&build.command(script)).await.expect("started");
    until(&mut running, "ready\n").await;
    // Time enough to be asked and to answer.
    running.stop(Duration::from_secs(5));
    let (text, exit, _) = all(running).await;
    assert_eq!((text.contains("no\n"), exit), (true, Exit::Signal(9)), "it was asked first: {text}");
    gone(life).await;
    holder.close().await;
}

async fn term_reaches_children_too(build: &Build) {
    let holder = build.open().await;
    let script = "trap 'wait $child; echo parent; exit 4' TERM; \
        sh -c 'trap \"echo child; exit 5\" TERM; echo ready; sleep 600 & wait' & child=$!; wait";
    let mut running = holder.start(&build.command(script)).await.expect("started");
    until(&mut running, "ready\n").await;
    running.stop(PATIENCE);
    let (text, exit, _) = all(running).await;
    assert_eq!((text.as_str(), exit), ("child\nparent\n", Exit::Code(4)));
    holder.close().await;
}

/// Forks twice into a session of its own, lets go of the step's output, keeps the life line.
const DAEMON: &str = "exec 3> $HOME/alive; \
    setsid sh -c 'setsid sh -c \"trap : TERM HUP; echo up > $HOME/up; while :; do sleep 0.05; done\" & exit' \
    < /dev/null > /dev/null 2>&1 & while [ ! -e $HOME/up ]; do sleep 0.01; done; ";

async fn a_daemon_is_gone_after_its_step(build: &Build) {
    let holder = build.open().await;
    let life = build.life_line();
    let (_, exit) = build.run_in(&holder, &format!("{DAEMON} exit 0")).await;
    assert_eq!(exit, Exit::Code(0));
    gone(life).await;
    assert!(!holder.is_lost());
    holder.close().await;
}

async fn a_daemon_does_not_outlive_a_closed_holder(build: &Build) {
    let holder = build.open().await;
    let life = build.life_line();
    let mut running = holder.start(&build.command(&format!("{DAEMON} echo ready; sleep 600"))).await.expect("started");
    until(&mut running, "ready\n").await;
    within(holder.close()).await;
    gone(life).await;
    assert_eq!(all(running).await.1, Exit::Signal(9));
}

async fn a_leaked_pipe_ends_soon(build: &Build) {
    let holder = build.open().await;
    let began = Instant::now();
    let (text, exit) = build.run_in(&holder, "setsid sleep 600 & echo done").await;
    assert_eq!((text.as_str(), exit), ("done\n", Exit::Code(0)));
    assert!(began.elapsed() < PATIENCE, "a step's end is that of everything it started");
    holder.close().await;
}

async fn a_killed_holder_ends_all(build: &Build) {
    let holder = build.open().await;
    let life = build.life_line();
    let mut running = holder.start(&build.command(&format!("{DAEMON} echo ready; sleep 600"))).await.expect("started");
    until(&mut running, "ready\n").await;
    kill_9(holder.pid().expect("a process"));
    gone(life).await;
    assert_eq!(all(running).await.1, Exit::Signal(9));
    let error = holder.start(&build.command("true")).await.expect_err("nobody is there");
    assert!(matches!(error, HolderError::Lost), "{error}");
    within(holder.close()).await;
}

async fn a_killed_agent_ends_all(build: &Build) {
    let life = build.life_line();
    let mut agent = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "confine::stories::an_agent_to_be_killed", "--ignored", "--nocapture"])
        .env("VIEW", serde_json::to_string(&build.view).expect("json"))
        .env("BARE", if build.layers.mode() == Mode::Bare { "1" } else { "" })
        .stdout(Stdio::null())
        .spawn()
        .expect("the agent starts");
    wait_for_file(&build.view.home.join("up")).await;
    agent.kill().expect("killed");
    agent.wait().expect("reaped");
    gone(life).await;
}

#[tokio::test]
#[ignore = "the process that another test kills"]
async fn an_agent_to_be_killed() {
    let view: View = serde_json::from_str(&std::env::var("VIEW").expect("a view")).expect("json");
    let layers = match std::env::var("BARE").as_deref() {
        Ok("1") => bare().await,
        _ => confined().await.expect("asked for"),
    };
    let dir = tempfile::tempdir_in(&view.tmp).expect("a directory that goes with its parent");
    let build = Build { dir, view, layers };
    let holder = build.open().await;
    all(holder.start(&build.command(&format!("{DAEMON} sleep 600"))).await.expect("started")).await;
}

async fn a_dropped_step_ends(build: &Build) {
    let holder = build.open().await;
    let life = build.life_line();
    let mut running = holder.start(&build.command(&format!("{DAEMON} echo ready; sleep 600"))).await.expect("started");
    until(&mut running, "ready\n").await;
    drop(running);
    gone(life).await;
    assert_eq!(build.run_in(&holder, "echo on").await, ("on\n".to_owned(), Exit::Code(0)));
    holder.close().await;
}

async fn a_program_that_is_not_there(build: &Build) {
    let mut command = build.command("");
    command.argv = vec!["no-such-program".into()];
    let holder = build.open().await;
    match holder.start(&command).await {
        Err(HolderError::Start { program, .. }) => assert_eq!(program, "no-such-program"),
        Err(error) => panic!("{error}"),
        Ok(running) => {
            let (text, exit, _) = all(running).await;
            assert!(text.contains("no-such-program"), "{text}");
            assert_ne!(exit, Exit::Code(0));
        }
    }
    assert_eq!(build.run_in(&holder, "true").await.1, Exit::Code(0));
    holder.close().await;
}

async fn a_missing_directory(build: &Build) {
    let mut command = build.command("true");
    command.dir = "nowhere".into();
    let holder = build.open().await;
    match holder.start(&command).await {
        Err(error) => assert!(matches!(error, HolderError::Start { .. }), "{error}"),
        Ok(running) => {
            let (text, exit, _) = all(running).await;
            assert!(text.contains("/build/nowhere"), "{text}");
            assert_eq!(exit, Exit::NotStarted);
        }
    }
    holder.close().await;
}

async fn any_output_is_harmless(build: &Build) {
    let holder = build.open().await;
    let script = r"printf 'a\000b \377\n'; head -c 33554432 /dev/zero | tr '\0' x; printf '\nend\n'";
    let mut running = holder.start(&build.command(script)).await.expect("started");
    let (mut lines, mut seen) = (Lines::new(), Vec::new());
    while let Some(event) = within(running.next()).await {
        match event {
            Event::Output(bytes) => lines.push(&bytes, |line| seen.push(line)),
            Event::Exited(exit) => assert_eq!(exit, Exit::Code(0)),
            Event::Ended { leaked } => assert!(!leaked),
        }
    }
    lines.finish(|line| seen.push(line));
    assert_eq!((seen.len(), seen[0].as_str(), seen[2].as_str()), (3, "a\0b \u{fffd}", "end"));
    assert!(seen[1].starts_with("xxx") && seen[1].ends_with("more bytes in this line)"));
    holder.close().await;
}

async fn core_dumps_privileges_and_descriptors(build: &Build) {
    let script = "ulimit -c; umask; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj";
    assert_eq!(build.run(script).await.0, "0\n0022\nNoNewPrivs:\t1\n500\n");
    let mut command = build.command("");
    command.argv = vec!["ls".into(), "/proc/self/fd".into()];
    let holder = build.open().await;
    let (text, _, _) = all(holder.start(&command).await.expect("started")).await;
    holder.close().await;
    assert_eq!(text, "0\n1\n2\n3\n", "the last one is that of ls itself");
}

fn kill_9(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small")).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

async fn wait_for_file(path: &Path) {
    within(async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
