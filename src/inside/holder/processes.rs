//! The processes that there are, whose children they are and what they take.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use rustix::process::Pid;

use crate::confine::wire::Terms;
use crate::process::Bound;

/// All that `/proc` shows: in a fence those of one build, without one the machine's.
pub(super) struct Processes(HashMap<i32, Process>);

struct Process {
    parent: i32,
    /// Of its own: what it shares with others by a file is nobody's.
    bytes: u64,
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
    pub(super) fn used_by(&self, root: Pid) -> Used {
        let root = root.as_raw_nonzero().get();
        let all = self.below(root).into_iter().chain([root]).filter_map(|process| self.0.get(&process));
        all.fold(Used::default(), |sum, one| Used {
            bytes: sum.bytes.saturating_add(one.bytes),
            threads: sum.threads + one.threads,
        })
    }
}

/// What lies in a file system that is nothing but memory: a step can fill it and map none of it.
pub(super) fn in_memory(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |fs| fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize))
}

/// `/proc/PID/status`. A process that has ended and was not waited for has no memory any more.
fn read(status: &str) -> Option<Process> {
    let mut process = Process { parent: 0, bytes: 0, threads: 0 };
    let mut has_parent = false;
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let number =
            || value.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        match name {
            "PPid" => (process.parent, has_parent) = (i32::try_from(number()).ok()?, true),
            // In units of 1024 bytes, whatever it calls them.
            "RssAnon" | "RssShmem" | "VmSwap" => process.bytes += number() << 10,
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
        Process { parent, bytes: mib << 20, threads: 2 }
    }

    #[test]
    fn a_status_is_read_by_its_names() {
        let status = "Name:\tPPid: 9\\n\nPPid:\t7\nThreads:\t11\nRssAnon:\t  2048 kB\nRssFile:\t 99 kB\nRssShmem:\t1024 kB\n\
                      VmSwap:\t0 kB\n";
        let read = read(status).expect("a process");
        assert_eq!((read.parent, read.bytes, read.threads), (7, 3 << 20, 11));
        assert!(super::read("nonsense").is_none());
    }

    #[test]
    fn what_came_of_a_process_is_counted_through_generations() {
        let all = HashMap::from([(2, process(1, 1)), (3, process(2, 10)), (4, process(3, 100)), (6, process(9, 1000))]);
        let all = Processes(all);
        let mut found = all.below(2);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert!(all.below(6).is_empty());
        assert_eq!(all.used_by(Pid::from_raw(2).expect("not zero")), Used { bytes: 111 << 20, threads: 6 });
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
