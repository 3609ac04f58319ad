"""What keeping costs: bytes on disk per repository, memory while a snapshot is kept, time spent on keeping.

Every build changes one module, the dependencies stay. Disk is by blocks (st_blocks), after the server has come to rest.
Memory: the server's highest resident set from the first delivery until rest (VmHWM), less the one before, and all processes
of the binary, sampled. Time: what the server's log says of what it kept (message `kept`, fields `what` and `ms`).
"""

import threading
import time

from lib import pairs, processes, work
from lib.forge import Forge
from lib.registry import Registry
from lib.server import require
from lib.shop import Shop, sample_option
from lib.warm import Warm

NEEDS_BINARY = True
_AFTER = (1, 5, 20)
_PARTS = ("snapshots/layers", "snapshots/scopes", "snapshots/incoming", "mirrors", "slots", "trash", "logs", "hookmill.db")


def options(parser):
    sample_option(parser, "medium")
    parser.add_argument("--builds", type=int, default=max(_AFTER), help=f"how many builds ({max(_AFTER)})")
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


class _Memory:
    """The highest resident sets from now until it is left: the server's, and those of all processes of the binary."""

    def __init__(self, server):
        self.server, self.all, self._ended = server, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self):
        while not self._ended.wait(0.1):
            self.all = max(self.all, sum(map(processes.rss, self.server.own_processes())))

    def __enter__(self):
        processes.forget_peak(self.server.pid)
        self.before = processes.rss(self.server.pid)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self.server_grown = processes.peak_rss(self.server.pid) - self.before
        self.all_grown = self.all - self.before


def _tell_disk(data, builds):
    known = {part: work.disk(data / part) for part in _PARTS if (data / part).exists()}
    total = work.disk(data)
    rest = total - sum(known.values())
    parts = ", ".join(f"{part} {size / 1e6:.1f}" for part, size in known.items() if size > 50_000)
    layers = data / "snapshots/layers"
    count = len(list(layers.iterdir())) if layers.is_dir() else 0
    print(f"  after {builds:2} builds: {total / 1e6:.1f} MB on disk ({parts}, else {rest / 1e6:.1f}), {count} layers",
          flush=True)


def _tell_keeping(server):
    """Each kind of what was kept: how long it took, how large it was."""
    told = [line for line in server.told("kept") if line.get("message") == "kept" and "ms" in line]
    if not told:
        print("  time spent on keeping: the log tells of nothing that was kept")
    kinds = {}
    for line in told:
        kinds.setdefault(line.get("what", "?"), []).append(line["ms"])
    for what, times in kinds.items():
        print(f"  kept {what:9} {len(times):3} times, {pairs.spread(times, ' ms', 0)}")


def _left(server, build):
    """What a build left for later ones, as the API tells it once that is kept."""
    kept = server.build(build).get("kept") or []
    return ", ".join(f"{one['level']} {one['bytes'] / 1e6:.1f} MB" for one in kept) or "nothing"


def run(options, folder):
    require("git", "npm", "node")
    with Forge(folder / "forge") as forge, Registry(work.cache() / "registry") as registry:
        shop = Shop(forge, registry, options.sample)
        warm = Warm(options, folder / "server", forge, shop, sandbox=options.sandbox)
        server = warm.server
        server.start()
        try:
            for number in range(1, options.builds + 1):
                cpu = processes.cpu_seconds(server.pid)
                with _Memory(server) as memory:
                    pushed = warm.push(rest=False)
                    ended, until = time.monotonic(), processes.cpu_seconds(server.pid)
                    server.settle()
                    # The rest itself takes a second of idleness.
                    keeping, kept_cpu = time.monotonic() - ended - 1, processes.cpu_seconds(server.pid) - until
                grown = f"server grew {memory.server_grown / 1e6:.1f} MB, all of the binary {memory.all_grown / 1e6:.1f} MB"
                print(f"  build {number:2}  {pushed.wall:7.2f}s ({pushed.told()}), cpu {until - cpu:.2f}s; then busy for "
                      f"{max(keeping, 0):.2f}s, cpu {kept_cpu:.2f}s; left {_left(server, pushed.id)}; {grown}", flush=True)
                if number in _AFTER:
                    _tell_disk(server.folder / "data", number)
                shop.next_commit("source")
            print(f"  sandbox: {pushed.shown['sandbox']}")
            _tell_keeping(server)
        finally:
            server.stop()
