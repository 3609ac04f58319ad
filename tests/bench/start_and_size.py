"""N8: start → listening with 10 000 builds stored, beside an empty store; the binary's size, its crates, its compile time.

The builds come through the door: 10 000 signed deliveries to a server without an agent. Then, the server being stopped,
SQL marks them as finished and their statuses as sent and gives each three finished steps, as a history would be.
The clock runs from before the process is made until `/healthz` has answered 200.
"""

import shutil
import sqlite3
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from lib import pairs, work
from lib.server import Server

NEEDS_BINARY = True
NAME = "acme/history"
_BUILDS = 10_000
_NOWHERE = "http://127.0.0.1:1"
_HISTORY = """
UPDATE builds SET state = 'finished', outcome = 'passed', started_at = created_at, finished_at = created_at + 9000;
UPDATE outbox SET fate = 'sent', sent_at = created_at;
INSERT INTO steps (build_id, position, name, kind, state, outcome, exit_code, cache, started_at, finished_at)
SELECT id, 0, 'checkout', 'checkout', 'finished', 'passed', 0, 'off', created_at, created_at + 100 FROM builds UNION ALL
SELECT id, 1, 'npm', 'install', 'finished', 'passed', 0, 'off', created_at + 100, created_at + 5000 FROM builds UNION ALL
SELECT id, 2, 'bundle', 'bundle', 'finished', 'passed', 0, 'off', created_at + 5000, created_at + 9000 FROM builds;
"""


def options(parser):
    parser.add_argument("--builds", type=int, default=_BUILDS, help=f"how many builds are stored ({_BUILDS})")
    parser.add_argument("--compile", action="store_true", help="also time a clean release build (minutes, all cores)")


def _server(options, folder, slots):
    return Server(options.binary, folder, _NOWHERE, {NAME: f"{_NOWHERE}/none.git"}, slots=slots)


def _fill(options, folder):
    """A folder with that many finished builds."""
    with _server(options, folder, slots=0) as server:

        def deliver(number):
            ref = f"refs/heads/change-{number}"
            return server.deliver(server.delivery(NAME, ref, "0" * 40, f"{number + 1:040x}", size=2000))

        with ThreadPoolExecutor(16) as many:
            for _ in many.map(deliver, range(options.builds)):
                pass
    connection = sqlite3.connect(server.database)
    with connection:
        connection.executescript(_HISTORY)
    stored = connection.execute("SELECT count(*) FROM builds WHERE state = 'finished'").fetchone()[0]
    connection.close()
    size = server.database.stat().st_size / 1e6
    print(f" {stored} finished builds are stored, {size:.1f} MB")


def _start(options, folder, stored):
    """Milliseconds of one start in a copy of `stored`, or with an empty store."""
    shutil.rmtree(folder, ignore_errors=True)
    server = _server(options, folder, slots=1)
    if stored:
        shutil.copytree(stored / "data", folder / "data")
    try:
        return server.launch() * 1e3
    finally:
        server.stop()


def run(options, folder):
    count = options.pairs or 10
    print(" start → listening")
    _fill(options, folder / "stored")
    _start(options, folder / "one", folder / "stored")
    table = pairs.Table("full", "empty", "ms", digits=1)
    for _, full, empty in pairs.interleave(
        count, lambda: _start(options, folder / "one", folder / "stored"), lambda: _start(options, folder / "one", None)
    ):
        table.add(full, empty)
    table.close(what="start")
    middle = statistics.median(table.ours)
    pairs.verdict(f"start with {options.builds} builds ≤ 50 ms", middle <= 50, f"{middle:.1f} ms")
    print(" size")
    size = options.binary.stat().st_size / 1e6
    pairs.verdict("release binary, stripped, ≤ 15 MB", size <= 15, f"{size:.1f} MB")
    tree = ["cargo", "tree", "--locked", "--edges=normal,build", "--prefix=none", "--format={p}"]
    listed = subprocess.run(tree, cwd=work.ROOT, capture_output=True, text=True, check=True).stdout
    # The first line is our own package; "(*)" marks a crate that was listed above, and so do build-only repeats.
    crates = {" ".join(line.split()[:2]) for line in listed.splitlines()[1:] if line.strip()}
    pairs.verdict("crates ≤ 300", len(crates) <= 300, str(len(crates)))
    if options.compile:
        _compile(folder)


def _compile(folder):
    subprocess.run(["cargo", "fetch", "--locked"], cwd=work.ROOT, check=True)
    begun = time.monotonic()
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(folder / "target")],
                   cwd=work.ROOT, check=True)
    seconds = time.monotonic() - begun
    pairs.verdict("clean release build ≤ 300 s", seconds <= 300, f"{seconds:.0f} s")
