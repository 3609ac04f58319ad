//! The processes that there are, whose children they are and what they take.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, MemfdFlags, Mode, OFlags, fstat, memfd_create, open, statat};
use rustix::process::Pid;

use crate::confine::wire::Terms;
use crate::process::Bound;

/// All that `/proc` shows: in a fence those of one build, without one the machine's.
pub(super) struct Processes(HashMap<i32, Process>);

struct Process {
    parent: i32,
    /// Of its own.
    bytes: u64,
    /// What it has mapped of memory that can be shared.
    mapped: u64,
    threads: u64,
}

/// What a process and all that came of it take.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) bytes: u64,
    pub(super) threads: u64,
}

impl Used {
    /// The bound that this is beyond.
    pub(super) fn over(self, terms: &Terms) -> Option<Bound> {
        // First: a crowd has much memory, too, and is the cause of that.
        if terms.processes.is_some_and(|most| self.threads > most) {
            return Some(Bound::Processes);
        }
        terms.memory.is_some_and(|most| self.bytes > most).then_some(Bound::Memory)
    }
}

impl Processes {
    pub(super) fn look() -> Self {
        let Ok(entries) = fs::read_dir("/proc") else { return Self(HashMap::new()) };
        let all = entries.filter_map(Result::ok).filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            Some((process, read(&fs::read_to_string(entry.path().join("status")).ok()?)?))
        });
        Self(all.collect())
    }

    /// Everything whose chain of parents leads to `root`, which is not among them.
    pub(super) fn below(&self, root: i32) -> Vec<i32> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (process, Process { parent, .. }) in &self.0 {
            children.entry(*parent).or_default().push(*process);
        }
        let mut found = vec![root];
        let mut seen = 0;
        while let Some(of) = found.get(seen) {
            found.extend(children.remove(of).unwrap_or_default());
            seen += 1;
        }
        found.split_off(1)
    }

    /// What is taken below and by `root`.
    ///
    /// Files in memory that nothing maps are counted by who has them open. What is mapped of them is counted by who maps
    /// it; the larger of both is taken, so that nobody who does both is counted twice.
    pub(super) fn used_by(&self, root: Pid) -> Used {
        let root = root.as_raw_nonzero().get();
        let (mut used, mut mapped, mut files) = (Used::default(), 0_u64, HashMap::new());
        for number in self.below(root).into_iter().chain([root]) {
            let Some(process) = self.0.get(&number) else { continue };
            used.bytes = used.bytes.saturating_add(process.bytes);
            used.threads += process.threads;
            mapped = mapped.saturating_add(process.mapped);
            add_memory_files(number, &mut files);
        }
        let files = files.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        used.bytes = used.bytes.saturating_add(mapped.max(files));
        used
    }
}

/// What a process has open of `memfd_create(2)`, by the number of the file: its bytes in memory and swap.
fn add_memory_files(process: i32, files: &mut HashMap<u64, u64>) {
    let Some(memory) = memory_files() else { return };
    let Ok(dir) = open(format!("/proc/{process}/fd"), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        // It ended, or shows its descriptors to nobody.
        return;
    };
    let Ok(all) = rustix::fs::Dir::read_from(&dir) else { return };
    for entry in all.filter_map(Result::ok) {
        if let Ok(stat) = statat(&dir, entry.file_name(), AtFlags::empty())
            && stat.st_dev == memory
        {
            // Blocks are of 512 bytes, stat(2).
            files.insert(stat.st_ino, u64::try_from(stat.st_blocks).unwrap_or(0) << 9);
        }
    }
}

/// The device on which the kernel has all of them.
fn memory_files() -> Option<u64> {
    static DEVICE: OnceLock<Option<u64>> = OnceLock::new();
    *DEVICE.get_or_init(|| Some(fstat(memfd_create(c"device", MemfdFlags::CLOEXEC).ok()?).ok()?.st_dev))
}

/// What lies in a file system that is nothing but memory: a step can fill it and map none of it.
pub(super) fn in_memory(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |fs| fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize))
}

/// `/proc/PID/status`. A process that has ended and was not waited for has no memory any more.
fn read(status: &str) -> Option<Process> {
    let mut process = Process { parent: 0, bytes: 0, mapped: 0, threads: 0 };
    let mut has_parent = false;
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let number =
            || value.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        match name {
            "PPid" => (process.parent, has_parent) = (i32::try_from(number()).ok()?, true),
            // In units of 1024 bytes, whatever it calls them.
            "RssAnon" | "VmSwap" => process.bytes += number() << 10,
            "RssShmem" => process.mapped = number() << 10,
            "Threads" => process.threads = number(),
            _ => {}
        }
    }
    has_parent.then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: i32, mib: u64) -> Process {
        Process { parent, bytes: mib << 20, mapped: 0, threads: 2 }
    }

    #[test]
    fn a_status_is_read_by_its_names() {
        let status = "Name:\tPPid: 9\\n\nPPid:\t7\nThreads:\t11\nRssAnon:\t  2048 kB\nRssFile:\t 99 kB\nRssShmem:\t1024 kB\n\
                      VmSwap:\t0 kB\n";
        let read = read(status).expect("a process");
        assert_eq!((read.parent, read.bytes, read.mapped, read.threads), (7, 2 << 20, 1 << 20, 11));
        assert!(super::read("nonsense").is_none());
    }

    #[test]
    fn what_came_of_a_process_is_counted_through_generations() {
        // Numbers beyond those that the kernel gives, which have nothing open.
        let [a, b, c, other] = [2, 3, 4, 6].map(|number| i32::MAX - number);
        let all = [(a, process(1, 1)), (b, process(a, 10)), (c, process(b, 100)), (other, process(9, 1000))];
        let all = Processes(HashMap::from(all));
        let mut found = all.below(a);
        found.sort_unstable();
        assert_eq!(found, [c, b]);
        assert!(all.below(other).is_empty());
        assert_eq!(all.used_by(Pid::from_raw(a).expect("not zero")), Used { bytes: 111 << 20, threads: 6 });
    }

    #[test]
    fn a_file_in_memory_is_counted_once_whether_it_is_mapped_or_not() {
        let file = std::fs::File::from(memfd_create(c"test", MemfdFlags::CLOEXEC).expect("memory"));
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; 3 << 20], 0).expect("written");
        let again = file.try_clone().expect("a descriptor");
        let mut files = HashMap::new();
        add_memory_files(std::process::id().cast_signed(), &mut files);
        let number = fstat(&again).expect("it is open").st_ino;
        assert_eq!(files.get(&number), Some(&(3 << 20)));

        let this = std::process::id().cast_signed();
        let used = |mapped| {
            let process = Process { parent: 1, bytes: 0, mapped, threads: 1 };
            Processes(HashMap::from([(this, process)])).used_by(Pid::from_raw(this).expect("not zero")).bytes
        };
        assert!(used(0) >= 3 << 20, "{}", used(0));
        assert_eq!(used(1 << 40), 1 << 40);
    }

    #[test]
    fn a_bound_is_passed_and_not_met() {
        let check = |bytes, threads, expected| {
            let terms = Terms { memory: Some(10), processes: Some(5), ..Terms::default() };
            assert_eq!(Used { bytes, threads }.over(&terms), expected);
        };
        check(10, 5, None);
        check(11, 5, Some(Bound::Memory));
        check(11, 6, Some(Bound::Processes));
        check(0, 6, Some(Bound::Processes));
        assert_eq!(Used { bytes: 11, threads: 6 }.over(&Terms::default()), None);
    }
}
