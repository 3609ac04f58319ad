"""N10: a step that prints 1 GB in lines, against `cat > /dev/null` reading the same pipe. `--masking`: against itself with
nothing to mask, its secrets being too short to be hidden.

Ours is the step's own time, from its start to its finish as the API tells it, the fence's set-up included. What the agent
grows is the highest resident set of the server during the build less the one before (VmHWM, which misses no moment), and
the resident sets of all processes of the binary, sampled.
"""

import contextlib
import subprocess
import threading
import time

from lib import pairs, processes
from lib.forge import Forge
from lib.server import Server, instant, require

NEEDS_BINARY = True
NAME = "acme/loud"
_PATIENCE = 300
# Under eight bytes nothing is hidden.
_SHORT = b"seven77"
_LINE = "webpack 5.97.1 compiled: asset main.js 312 KiB [emitted] [minimized] (name: main) in 7123 ms"


def options(parser):
    parser.add_argument("--bytes", type=int, default=1_000_000_000, help="how much the step prints (1 000 000 000)")
    parser.add_argument("--masking", action="store_true", help="against itself without anything to mask")
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


def _script(count):
    return f"yes '{_LINE}' | head -c {count}"


def _cat(count):
    begun = time.monotonic()
    producer = subprocess.Popen(["sh", "-c", _script(count)], stdout=subprocess.PIPE)
    subprocess.run(["cat"], stdin=producer.stdout, stdout=subprocess.DEVNULL, check=True)
    producer.stdout.close()
    producer.wait()
    return time.monotonic() - begun


class _Watch:
    """Samples the memory of all our processes until it is left."""

    def __init__(self, server):
        self.server, self.highest, self._ended = server, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self):
        while not self._ended.wait(0.05):
            self.highest = max(self.highest, sum(map(processes.rss, self.server.own_processes())))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


def _step(server, forge, pushes):
    ref, commit = next(pushes)
    raw = server.delivery(NAME, ref, "0" * 40, commit)
    processes.forget_peak(server.pid)
    before = processes.rss(server.pid)
    with _Watch(server) as watch:
        build = server.deliver(raw)
        status = forge.final(server, build, _PATIENCE)
    grown = processes.peak_rss(server.pid) - before
    if status["state"] != "success":
        raise RuntimeError(f"{status['state']}: {status['description']}\n{server.log_tail()}")
    step = next(step for step in server.build(build)["steps"] if step["name"] == "bundle")
    seconds = instant(step["finished_at"]) - instant(step["started_at"])
    return seconds, grown / 1e6, (watch.highest - before) / 1e6


def run(options, folder):
    require("git")
    count = options.pairs or 10
    with Forge(folder / "forge") as forge:
        repository = forge.repository(NAME)
        config = f'[bundle]\ncommand = ["sh", "-c", "{_script(options.bytes)}"]\n'
        # Branches that are there: the server looks whether they are.
        refs = [f"refs/heads/loud-{number}" for number in range(2 * count + 2)]
        pushes = iter(list(zip(refs, repository.commits([{".hookmill.toml": config.encode()}] * len(refs), refs))))

        def one(name, **more):
            return Server(options.binary, folder / name, forge.api_url, {NAME: repository.url}, sandbox=options.sandbox,
                          cache=False, **more)

        with contextlib.ExitStack() as stack:
            server = stack.enter_context(one("hookmill"))
            grown, both = [], []

            def ours():
                seconds, by_itself, with_children = _step(server, forge, pushes)
                grown.append(by_itself)
                both.append(with_children)
                return seconds

            def theirs():
                return _cat(options.bytes)

            if options.masking:
                short = stack.enter_context(one("unmasked", secret=_SHORT, token=_SHORT.decode()))

                def theirs():
                    return _step(short, forge, pushes)[0]

            ours()
            theirs()
            grown.clear()
            both.clear()
            table = pairs.Table("hookmill", "unmasked" if options.masking else "cat", "s", digits=3)
            for _, mine, other in pairs.interleave(count, ours, theirs):
                table.add(mine, other)
    table.close(goal=1.3)
    print(f"  the server grew by {pairs.spread(grown, ' MB', 1)}")
    print(f"  all processes of the binary by {pairs.spread(both, ' MB', 1)}")
    pairs.verdict("grows < 50 MB", max(both) < 50, f"at most {max(both):.1f} MB")
