"""Processes as /proc shows them, and the promise that none of ours is left behind (Linux)."""

import ctypes
import os
import signal
import time

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_TICKS = os.sysconf("SC_CLK_TCK")


def adopt_orphans():
    """From now on a descendant whose parent dies becomes our child (prctl(2)), so none can slip away."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _stat(pid):
    """The fields of /proc/PID/stat after the name, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def descendants(root, dead=False):
    """Process ids beneath `root`, without it; zombies only on request."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(name)) and (dead or fields[0] not in (b"Z", b"X")):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, look = [], [root]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def cpu_seconds(root):
    """CPU time of a process, its living descendants, and all that they have waited for, to 10 ms."""
    ticks = 0
    for pid in [root, *descendants(root, dead=True)]:
        if fields := _stat(pid):
            ticks += sum(int(fields[at]) for at in (11, 12, 13, 14))  # utime stime cutime cstime
    return ticks / _TICKS


def busy(root):
    """Whether a thread of a process or of its descendants runs or waits for a disk now."""
    for pid in [root, *descendants(root)]:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            if (fields := _stat(f"{pid}/task/{thread}")) and fields[0] in (b"R", b"D"):
                return True
    return False


def _kilobytes(path, field):
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def pss(root):
    """Proportional set size of a process and its descendants, in bytes."""
    pids = [root, *descendants(root)]
    return 1024 * sum(_kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids)


def rss(pid):
    """Resident set of one process, in bytes."""
    return 1024 * _kilobytes(f"/proc/{pid}/status", "VmRSS:")


def peak_rss(pid):
    """Its highest resident set since `forget_peak`, in bytes."""
    return 1024 * _kilobytes(f"/proc/{pid}/status", "VmHWM:")


def forget_peak(pid):
    """Starts the count of `peak_rss` anew (proc(5), clear_refs)."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def command(pid):
    """Its command line, to be shown."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return "gone"


def reap():
    """Takes the exit status of children that nobody waits for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_everything(patience=5.0):
    """Ends every descendant of this process: asked first, killed then. Returns how many there were."""
    first = descendants(os.getpid())
    deadline = time.monotonic() + patience
    for stop in (signal.SIGTERM, signal.SIGKILL):
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, stop)
            except ProcessLookupError:
                pass
        while descendants(os.getpid()) and time.monotonic() < deadline:
            reap()
            time.sleep(0.02)
        deadline = time.monotonic() + patience
    reap()
    return len(first)
