//! Steps behind the fence, and without one: real namespaces, real bubblewrap, real kills.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookmill::confine::{Holder, HolderError, Layers, Mode, probe};
use hookmill::domain::spec::{Network, StepCommand};
use hookmill::domain::view::View;
use hookmill::process::{Event, Exit, Lines, Running};
use tokio::sync::oneshot;

/// Long enough for any machine; a story that is right never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hookmill"))
}

/// A build's directories, with one source file.
struct Build {
    dir: tempfile::TempDir,
    view: View,
    layers: Layers,
}

impl Build {
    fn new(layers: &Layers) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let made = |name: &str| {
            fs::create_dir(dir.path().join(name)).expect("made");
            dir.path().join(name)
        };
        let view = View {
            lowers: vec![made("sources")],
            upper: made("upper"),
            work: made("work"),
            joined: made("joined"),
            home: made("home"),
            tmp: made("tmp"),
            readable: Vec::new(),
        };
        for tree in [&view.lowers[0], &view.joined] {
            fs::create_dir(tree.join("client")).expect("made");
            fs::write(tree.join("README"), "the sources\n").expect("written");
            fs::write(tree.join("client/deep"), "deep\n").expect("written");
        }
        Self { dir, view, layers: layers.clone() }
    }

    async fn open(&self) -> Holder {
        within(Holder::open(exe(), &self.layers, &self.view)).await.expect("a holder")
    }

    fn command(&self, script: &str) -> StepCommand {
        let seen = self.layers.seen(&self.view);
        let text = |path: &Path| path.to_str().expect("plain").to_owned();
        StepCommand {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
                ("HOME".to_owned(), text(&seen.home)),
                ("TMPDIR".to_owned(), text(&seen.tmp)),
            ]),
            dir: ".".to_owned(),
            network: Network::Closed,
            processes: 512,
        }
    }

    /// A file of the tree as the host finds it after a step wrote it.
    fn written(&self, name: &str) -> PathBuf {
        match self.layers.needs_joined_copy() {
            true => self.view.joined.join(name),
            false => self.view.upper.join(name),
        }
    }

    async fn run(&self, script: &str) -> (String, Exit) {
        let holder = self.open().await;
        let ended = self.run_in(&holder, script).await;
        holder.close().await;
        ended
    }

    async fn run_in(&self, holder: &Holder, script: &str) -> (String, Exit) {
        let (text, exit, _) = all(holder.start(&self.command(script)).await.expect("started")).await;
        (text, exit)
    }

    /// What holds `$HOME/alive` open for writing is alive: the channel hears when nothing does any more.
    fn life_line(&self) -> oneshot::Receiver<()> {
        let fifo = self.view.home.join("alive");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        let (ended, end) = oneshot::channel();
        std::thread::spawn(move || {
            File::open(fifo).and_then(|mut fifo| fifo.read_to_end(&mut Vec::new())).expect("read");
            ended.send(()).ok();
        });
        end
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Everything until the end: output, exit, leak.
async fn all(mut running: Running) -> (String, Exit, bool) {
    let (mut text, mut how) = (Vec::new(), None);
    loop {
        match within(running.next()).await.expect("Ended comes before None") {
            Event::Output(bytes) => text.extend_from_slice(&bytes),
            Event::Exited(exit) => how = Some(exit),
            Event::Ended { leaked } => {
                assert_eq!(running.next().await, None);
                return (String::from_utf8_lossy(&text).into_owned(), how.expect("an exit before the end"), leaked);
            }
        }
    }
}

/// Until the output so far ends in `mark`.
async fn until(running: &mut Running, mark: &str) {
    let mut text = Vec::new();
    while !text.ends_with(mark.as_bytes()) {
        match within(running.next()).await {
            Some(Event::Output(bytes)) => text.extend_from_slice(&bytes),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&text)),
        }
    }
}

async fn gone(life: oneshot::Receiver<()>) {
    within(life).await.expect("nothing of the step is left");
}

/// What this host gives, or `None` (said loudly) where it has no namespaces.
async fn confined() -> Option<Layers> {
    let dir = tempfile::tempdir().expect("a directory");
    let layers = within(probe(exe(), dir.path())).await.expect("probed");
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0, "the trial leaves nothing");
    if layers.mode() == Mode::Bare {
        eprintln!("NOT TRIED, this host has no fence: {}", layers.name());
        return None;
    }
    Some(layers)
}

