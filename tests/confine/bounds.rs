//! What a step may take: memory, processes, and a control group of its own where one was delegated.
//!
//! Controllers of version 2 exist only on a host without control groups of version 1, or with those unused; where they
//! are missing, the groups are tried as far as they go without: made, entered, ended at once and removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hookmill::confine::{Layers, Mode, take_cgroup};
use hookmill::process::{Bound, Exit};

use super::{Build, PATIENCE, all, bare, confined, until, within};

const MIB: u64 = 1 << 20;

async fn in_both(story: impl AsyncFn(&Build)) {
    if let Some(layers) = confined().await {
        story(&Build::new(&layers)).await;
    }
    story(&Build::new(&bare().await)).await;
}

#[tokio::test]
async fn a_step_that_takes_too_much_memory_is_ended_and_nothing_else() {
    in_both(async |build| {
        let holder = build.open().await;
        // tail keeps what has no line break; the pipe's other end would go on for 16 GiB.
        let mut greedy = build.command("head -c 16G /dev/zero | tail");
        greedy.memory = 200 * MIB;
        let modest = build.command("head -c 20M /dev/zero | tail | wc -c; while [ ! -e stop ]; do sleep 0.05; done");
        let modest = holder.start(&modest).await.expect("started");
        let (_, exit, _) = all(holder.start(&greedy).await.expect("started")).await;
        assert_eq!(exit, Exit::Over(Bound::Memory));
        assert!(!holder.is_lost());
        // Its neighbour went on, and ends by itself.
        assert_eq!(build.run_in(&holder, "touch stop").await.1, Exit::Code(0));
        assert_eq!(all(modest).await.1, Exit::Code(0));
        holder.close().await;
    })
    .await;
}

#[tokio::test]
async fn memory_that_no_process_maps_counts_too() {
    let Some(layers) = confined().await else { return };
    is_too_much(&Build::new(&layers), "head -c 300M /dev/zero > /dev/shm/hidden; sleep 600").await;
}

/// A file that has no name and is in no file system that anybody mounted.
#[tokio::test]
async fn a_file_in_memory_that_no_process_maps_counts_too() {
    let create = libc::SYS_memfd_create;
    let script = format!(
        "perl -e 'my ($name, $all) = (q(hidden), q(x) x (1 << 20)); my $fd = syscall({create}, $name, 0); \
         open(my $file, q(>&=), $fd) or die; syswrite($file, $all) for 1..300; sleep 600'"
    );
    in_both(async |build| is_too_much(build, &script).await).await;
}

async fn is_too_much(build: &Build, script: &str) {
    let holder = build.open().await;
    let mut greedy = build.command(script);
    greedy.memory = 100 * MIB;
    let (text, exit, _) = all(holder.start(&greedy).await.expect("started")).await;
    assert_eq!(exit, Exit::Over(Bound::Memory), "{text}");
    holder.close().await;
}

#[tokio::test]
async fn ten_thousand_processes_are_not_had() {
    in_both(async |build| {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root && build.layers.mode() == Mode::Bare {
            // The user's own processes count along, which are everybody's here.
            return;
        }
        let holder = build.open().await;
        let life = build.life_line();
        let script = "exec 3> $HOME/alive; for i in $(seq 10000); do sleep 600 & done; echo all of them; wait";
        let mut crowd = build.command(script);
        crowd.processes = 60;
        let (text, exit, _) = all(holder.start(&crowd).await.expect("started")).await;
        // The kernel refuses an ordinary user's; root's are never counted, and the holder counts them.
        assert!(exit == Exit::Over(Bound::Processes) || text.contains("Cannot fork"), "{exit} {text}");
        assert!(!text.contains("all of them") && !exit.is_success(), "{exit} {text}");
        super::gone(life).await;
        assert_eq!(build.run_in(&holder, "true").await.1, Exit::Code(0));
        holder.close().await;
    })
    .await;
}

/// A group of the test's own, in which an agent can be started. Removed with it.
struct Group(PathBuf);

impl Group {
    /// `None`, said loudly, where this process may make none.
    fn delegated() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let point = mount.and_then(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let dir = point.map(|point| point.join(format!("hookmill-test-{}", std::process::id())));
        let made = dir.filter(|dir| fs::create_dir(dir).is_ok());
        let Some(dir) = made else {
            eprintln!("NOT TRIED: this process can make no control group");
            return None;
        };
        let group = Self(dir);
        // As systemd marks what it delegates.
        let marked = Command::new("setfattr").args(["-n", "user.delegate", "-v", "1"]).arg(&group.0).status();
        if !marked.is_ok_and(|status| status.success()) {
            use std::os::fd::AsFd;
            let dir = fs::File::open(&group.0).expect("opened");
            rustix::fs::fsetxattr(dir.as_fd(), "user.delegate", b"1", rustix::fs::XattrFlags::empty()).expect("marked");
        }
        Some(group)
    }

