//! What the fence costs and how fast output is read: both sides printed, interleaved pairs.
//! `cargo test --release --test all -- confine::figures --ignored --nocapture --test-threads 1`

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookmill::confine::{Holder, Layers, probe};
use hookmill::domain::spec::{Network, StepCommand};
use hookmill::domain::view::{Stack, View};
use hookmill::process::{Event, Spawn, spawn};

use super::exe;

fn view(dir: &Path) -> View {
    let made = |name: &str| {
        fs::create_dir_all(dir.join(name)).expect("made");
        dir.join(name)
    };
    let tree =
        Stack { lowers: vec![made("sources")], upper: made("upper"), work: made("work"), joined: made("joined") };
    View { tree, home: made("home"), in_home: Vec::new(), tmp: made("tmp"), readable: Vec::new(), root: None }
}

fn step(argv: &[&str], network: Network) -> StepCommand {
    StepCommand {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        dir: ".".into(),
        network,
        processes: 512,
        memory: 4 << 30,
        cpus: None,
    }
}

/// Until the exit is known, and on to the end.
async fn run(holder: &Holder, command: &StepCommand) {
    let mut running = holder.start(command).await.expect("started");
    while running.next().await.is_some() {}
}

fn bubblewrap(network: Network) {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr"]);
    command.args(["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]);
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    if network == Network::Open {
        command.arg("--share-net");
    }
    assert!(command.arg("true").stdin(Stdio::null()).status().expect("runs").success());
}

fn show(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    let (median, p95) = (ms(times.len() / 2), ms(times.len() * 95 / 100));
    println!("{what:<44} median {median:>8.2} ms   {:.2} … {p95:.2} (p95)", ms(0));
    median
}

#[tokio::test]
#[ignore = "a benchmark"]
async fn a_fenced_step_against_bare_bubblewrap() {
    let dir = tempfile::tempdir().expect("a directory");
    let view = view(dir.path());
    let layers = probe(exe(), dir.path()).await.expect("probed");
    println!("layers: {}", layers.name());
    for network in [Network::Open, Network::Closed] {
        println!("network {network:?}");
        let [mut bare, mut early, mut mount, mut first, mut second, mut close] = [const { Vec::new() }; 6];
        for _ in 0..60 {
            let lap = |times: &mut Vec<Duration>, began: Instant| times.push(began.elapsed());
            let began = Instant::now();
            bubblewrap(network.clone());
            lap(&mut bare, began);
            let began = Instant::now();
            let holder = Holder::start_early(exe(), &layers).await.expect("a holder");
            lap(&mut early, began);
            let began = Instant::now();
            holder.mount(&view).await.expect("mounted");
            lap(&mut mount, began);
            for times in [&mut first, &mut second] {
                let began = Instant::now();
                run(&holder, &step(&["true"], network.clone())).await;
                lap(times, began);
            }
            let began = Instant::now();
            holder.close().await;
            lap(&mut close, began);
        }
        let floor = show("bare bwrap true", bare);
        let parts = show("holder process and namespaces", early) + show("mounting the view", mount);
        let one = show("first step: true, to its end", first);
        show("second step: true, to its end", second);
        show("close", close);
        println!("step / bare {:.2}, all / bare {:.2}\n", one / floor, (parts + one) / floor);
    }
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        probe(exe(), dir.path()).await.expect("probed");
        times.push(began.elapsed());
    }
    show("probe", times);
}

/// A step that prints 1 GB, against `cat > /dev/null` behind the same program.
#[tokio::test]
#[ignore = "a benchmark"]
async fn a_gigabyte_of_output_against_cat() {
    const PRINT: &str = "head -c 1000000000 /dev/zero";
    let dir = tempfile::tempdir().expect("a directory");
    let view = view(dir.path());
    let layers = probe(exe(), dir.path()).await.expect("probed");
    let holder = Holder::open(exe(), &layers, &view).await.expect("a holder");
    let none = Layers::none("a benchmark");
    let bare = Holder::open(exe(), &none, &view).await.expect("a holder");
    let [mut cat, mut direct, mut fenced, mut unfenced] = [const { Vec::new() }; 4];
    let direct_command = Spawn {
        argv: ["sh", "-c", PRINT].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        dir: "/".into(),
    };
    for _ in 0..10 {
        let began = Instant::now();
        let script = format!("{PRINT} | cat > /dev/null");
        assert!(Command::new("sh").args(["-c", &script]).status().expect("runs").success());
        cat.push(began.elapsed());
        let began = Instant::now();
        drain(spawn(&direct_command).expect("started")).await;
        direct.push(began.elapsed());
        for (holder, times) in [(&holder, &mut fenced), (&bare, &mut unfenced)] {
            let began = Instant::now();
            drain(holder.start(&step(&["sh", "-c", PRINT], Network::Open)).await.expect("started")).await;
            times.push(began.elapsed());
        }
    }
    holder.close().await;
    bare.close().await;
    let floor = show("cat > /dev/null", cat);
    for (what, times) in [("a direct child", direct), ("a fenced step", fenced), ("a bare step", unfenced)] {
        println!("{what} / cat {:.2}", show(what, times) / floor);
    }
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).expect("a peak"));
}

async fn drain(mut running: hookmill::process::Running) {
    let mut bytes = 0;
    while let Some(event) = running.next().await {
        match event {
            Event::Output(piece) => bytes += piece.len(),
            Event::Exited(exit) => assert!(exit.is_success(), "{exit} after {bytes} bytes"),
            Event::Ended { .. } => {}
        }
    }
    assert_eq!(bytes, 1_000_000_000);
}