fn bare() -> Layers {
    Layers::none("a test asks for none")
}

/// The same story behind the fence and without.
macro_rules! both {
    ($($name:ident)*) => {
        mod behind_the_fence {
            $(#[tokio::test] async fn $name() {
                if let Some(layers) = super::confined().await { super::$name(&super::Build::new(&layers)).await }
            })*
        }
        mod without_a_fence {
            $(#[tokio::test] async fn $name() { super::$name(&super::Build::new(&super::bare())).await })*
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
        build.command(&format!("echo {mine} > {mine}; while [ ! -e {other} ]; do sleep 0.01; done; cat {other}"))
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
    let expected = build.layers.seen(&build.view).build.join("client");
    assert_eq!(text, format!("deep\n{}\n", expected.display()));
}

async fn who_ignores_term_is_killed_after_the_grace(build: &Build) {
    let holder = build.open().await;
    let life = build.life_line();
    let script = "exec 3> $HOME/alive; trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = holder.start(&build.command(script)).await.expect("started");
    until(&mut running, "ready\n").await;
    running.stop(Duration::from_millis(300));
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
        .args(["--exact", "an_agent_to_be_killed", "--ignored", "--nocapture"])
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
        Ok("1") => bare(),
        _ => confined().await.expect("asked for"),
    };
    let dir = tempfile::tempdir().expect("a directory");
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

#[tokio::test]
async fn the_fence_hides_the_host() {
    let Some(layers) = confined().await else { return };
    let build = Build::new(&layers);
    let script = "ls /root /home /var /run 2>&1; cat /etc/shadow 2>&1; \
        ls -d /proc/[0-9]* | wc -l; id -un; id -u; hostname; \
        echo x 2>&1 > /etc/x; echo x 2>&1 > /usr/x; echo x 2>&1 > /x; unshare -U true 2>&1; stat -c %U README .";
    let (text, _) = build.run(script).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(text.contains("ls: cannot access '/root'"), "{text}");
    assert!(text.contains("/home:\nbuild\n"), "{text}");
    assert!(text.contains("/run:\n\n"), "{text}");
    assert!(text.contains("cat: /etc/shadow: No such file"), "{text}");
    assert!(lines.contains(&"build") && lines.contains(&"1000") && lines.contains(&"hookmill"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert!(text.contains("unshare: unshare failed"), "{text}");
    assert!(text.ends_with("build\nbuild\n"), "files belong to the step's user: {text}");
    let processes: usize = lines.iter().find_map(|line| line.parse().ok()).expect("a count");
    assert!(processes <= 6, "only the step's own processes: {text}");
}

#[tokio::test]
async fn readable_paths_are_there_and_read_only() {
    let Some(layers) = confined().await else { return };
    let mut build = Build::new(&layers);
    let tools = build.dir.path().join("tools, with: odd 'name'");
    fs::create_dir(&tools).expect("made");
    fs::write(tools.join("tool"), "#!/bin/sh\necho works\n").expect("written");
    let file = build.dir.path().join("ca.pem");
    fs::write(&file, "certificate\n").expect("written");
    build.view.readable = vec![tools.clone(), file.clone(), "/usr/bin".into()];
    let script = format!("sh \"{0}/tool\"; cat {1}; echo x 2>&1 > \"{0}/tool\"", tools.display(), file.display());
    let (text, _) = build.run(&script).await;
    assert!(text.starts_with("works\ncertificate\n") && text.contains("Read-only file system"), "{text}");
}

#[tokio::test]
async fn a_closed_network_reaches_nothing_and_an_open_one_does() {
    let Some(layers) = confined().await else { return };
    if layers.netns.is_err() {
        eprintln!("NOT TRIED: {}", layers.name());
        return;
    }
    let build = Build::new(&layers);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let holder = build.open().await;
    let mut command = build.command("");
    command.argv =
        ["/bin/bash", "-c", &format!("exec 3<> /dev/tcp/127.0.0.1/{port} && echo reached")].map(str::to_owned).to_vec();
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    assert!(exit == Exit::Code(1) && text.contains("refused"), "{text}");
    command.network = Network::Open;
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    assert_eq!((text.as_str(), exit), ("reached\n", Exit::Code(0)));
    holder.close().await;
}

#[tokio::test]
async fn writes_stay_in_the_upper_layer() {
    let Some(layers) = confined().await else { return };
    if layers.needs_joined_copy() {
        eprintln!("NOT TRIED: {}", layers.name());
        return;
    }
    let mut build = Build::new(&layers);
    let above = build.dir.path().join("a layer, above: the sources");
    fs::create_dir(&above).expect("made");
    fs::write(above.join("above"), "above\n").expect("written");
    build.view.lowers.insert(0, above.clone());
    let script = "set -e; cat above; rm client/deep; rmdir client; mv README moved; echo more >> moved; echo new > new; \
        mkdir dir; mv dir dir2; echo a > above; ln -s x link; chmod 700 new; ls";
    let (text, exit) = build.run(script).await;
    assert_eq!((text.as_str(), exit), ("above\nabove\ndir2\nlink\nmoved\nnew\n", Exit::Code(0)));
    let lower = &build.view.lowers[1];
    assert_eq!(fs::read_to_string(lower.join("README")).expect("there"), "the sources\n");
    assert!(lower.join("client/deep").exists());
    assert_eq!(fs::read_to_string(above.join("above")).expect("there"), "above\n");
    assert_eq!(fs::read_to_string(build.written("moved")).expect("there"), "the sources\nmore\n");
    assert_eq!(
        fs::read_dir(&build.view.joined).expect("read").count(),
        2,
        "the host's directory is only a mount point"
    );
    // The next holder of the same view goes on where the last one ended.
    assert_eq!(
        build.run("cat moved above; ls client").await.0.lines().take(3).collect::<Vec<_>>(),
        ["the sources", "more", "a"]
    );
}

#[tokio::test]
async fn home_and_tmp_are_private_and_writable() {
    let Some(layers) = confined().await else { return };
    let build = Build::new(&layers);
    let (text, exit) = build.run("echo h > $HOME/h; echo t > $TMPDIR/t; cat /var/tmp/t; ls /home /tmp; pwd").await;
    assert_eq!((text.as_str(), exit), ("t\n/home:\nbuild\n\n/tmp:\nt\n/build\n", Exit::Code(0)));
    assert!(build.view.home.join("h").exists() && build.view.tmp.join("t").exists());
}

#[tokio::test]
async fn a_command_line_shows_no_environment() {
    let Some(layers) = confined().await else { return };
    let build = Build::new(&layers);
    let holder = build.open().await;
    let mut command = build.command("echo ready; sleep 600");
    command.env.insert("NPM_TOKEN".into(), "npm_do_not_show_me".into());
    let mut running = holder.start(&command).await.expect("started");
    until(&mut running, "ready\n").await;
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains("npm_do_not_show_me"));
    }
    running.kill();
    all(running).await;
    holder.close().await;
}

#[tokio::test]
async fn a_view_that_is_not_there_is_told() {
    let Some(layers) = confined().await else { return };
    let mut build = Build::new(&layers);
    build.view.lowers = vec!["/nowhere at all".into()];
    if layers.needs_joined_copy() {
        build.view.joined = "/nowhere at all".into();
    }
    let error = within(Holder::open(exe(), &layers, &build.view)).await.expect_err("no such layer");
    assert!(error.to_string().contains("/nowhere at all"), "{error}");
}

#[tokio::test]
async fn a_holder_that_is_no_holder_is_told() {
    let build = Build::new(&bare());
    let error = within(Holder::open(Path::new("/nowhere"), &bare(), &build.view)).await.expect_err("not there");
    assert!(matches!(error, HolderError::Spawn { .. }), "{error}");
    let error = within(Holder::open(Path::new("/bin/true"), &bare(), &build.view)).await.expect_err("no holder");
    assert!(matches!(error, HolderError::Lost), "{error}");
}

#[tokio::test]
async fn a_host_that_forbids_namespaces_is_probed_as_such() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec {} --exact the_layers_of_this_host --ignored --nocapture'",
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
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let told = Command::new("setpriv")
        .args(["--reuid", "54321", "--regid", "54321", "--clear-groups"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--skip", "as_an_ordinary_user", "--test-threads", "2"])
        .env_remove("TMPDIR")
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}{}", String::from_utf8_lossy(&told.stderr));
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
