"""What the fence costs a step: `true` in the build's holder, with every layer that this host gives, against a bare spawn.

The holder is spoken to as the agent does. Both sides are timed from the first byte of the order until the output is closed
and the exit is known. Then the same without the walls of the launcher (Landlock, seccomp), which shows what those cost.
Goal: all layers together at most 15 ms a step.
"""

import array
import json
import os
import shutil
import socket
import struct
import subprocess
import time

from lib import pairs

NEEDS_BINARY = True
GOAL = 15.0
_TRUE = "/bin/true"
_WALLS = {"landlock": True, "seccomp": True}


class _Holder:
    """One build's holder, over an overlay with nothing in it."""

    def __init__(self, binary, folder):
        made = {name: str(folder / name) for name in ("sources", "upper", "work", "joined", "home", "tmp")}
        for path in made.values():
            os.makedirs(path)
        ours, theirs = socket.socketpair()
        self.socket, self.number = ours, 0
        environment = {"PATH": os.environ["PATH"]}
        self.process = subprocess.Popen([binary, "internal", "holder", "confined"], stdin=theirs, env=environment)
        theirs.close()
        self._expect("ready")
        tree = {"lowers": [made["sources"]], "upper": made["upper"], "work": made["work"], "joined": made["joined"]}
        view = {"tree": tree, "home": made["home"], "in_home": [], "tmp": made["tmp"], "readable": []}
        self._send({"mount": view})
        self._expect("mounted")

    def step(self, walls):
        """Milliseconds of a step that does nothing, in a network of its own."""
        reading, writing = os.pipe()
        self.number += 1
        command = {"argv": [_TRUE], "env": {"PATH": "/usr/bin:/bin"}, "dir": ".", "network": "closed"}
        command |= {"processes": 512, "memory": 4 << 30}
        terms = walls | {"cgroup": False, "memory": 4 << 30, "processes": 512}
        begun = time.perf_counter_ns()
        self._send({"start": {"id": self.number, "command": command, "netns": "own", "doors": [], "terms": terms}}, writing)
        os.close(writing)
        while os.read(reading, 4096):
            pass
        os.close(reading)
        self._expect({"started": self.number})
        ended = self._receive()
        took = (time.perf_counter_ns() - begun) / 1e6
        if ended != {"exited": {"id": self.number, "status": 0, "over": None}}:
            raise RuntimeError(f"the step did not run: {ended}")
        return took

    def close(self):
        self.socket.close()
        self.process.wait()

    def _send(self, message, descriptor=None):
        body = json.dumps(message).encode()
        beside = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        self.socket.sendmsg([struct.pack("<I", len(body)) + body], beside)

    def _receive(self):
        def exactly(count):
            data = b""
            while len(data) < count:
                piece = self.socket.recv(count - len(data))
                if not piece:
                    raise RuntimeError("the holder ended")
                data += piece
            return data

        return json.loads(exactly(struct.unpack("<I", exactly(4))[0]))

    def _expect(self, word):
        said = self._receive()
        if said != word:
            raise RuntimeError(f"{word} was expected: {said}")


def _bare():
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)]
    begun = time.perf_counter_ns()
    pid = os.posix_spawn(_TRUE, [_TRUE], {"PATH": "/usr/bin:/bin"}, file_actions=actions)
    os.close(writing)
    while os.read(reading, 4096):
        pass
    os.close(reading)
    os.waitpid(pid, 0)
    return (time.perf_counter_ns() - begun) / 1e6


def options(_parser):
    """None of its own."""


def run(options, folder):
    """Two comparisons."""
    count = options.pairs or 60
    if not shutil.which("bwrap"):
        raise SystemExit("bubblewrap is not installed")
    holder = _Holder(options.binary, folder)
    try:
        holder.step(_WALLS)
        print("\nall layers, against a bare spawn")
        table = pairs.Table("fenced", "bare", "ms", quiet=True)
        for _, ours, theirs in pairs.interleave(count, lambda: holder.step(_WALLS), _bare):
            table.add(ours, theirs)
        costs = [ours - theirs for ours, theirs in zip(table.ours, table.theirs)]
        print(f"fenced {pairs.spread(table.ours, ' ms')}, bare {pairs.spread(table.theirs, ' ms')}")
        low, high = pairs.interval(costs)
        print(f"a step costs {pairs.spread(costs, ' ms')} more, p95 {pairs.percentile(costs, 0.95):.2f} ms; "
              f"95 % of the median {low:.2f} to {high:.2f} ms")
        print(f"goal: at most {GOAL:.0f} ms: {'met' if pairs.middle(costs) <= GOAL else 'MISSED'}")

        print("\nall layers, against all but Landlock and seccomp")
        without = {name: False for name in _WALLS}
        walls = [ours - theirs for _, ours, theirs in
                 pairs.interleave(count, lambda: holder.step(_WALLS), lambda: holder.step(without))]
        print(f"the two cost {pairs.spread(walls, ' ms')}")
    finally:
        holder.close()