    /// Runs one of this file's ignored tests in it.
    fn run(&self, test: &str) -> String {
        let this = std::env::current_exe().expect("this test");
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec {} --exact confine::bounds::{test} --ignored --nocapture",
            self.0.display(),
            this.display()
        );
        let told = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
        let text = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(told.status.success(), "{text}");
        text
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let until = Instant::now() + PATIENCE;
        let inner = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        for dir in inner.filter(|path| path.is_dir()).chain([self.0.clone()]).collect::<Vec<_>>() {
            while dir.exists() && fs::remove_dir(&dir).is_err() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn each_step_has_a_control_group_where_one_was_delegated() {
    let Some(group) = Group::delegated() else { return };
    // What an agent left that was killed together with its holders' parents.
    let left = group.0.join("step-4194999-0");
    fs::create_dir(&left).expect("made");
    let enter = format!("echo $$ > {}/cgroup.procs; exec sleep 600", left.display());
    let mut forgotten = Command::new("sh").args(["-c", &enter]).spawn().expect("sh runs");
    let procs = left.join("cgroup.procs");
    while fs::read_to_string(&procs).is_ok_and(|text| text.is_empty()) {
        std::thread::yield_now();
    }
    let told = group.run("an_agent_in_a_group");
    assert!(told.contains("the agent moved, its steps have leaves"), "{told}");
    let ended = forgotten.wait().expect("waited for");
    assert!(!ended.success() && !left.exists(), "what was left is ended and removed: {told}");
}

#[tokio::test]
#[ignore = "run by another test, in a control group"]
async fn an_agent_in_a_group() {
    let cgroup = take_cgroup().expect("it was delegated");
    assert_eq!(take_cgroup().as_ref(), Ok(&cgroup), "a second look finds the same");
    let own = fs::read_to_string("/proc/self/cgroup").expect("proc");
    assert!(own.contains("/agent\n"), "{own}");
    println!("controllers here: {cgroup}");
    let leaves = || leaves(&cgroup.base);
    assert!(leaves().is_empty(), "{:?}", leaves());
    let Some(confined) = confined().await else { return };
    for layers in [confined, bare().await] {
        let layers = Layers { cgroup: Ok(cgroup.clone()), ..layers };
        assert!(layers.mode() == Mode::Bare || layers.name().contains("+cgroup"), "{}", layers.name());
        let build = Build::new(&layers);
        let holder = build.open().await;
        let life = build.life_line();
        let daemon = "exec 3> $HOME/alive; setsid sh -c 'sleep 600 & echo > $HOME/up; sleep 600' < /dev/null > /dev/null \
                      2>&1 & while [ ! -s $HOME/up ]; do sleep 0.01; done; echo ready; sleep 600";
        let mut running = holder.start(&build.command(daemon)).await.expect("started");
        until(&mut running, "ready\n").await;
        let [leaf] = &leaves()[..] else { panic!("one step, one leaf: {:?}", leaves()) };
        let inside = fs::read_to_string(leaf.join("cgroup.procs")).expect("read");
        assert!(inside.lines().count() >= 4, "the step and all that came of it: {inside}");
        // As the kernel does for us when nobody else can.
        fs::write(leaf.join("cgroup.kill"), "1").expect("killed");
        assert!(matches!(all(running).await.1, Exit::Signal(9)), "ended by the group");
        super::gone(life).await;
        within(async {
            while !leaves().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(build.run_in(&holder, "true").await.1, Exit::Code(0));
        holder.close().await;
    }
    println!("the agent moved, its steps have leaves");
}

fn leaves(base: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(base).expect("read").flatten().map(|entry| entry.path());
    all.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-"))).collect()
}

#[test]
fn a_group_that_was_not_delegated_is_left_alone() {
    let before = fs::read_to_string("/proc/self/cgroup").expect("proc");
    if let Err(why) = take_cgroup() {
        assert!(!why.to_string().is_empty());
        assert_eq!(fs::read_to_string("/proc/self/cgroup").expect("proc"), before, "nothing was moved");
    } else {
        eprintln!("NOT TRIED: this test runs in a control group that was delegated to it");
    }
}
