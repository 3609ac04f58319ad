//! How much memory the server and its children had at most, and for how long they computed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is looked at is a peak, which a process remembers until it ends.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks until it is asked.
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    looking: JoinHandle<Peak>,
}

/// Ticks of a second in `stat` (`proc_pid_stat(5)`): a hundred to every program, whatever the kernel counts by.
const TICKS: u64 = 100;

/// The most that was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peak {
    /// Bytes of the server.
    pub(crate) server: u64,
    /// Bytes of its largest child.
    pub(crate) child: u64,
    /// For how long a child computed: a busy machine does not make it longer.
    pub(crate) computed: Duration,
}

impl Watch {
    pub(crate) fn of(pid: rustix::process::Pid) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let looking = std::thread::spawn(move || {
            let mut peak = Peak::default();
            let own = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
            while !ended.load(Ordering::Relaxed) {
                peak.server = peak.server.max(high_water(&own));
                for child in children(&own) {
                    let child = Path::new("/proc").join(child);
                    peak.child = peak.child.max(high_water(&child));
                    peak.computed = peak.computed.max(computed(&child));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            peak
        });
        Watch { over, looking }
    }

    pub(crate) fn peak(self) -> Peak {
        self.over.store(true, Ordering::Relaxed);
        self.looking.join().expect("no panic")
    }
}

fn children(process: &Path) -> Vec<String> {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn high_water(process: &Path) -> u64 {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes << 10)
}

fn computed(process: &Path) -> Duration {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // The name before it, in parentheses, may hold anything.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}
