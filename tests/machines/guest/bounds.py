"""What the control group of a step promises: bounds, names for them, and one end for all."""

import os
import signal
import time
from pathlib import Path

from lib.forge import build_of
from promises import expect, until
from service import PATIENCE, check, prop

# Takes memory until somebody ends it.
GREEDY = "kept = []\nwhile True: kept.append(bytearray(b'x') * (8 << 20))\n"
_MANY = """
import subprocess, sys, time
try:
    for _ in range(160):
        subprocess.Popen(["sleep", "600"])
except OSError as error:
    print(error)
    sys.exit(3)
sys.exit(4)
"""
# Its own session, its parent gone twice, the output held.
_DAEMON = "setsid sh -c '(sleep 987 & sleep 987 &) &'\nsleep 1\n"
_LONG = "import time\ntime.sleep(25)\n"
_BUSY = """
import os, time
for _ in range(2):
    if os.fork() == 0:
        break
until = time.monotonic() + 25
while time.monotonic() < until:
    pass
"""
# A step with a daemon, and the end of both by another hand.
_HELD = _DAEMON.replace("987", "988").replace("sleep 1", "exec sleep 600")
_KILLED = _DAEMON.replace("987", "989").replace("sleep 1", "sleep 25")


def all_of(table, hookmill):
    """In the order of a build's life; the last one ends the server's."""
    table.promise("leaf: memory, swap, processes and share are written into each step's group", written, hookmill)
    table.promise("leaf: limits.cpus is kept by the kernel", processors, hookmill)
    table.promise("leaf: over limits.memory the step fails, by name, with what mends it", memory, hookmill)
    table.promise("leaf: over limits.processes the step fails, by name, with what mends it", processes, hookmill)
    table.promise("leaf: a daemon in a session of its own ends with its step", daemon, hookmill)
    table.promise("leaf: a cancel ends a step and its daemon within 5 s", cancelled, hookmill)
    table.promise("leaf: none is left, and the server lived through all of it", none_left, hookmill)
    table.promise("leaf: after kill -9 of the server its steps and leaves are gone and the build goes on", killed, hookmill)


def _sleeping(seconds):
    """Processes that sleep so long: what a fixture left."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def _leaf(hookmill, program):
    """The group in which a fixture's program runs, once it does."""

    def running():
        for leaf in hookmill.leaves():
            try:
                for process in (leaf / "cgroup.procs").read_text().split():
                    if program.encode() in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                        return leaf
            except OSError:
                continue
        return None

    return until(running, PATIENCE, f"a step's group with {program}; {hookmill.journal(6)}")


def _read(leaf, name):
    return (leaf / name).read_text().strip()


def written(hookmill):
    commit = hookmill.deliver(check("long", _LONG))
    leaf = _leaf(hookmill, "long.txt")
    read = {name: _read(leaf, name) for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.weight")}
    wanted = {"memory.max": str(400 << 20), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "96", "cpu.weight": "50"}
    agents = _read(hookmill.group() / "agent", "cpu.weight")
    hookmill.passes(commit)
    expect(read == wanted, f"{read}")
    expect(agents == "200", f"the agent's own share is {agents}")
    return ""


def processors(hookmill):
    commit = hookmill.deliver(check("busy", _BUSY), "acme/slow")
    leaf = _leaf(hookmill, "busy.txt")

    def used():
        return int(_read(leaf, "cpu.stat").split()[1]) / 1e6

    maximum, begun, before = _read(leaf, "cpu.max"), time.monotonic(), used()
    time.sleep(10)
    share = (used() - before) / (time.monotonic() - begun)
    throttled = "nr_throttled 0\n" not in _read(leaf, "cpu.stat")
    hookmill.passes(commit)
    expect(maximum == "50000 100000", f"cpu.max is {maximum}")
    expect(share < 0.6 and throttled, f"three busy processes used {share:.2f} processors")
    return f"three busy processes used {share:.2f} processors of 0.5"


def _fails(hookmill, name, script, sentence, mend):
    status = hookmill.final(hookmill.deliver(check(name, script)))
    build = build_of(status)
    step = next(step for step in hookmill.get(f"/api/v1/builds/{build}")["steps"] if step["name"] == name)
    said = f"{status['state']}: {status['description']}; step: {step['reason']}; mend: {step.get('mend')}"
    expect(status["state"] == "failure" and sentence in status["description"], f"{said}; {hookmill.log(build)[-300:]}")
    expect(step["outcome"] == "failed" and mend in (step.get("mend") or ""), said)
    return status["description"]


def memory(hookmill):
    return _fails(hookmill, "greedy", GREEDY, "Out of memory: greedy passed 400 MiB (limits.memory)", "limits = { memory")


def processes(hookmill):
    return _fails(hookmill, "many", _MANY, "Too many processes: many passed 96 (limits.processes)", "limits = { processes")


def daemon(hookmill):
    hookmill.passes(hookmill.deliver(check("daemon", _DAEMON, "sh")))
    until(lambda: not _sleeping(987), 5, "the daemon's end")
    return ""


def cancelled(hookmill):
    commit = hookmill.deliver(check("held", _HELD, "sh"))
    until(lambda: len(_sleeping(988)) == 2, PATIENCE, "the daemon")
    build = hookmill.build(commit)
    begun = time.monotonic()
    hookmill.get(f"/api/v1/builds/{build}/cancel", post=True)
    # TERM first, and ten seconds to tidy up; a program that ends of it ends at once.
    until(lambda: not _sleeping(988) and not hookmill.leaves(), 15, "the end of the step, its daemon and its group")
    taken = time.monotonic() - begun
    expect(taken < 5, f"it took {taken:.1f} s")
    hookmill.final(commit)
    return f"{taken:.1f} s"


def none_left(hookmill):
    until(lambda: not hookmill.leaves(), 5, f"the leaves' end: {[leaf.name for leaf in hookmill.leaves()]}")
    restarts = prop(hookmill.unit, "NRestarts")
    expect(restarts == "0", f"the server was started again {restarts} times; {hookmill.journal()}")
    kept = prop(hookmill.unit, "Result")
    expect(kept == "success", f"systemd calls the unit's result {kept}")
    return ""


def killed(hookmill):
    commit = hookmill.deliver(check("long", _KILLED, "sh"))
    leaf = _leaf(hookmill, "long.txt")
    until(lambda: len(_sleeping(989)) == 2, PATIENCE, "the daemon")
    before, mine = set(_sleeping(989)), int(prop(hookmill.unit, "MainPID"))
    begun = time.monotonic()
    os.kill(mine, signal.SIGKILL)
    until(lambda: not before & set(_sleeping(989)), 5, "the end of what the server ran")
    taken = time.monotonic() - begun
    until(lambda: prop(hookmill.unit, "MainPID") not in ("0", str(mine)), PATIENCE, "the next start")
    until(lambda: not leaf.exists(), PATIENCE, "the end of the leaf")
    hookmill.passes(commit)
    until(lambda: not hookmill.leaves(), 5, "the leaves' end")
    expect(prop(hookmill.unit, "NRestarts") == "1", "systemd did not start it again once")
    return f"all of it ended within {taken:.1f} s"
