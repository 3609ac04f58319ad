//! Control groups (version 2): one for each step, below the one that was delegated to the agent.
//!
//! Processes and controllers exclude each other in a group, so the agent moves itself into a leaf (`agent`) and gives
//! its own group's controllers to the leaves beside it. The holder, in namespaces that see none of this, has only the open
//! `cgroup.procs` of a leaf, into which each step's first process writes itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::confine::{Cgroup, Missing};
use crate::domain::cpus::Cpus;
use crate::process::Bound;

/// The leaf of the agent itself; the name that `DelegateSubgroup=agent` gives it.
const AGENT: &str = "agent";
/// What the leaves of steps begin with.
const STEP: &str = "step-";
/// A step's share of the processors while others want them too, and that of the agent.
const WEIGHTS: (&str, &str) = ("50", "200");
/// In what time a bound on processors is counted, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;
/// A killed group is empty within moments; the kernel frees the memory of its processes first.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// The services of deploy/, which whoever asks from a terminal means.
const SERVICES: [&str; 2] = ["system.slice/hookmill.service", "system.slice/hookmill-agent.service"];

/// What this process could take, and takes not; else what a service has taken that runs on this machine.
///
/// # Errors
/// Why there is no group for it.
pub fn look() -> Result<Cgroup, Missing> {
    let (base, file) = match find() {
        Ok(found) => (found.base, "cgroup.controllers"),
        Err(why) => (service().ok_or(why)?, "cgroup.subtree_control"),
    };
    let there = words(&base.join(file));
    Ok(Cgroup { memory: there.has("memory"), pids: there.has("pids"), cpu: there.has("cpu"), base })
}

/// The group of a service whose agent has moved into its leaf.
fn service() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let root = mounted(&mounts, Path::new("/"))?;
    SERVICES.iter().map(|service| root.join(service)).find(|base| !processes(&base.join(AGENT)).is_empty())
}

/// Takes the group that was delegated to this process: moves into a leaf of it, has controllers act on the others,
/// removes what an agent before us left. A second call finds the same.
///
/// # Errors
/// Why there is none.
pub fn take() -> Result<Cgroup, Missing> {
    let Found { base, foreign } = find()?;
    let agent = base.join(AGENT);
    let told = |what: &str, error: io::Error| Missing(format!("{what}: {error}"));
    make(&agent).map_err(|error| told("the agent's own control group can't be made", error))?;
    move_into(&agent, &base, foreign).map_err(|error| told("the agent can't move into its control group", error))?;
    let offered = words(&base.join("cgroup.controllers"));
    for name in ["memory", "pids", "cpu"] {
        // One that is refused is one that is not in what is read back.
        if offered.has(name) {
            let _ = fs::write(base.join("cgroup.subtree_control"), format!("+{name}"));
        }
    }
    let given = words(&base.join("cgroup.subtree_control"));
    let taken = Cgroup { memory: given.has("memory"), pids: given.has("pids"), cpu: given.has("cpu"), base };
    if taken.cpu {
        let _ = fs::write(agent.join("cpu.weight"), WEIGHTS.1);
    }
    remove_left(&taken.base);
    // A leaf that can be made, entered and emptied is one that can be used.
    let little = Bounds { memory: 1 << 30, processes: 16, cpus: None };
    Leaf::make(&taken, &little).map(|(leaf, _)| drop(leaf)).map_err(|error| told("no leaf can be made", error))?;
    Ok(taken)
}

struct Found {
    /// Below which leaves are made.
    base: PathBuf,
    /// Processes of others in it may be moved as well.
    foreign: bool,
}

