"""N7: idle memory (PSS of the whole tree) of `serve` with an agent: after start, after 200 and after 400 builds.

The builds do nothing (`true`). Beside it adnanh/webhook after start and after as many deliveries, which it forgets.
Proportional set size: a page that n processes share counts 1/n in each (proc(5), smaps_rollup).
"""

import shutil
import statistics
import time

from lib import pairs, processes, push
from lib.forge import FINAL, Forge, build_of
from lib.server import SECRET, Server, require
from lib.webhook import Webhook

NEEDS_BINARY = True
NAME = "acme/idle"
_BUILDS = 400
_REST = 3.0  # seconds without work after which a process is called idle


def options(parser):
    parser.add_argument("--builds", type=int, default=_BUILDS, help=f"how many builds ({_BUILDS})")
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


def _hookmill(options, folder, forge, repository, commits):
    shutil.rmtree(folder, ignore_errors=True)
    figures = []

    def rest():
        time.sleep(_REST)
        figures.append(processes.pss(server.pid) / 1e6)

    with Server(options.binary, folder, forge.api_url, {NAME: repository.url}, sandbox=options.sandbox, cache=False) as server:
        rest()
        half = len(commits) // 2
        for batch in (range(half), range(half, len(commits))):
            wanted = set()
            for number in batch:
                raw = server.delivery(NAME, f"refs/heads/idle-{number}", "0" * 40, commits[number])
                wanted.add(server.deliver(raw))

            def left(statuses, wanted=wanted):
                wanted -= {build_of(one) for one in statuses if one["state"] in FINAL}
                return not wanted

            if not forge.wait_for(left, 300):
                raise TimeoutError(f"{len(wanted)} builds did not end\n{server.log_tail()}")
            rest()
        count = len(server.own_processes())
    forge.statuses.clear()
    return figures, count


def _webhook(folder, count):
    with Webhook(folder) as hook:
        time.sleep(_REST)
        figures = [processes.pss(hook.pid) / 1e6]
        body = push.payload(NAME, "refs/heads/main", "0" * 40, "1" * 40)
        for _ in range(count):
            push.send(hook.port, push.request(hook.path, body, SECRET))
        time.sleep(_REST)
        figures.append(processes.pss(hook.pid) / 1e6)
    return figures


def run(options, folder):
    require("git", "webhook")
    count = options.pairs or 3
    with Forge(folder / "forge") as forge:
        repository = forge.repository(NAME)
        base = repository.commit({".hookmill.toml": b'[bundle]\ncommand = ["true"]\n'})
        changes = [{"number": str(number).encode()} for number in range(options.builds)]
        commits = repository.commits(changes, [f"refs/heads/idle-{n}" for n in range(options.builds)], base)
        ours, theirs = [], []
        for number, one, other in pairs.interleave(
            count,
            lambda: _hookmill(options, folder / "hookmill", forge, repository, commits),
            lambda: _webhook(folder / "webhook", options.builds),
        ):
            ours.append(one[0])
            theirs.append(other)
            start, half, end = one[0]
            print(f"  pair {number:3}  webhook {other[0]:.1f} MB, after {options.builds} deliveries {other[1]:.1f} MB   "
                  f"hookmill (processes: {one[1]}) {start:.1f} MB, after {options.builds // 2} builds {half:.1f} MB, "
                  f"after {options.builds} {end:.1f} MB", flush=True)
    names = ("after start", f"after {options.builds // 2} builds", f"after {options.builds} builds")
    for place, name in enumerate(names):
        values = [figures[place] for figures in ours]
        print(f"  hookmill {name}: {pairs.spread(values, ' MB', 1)}")
        pairs.verdict(f"{name} ≤ 16 MB", max(values) <= 16, f"{statistics.median(values):.1f} MB")
    growth = [figures[2] - figures[1] for figures in ours]
    pairs.verdict("no growth over the second half (≤ 0.5 MB)", statistics.median(growth) <= 0.5, pairs.spread(growth, " MB"))
    for place, name in enumerate(("after start", f"after {options.builds} deliveries")):
        print(f"  webhook  {name}: {pairs.spread([figures[place] for figures in theirs], ' MB', 1)}")
