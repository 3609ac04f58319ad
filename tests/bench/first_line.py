"""N5: from a delivery's first byte to the first line of the first step, of a repository that needs no install.

The step is `date +%s.%N`; its line is compared with the sender's clock. Floors: two appends of 4 KiB, each with an fsync, on
the same file system, then `date` started bare, or in a bubblewrap with all namespaces of its own.
(a) the commit is in the mirror and its tree in the workspace; (b) one new commit has to be fetched from loopback, against
`git fetch` and `git switch` in a clone, plus the floor.
"""

import os
import re
import shutil
import statistics
import subprocess
import time

from lib import pairs
from lib.forge import Forge
from lib.server import Server, instant, require

NEEDS_BINARY = True
NAME = "acme/clock"
_PATIENCE = 60
_DATE = ("date", "+%s.%N")
_CONFIG = b'[bundle]\ncommand = ["date", "+%s.%N"]\n'
_FENCE = ("--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
          "--tmpfs", "/tmp")
_SETTLE = 0.15  # what a build leaves to be tidied must not run into the next sample


def options(parser):
    parser.add_argument("--only", choices=["bare", "sandboxed"], help="one of the two ways to run steps")


def _files(change):
    files = {f"src/part{number}.js": f"export default {number};\n".encode() * 20 for number in range(100)}
    return {".hookmill.toml": _CONFIG, "changed.txt": f"{change}\n".encode(), **files}


class _Floor:
    """What a delivery costs at least: two writes that are on disk, and the step's process."""

    def __init__(self, folder, command):
        self.program = shutil.which(command[0])
        self.command = command
        self.file = os.open(folder / "floor", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def __call__(self):
        reading, writing = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)]
        begun = time.time_ns()
        for _ in range(2):
            os.write(self.file, bytes(4096))
            os.fsync(self.file)
        pid = os.posix_spawn(self.program, self.command, os.environ, file_actions=actions)
        os.close(writing)
        with os.fdopen(reading) as output:
            line = output.read()
        os.waitpid(pid, 0)
        return _milliseconds(line, begun)


def _milliseconds(line, begun):
    match = re.search(r"^(\d{9,11})\.(\d{9})\s*$", line, re.MULTILINE)
    if not match:
        raise RuntimeError(f"no time in {line!r}")
    return (int(match[1]) * 10**9 + int(match[2]) - begun) / 1e6


class _Side:
    """A server in one way of running steps, with what was seen of each build."""

    def __init__(self, options, folder, forge, repository, sandbox):
        self.forge, self.repository = forge, repository
        self.server = Server(options.binary, folder, forge.api_url, {NAME: repository.url}, sandbox=sandbox, cache=False)
        self.before = "0" * 40
        self.sandbox = "?"

    def push(self, commit, phases=None):
        """Milliseconds from delivery to line."""
        raw = self.server.delivery(NAME, "refs/heads/main", self.before, commit)
        # The next push of the same commit must not look like one that moved nothing.
        self.before = f"{int(self.before[:8], 16) + 1:08x}{'0' * 32}"
        begun = time.time_ns()
        build = self.server.deliver(raw)
        answered = time.time_ns()
        status = self.forge.final(self.server, build, _PATIENCE)
        ended = time.time_ns()
        if status["state"] != "success":
            raise RuntimeError(f"{status['state']}: {status['description']}\n{self.server.log_tail()}")
        line = _milliseconds(self.server.log(build, "bundle"), begun)
        shown = self.server.build(build)
        self.sandbox = shown["sandbox"]
        if phases is not None:
            phases.setdefault("202", []).append((answered - begun) / 1e6)
            phases.setdefault("claimed", []).append(_since(shown["started_at"], begun))
            for step in shown["steps"]:
                phases.setdefault(f"{step['name']} starts", []).append(_since(step["started_at"], begun))
                if step["name"] == "bundle":
                    phases.setdefault("line", []).append(line)
                phases.setdefault(f"{step['name']} ends", []).append(_since(step["finished_at"], begun))
            phases.setdefault("final status", []).append((ended - begun) / 1e6)
        time.sleep(_SETTLE)
        return line


def _since(text, begun):
    return instant(text) * 1e3 - begun / 1e6


class _Clone:
    """git's command line doing the same: fetch one commit, switch to it."""

    def __init__(self, folder, repository):
        self.folder, self.url = folder, repository.url
        subprocess.run(["git", "clone", "--quiet", self.url, str(folder)], check=True)

    def __call__(self, commit):
        begun = time.monotonic()
        subprocess.run(["git", "fetch", "--quiet", "origin", commit], cwd=self.folder, check=True)
        subprocess.run(["git", "-c", "advice.detachedHead=false", "switch", "--quiet", "--detach", commit],
                       cwd=self.folder, check=True)
        return (time.monotonic() - begun) * 1e3


def _print(phases):
    print("  phases, ms after the first byte (medians): "
          + ", ".join(f"{name} {statistics.median(values):.1f}" for name, values in phases.items()))


def _same_commit(side, floor, label, goal, count):
    print(f"(a) {label}: commit in the mirror, tree in the workspace")
    commit, phases = side.repository.head(), {}
    for _ in range(3):
        side.push(commit)
        floor()
    table = pairs.Table("hookmill", "floor", "ms")
    for _, ours, theirs in pairs.interleave(count, lambda: side.push(commit, phases), floor):
        table.add(ours, theirs)
    table.close(goal=goal)
    _print(phases)
    late = pairs.percentile(table.ours, 0.95) / statistics.median(table.ours)
    pairs.verdict("p95 ≤ 2 × median", late <= 2, f"{late:.2f}")


def _new_commit(side, clone, floor, label, count):
    print(f"(b) {label}: one new commit, against git fetch + git switch + floor")
    parent, phases = side.repository.head(), {}
    changes = [{"changed.txt": f"{label} {number}\n".encode()} for number in range(2 * count + 2)]

    def commits():
        while changes:
            yield side.repository.commit(changes.pop(), parent=parent)

    fresh = commits()
    side.push(next(fresh))
    clone(next(fresh))
    table = pairs.Table("hookmill", "git", "ms")
    for _, ours, theirs in pairs.interleave(
        count, lambda: side.push(next(fresh), phases), lambda: clone(next(fresh)) + floor()
    ):
        table.add(ours, theirs)
    table.close(goal=1.2)
    _print(phases)


def run(options, folder):
    require("git", "bwrap")
    count = options.pairs or 30
    ways = {"bare": ("none", _DATE, 2.0), "sandboxed": ("available", (shutil.which("bwrap"), *_FENCE, *_DATE), 1.3)}
    for label, (sandbox, command, goal) in ways.items():
        if options.only not in (None, label):
            continue
        with Forge(folder / f"forge-{label}") as forge:
            repository = forge.repository(NAME)
            repository.commit(_files(label))
            floor = _Floor(folder, command)
            side = _Side(options, folder / label, forge, repository, sandbox)
            with side.server:
                _same_commit(side, floor, label, goal, count)
                _new_commit(side, _Clone(folder / f"clone-{label}", repository), floor, label, max(10, count // 2))
            print(f"  sandbox as the build names it: {side.sandbox}")