/// The delegated group that this process is in.
fn find() -> Result<Found, Missing> {
    let missing = |what: &str| Missing(what.to_owned());
    let own = fs::read_to_string("/proc/self/cgroup").ok();
    let name =
        own.as_deref().and_then(own_path).ok_or_else(|| missing("this host has no control groups of version 2"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = mounted(&mounts, &name).ok_or_else(|| missing("the control groups are not mounted here"))?;
    let above = own.parent().filter(|above| own.ends_with(AGENT) && above.join("cgroup.events").exists());
    let base = above.unwrap_or(&own).to_owned();
    let is_root = name.as_path() == Path::new("/") || (above.is_some() && name.parent() == Some(Path::new("/")));
    // Only the host's own root is without events.
    if !base.join("cgroup.events").exists() {
        return Err(missing("this process is in the host's root control group"));
    }
    let shown = base.display();
    if rustix::fs::access(base.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_err() {
        return Err(Missing(format!("{shown} can't be written: it was not delegated to this user")));
    }
    // A container's own root is the container's. systemd marks what it delegated, and gives it to the unit's user.
    let is_marked = ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(&base, *name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    });
    let foreign = is_marked || is_root;
    let is_owned =
        fs::metadata(&base).is_ok_and(|data| data.uid() != 0 && data.uid() == rustix::process::geteuid().as_raw());
    if !foreign && !is_owned {
        return Err(Missing(format!("{shown} was not delegated to this process")));
    }
    let others = processes(&base).into_iter().filter(|process| *process != std::process::id()).count();
    if !foreign && others > 0 {
        return Err(Missing(format!("{shown} is shared with {others} other processes")));
    }
    Ok(Found { base, foreign })
}

/// This process' group in the one hierarchy of version 2: the line without controllers.
fn own_path(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// Where a group is in the file system.
fn mounted(mountinfo: &str, group: &Path) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = group.strip_prefix(root).ok().filter(|_| right.starts_with("cgroup2 "))?;
        Some(if below.as_os_str().is_empty() { PathBuf::from(point) } else { Path::new(point).join(below) })
    })
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Ourselves and, where they are ours to move, those that share the group: a container's init, a left helper.
fn move_into(agent: &Path, base: &Path, foreign: bool) -> io::Result<()> {
    fs::write(agent.join("cgroup.procs"), std::process::id().to_string())?;
    for process in processes(base).into_iter().filter(|_| foreign) {
        // One that has ended meanwhile needs no place.
        let _ = fs::write(agent.join("cgroup.procs"), process.to_string());
    }
    Ok(())
}

fn processes(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|process| *process != 0).collect()
}

struct Words(String);

impl Words {
    fn has(&self, word: &str) -> bool {
        self.0.split_whitespace().any(|one| one == word)
    }
}

fn words(file: &Path) -> Words {
    Words(fs::read_to_string(file).unwrap_or_default())
}

/// Leaves of agents that are no more, with what is still in them. Those of a living one have its process id in their name.
fn remove_left(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(of) = name.to_str().and_then(|name| name.strip_prefix(STEP)?.split('-').next()) else { continue };
        if !Path::new("/proc").join(of).exists() || of == std::process::id().to_string() {
            Leaf { dir: entry.path() }.empty();
        }
    }
}

/// What a step may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes.
    pub(super) memory: u64,
    pub(super) processes: u64,
    pub(super) cpus: Option<Cpus>,
}

/// A step's own group. Dropping it ends everything in it.
#[derive(Debug)]
pub(super) struct Leaf {
    dir: PathBuf,
}

impl Leaf {
    /// Makes one with its bounds; with it comes the file into which a process writes itself.
    pub(super) fn make(group: &Cgroup, bounds: &Bounds) -> io::Result<(Self, OwnedFd)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let leaf = Self { dir: group.base.join(format!("{STEP}{}-{count}", std::process::id())) };
        make(&leaf.dir)?;
        leaf.bound(group, bounds)?;
        let entry = OpenOptions::new().write(true).open(leaf.dir.join("cgroup.procs"))?;
        Ok((leaf, entry.into()))
    }

    fn bound(&self, group: &Cgroup, bounds: &Bounds) -> io::Result<()> {
        if group.memory {
            self.set("memory.max", &bounds.memory.to_string())?;
            // All of a step goes at once: a bundler that lost one worker of many waits for it for ever.
            self.set("memory.oom.group", "1")?;
            // Without swap there is no such file.
            let _ = self.set("memory.swap.max", "0");
        }
        if group.pids {
            self.set("pids.max", &bounds.processes.to_string())?;
        }
        if group.cpu {
            self.set("cpu.weight", WEIGHTS.0)?;
            if let Some(cpus) = bounds.cpus {
                self.set("cpu.max", &format!("{} {PERIOD}", cpus.of_each(PERIOD)))?;
            }
        }
        Ok(())
    }

    /// Everything in it ends now (Linux 5.14).
    pub(super) fn kill(&self) {
        // Before 5.14 the PID namespace alone does it.
        let _ = self.set("cgroup.kill", "1");
    }

    /// The bound that what ran in it has met.
    pub(super) fn passed(&self) -> Option<Bound> {
        let counted = |file: &str, key: &str| {
            let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
            count(&text, key) > 0
        };
        if counted("memory.events", "oom_kill") {
            return Some(Bound::Memory);
        }
        counted("pids.events", "max").then_some(Bound::Processes)
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.dir.join(file);
        // Not `fs::write`: a file that is not there must not be an error of "creating" one.
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        File::options().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes())).map_err(told)
    }

    /// Whether it is gone.
    fn remove(&self) -> bool {
        match fs::remove_dir(&self.dir) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Ends what is in it and removes it, as soon as the kernel is done.
    fn empty(self) {
        let dir = self.dir.clone();
        drop(self);
        let until = Instant::now() + EMPTY_WITHIN;
        while dir.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.kill();
        if self.remove() {
            return;
        }
        // The kernel is still taking its processes apart, which nobody has to wait for.
        let left = Self { dir: self.dir.clone() };
        std::thread::spawn(move || {
            let until = Instant::now() + EMPTY_WITHIN;
            while !left.remove() {
                if Instant::now() > until {
                    tracing::warn!(group = %left.dir.display(), "a step's control group is left behind");
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            std::mem::forget(left);
        });
    }
}

/// A number of a file of `key number` lines.
fn count(text: &str, key: &str) -> u64 {
    let values = text.lines().filter_map(|line| line.split_once(' '));
    values.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_among_those_of_version_1() {
        let hybrid = "8:pids:/\n1:name=systemd:/\n0::/system.slice/hookmill.service\n";
        assert_eq!(own_path(hybrid), Some(PathBuf::from("/system.slice/hookmill.service")));
        assert_eq!(own_path("8:pids:/\n"), None);
    }

    #[test]
    fn a_group_is_found_where_it_is_mounted() {
        let check = |mount: &str, group: &str, expected: Option<&str>| {
            assert_eq!(mounted(mount, Path::new(group)), expected.map(PathBuf::from), "{mount} {group}");
        };
        let whole = "26 25 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        check(whole, "/a/b", Some("/sys/fs/cgroup/a/b"));
        check(whole, "/", Some("/sys/fs/cgroup"));
        check("26 25 0:22 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids", "/a", None);
        check("26 25 0:22 /a /mnt rw - cgroup2 cgroup2 rw", "/a/b", Some("/mnt/b"));
        check("26 25 0:22 /c /mnt rw - cgroup2 cgroup2 rw", "/a/b", None);
    }

    /// The machines that this is developed on have no controllers of version 2, so their files are plain ones here.
    #[test]
    fn bounds_are_written_where_their_controllers_are_and_events_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let leaf = std::mem::ManuallyDrop::new(Leaf { dir: dir.path().to_owned() });
        let file = |name: &str| fs::read_to_string(dir.path().join(name)).expect("there");
        let group = Cgroup { base: dir.path().to_owned(), memory: true, pids: true, cpu: true };
        let bounds = Bounds { memory: 7 << 20, processes: 12, cpus: None };
        assert!(leaf.bound(&group, &bounds).expect_err("no such file").to_string().contains("memory.max"));
        for name in ["memory.max", "memory.oom.group", "memory.swap.max", "pids.max", "cpu.weight", "cpu.max"] {
            fs::write(dir.path().join(name), "").expect("a file");
        }
        leaf.bound(&group, &bounds).expect("written");
        let written = ["memory.max", "memory.oom.group", "memory.swap.max", "pids.max", "cpu.weight", "cpu.max"];
        assert_eq!(written.map(file), ["7340032", "1", "0", "12", WEIGHTS.0, ""]);
        leaf.bound(&group, &Bounds { cpus: Cpus::of(1.5), ..bounds }).expect("written");
        assert_eq!(file("cpu.max"), "150000 100000");

        assert_eq!(leaf.passed(), None);
        fs::write(dir.path().join("pids.events"), "max 3\n").expect("a file");
        fs::write(dir.path().join("memory.events"), "oom 0\noom_kill 0\n").expect("a file");
        assert_eq!(leaf.passed(), Some(Bound::Processes));
        fs::write(dir.path().join("memory.events"), "oom 1\noom_kill 4\n").expect("a file");
        assert_eq!(leaf.passed(), Some(Bound::Memory));
    }

    #[test]
    fn events_are_counted_by_their_names() {
        let text = "low 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 1\n";
        assert_eq!((count(text, "oom_kill"), count(text, "max"), count(text, "none")), (3, 12, 0));
    }
}
