"""N6: deliveries a second over 16 kept connections, against adnanh/webhook that verifies and spawns `true`.

20 kB bodies, each with its own delivery id, ref and commit, signed beforehand. Hookmill runs no agent here
(`agent.slots = 0`); it does post a status for every build, to a forge that takes 200 ms for an answer, as one far away does.
What was answered 202 is counted in the database afterwards.
"""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from lib import pairs, push
from lib.forge import Forge
from lib.server import FORGE, SECRET, Server, require
from lib.webhook import Webhook

NEEDS_BINARY = True
NAME = "acme/shop"
_BODY = 20_000
_CONNECTIONS = 16


def options(parser):
    parser.add_argument("--seconds", type=int, default=4, help="how long a round lasts (4)")
    parser.add_argument("--records", type=int, help="how many deliveries are made beforehand (8 000 for each second)")


def _records(path, count):
    """Writes `count` requests without their first line; returns when they are all there."""
    ref, after, delivery = "refs/heads/load-%08d", "%040x", "%08x-0000-4000-8000-000000000000"
    body = push.payload(NAME, ref % 0, "1" * 40, after % 0, _BODY).decode()
    # The commit stands in the body several times; the ref once.
    parts = body.replace(after % 0, "\0A").replace(ref % 0, "\0R")
    with open(path, "wb") as file:
        for number in range(1, count + 1):
            sha = hashlib.sha1(str(number).encode()).hexdigest()
            one = parts.replace("\0A", sha).replace("\0R", ref % number).encode()
            fields = push.headers(one, SECRET, delivery % number)
            record = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode() + b"\r\n" + one
            file.write(b"%08d" % len(record) + record)


def _wrk(url, records, seconds):
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s",
               "-s", str(Path(__file__).parent / "lib/distinct.lua"), url, "--", str(records)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    found = [line for line in ran.stdout.splitlines() if line.startswith('{"requests"')]
    if ran.returncode != 0 or not found or "no requests are left" in ran.stdout + ran.stderr:
        raise RuntimeError(f"wrk: {ran.stdout[-1500:]}{ran.stderr[-1500:]}")
    result = json.loads(found[0])
    result["rate"] = result["requests"] / result["seconds"]
    return result


def _ours(options, folder, forge, records):
    shutil.rmtree(folder, ignore_errors=True)
    server = Server(options.binary, folder, forge.api_url, {NAME: "http://127.0.0.1:1/none.git"}, slots=0)
    with server:
        result = _wrk(f"{server.url}/hooks/{FORGE}/{NAME}", records, options.seconds)
    stored = server.query("SELECT count(*) FROM builds")[0][0]
    if stored < result["requests"]:
        raise RuntimeError(f"{result['requests']} were answered 202, but only {stored} builds are stored")
    return result


def _webhook(options, folder, records):
    with Webhook(folder) as hook:
        return _wrk(hook.url, records, options.seconds)


def _in_memory(bytes_needed):
    """A folder of memory where there is one, so that reading requests is no work for the disk that is measured."""
    shm = Path("/dev/shm")
    if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2 * bytes_needed:
        return shm
    return None


def run(options, folder):
    require("wrk", "webhook")
    count = options.pairs or 10
    records = options.records or 8_000 * options.seconds
    place = (_in_memory(records * (_BODY + 500)) or folder) / f"hookmill-bench-{os.getpid()}.requests"
    rate = pairs.Table("hookmill", "webhook", "/s", digits=0, more_is_better=True)
    ours, theirs = [], []
    try:
        _records(place, records)
        with Forge(folder / "forge", latency=0.2) as forge:
            mill = folder / "hookmill"
            for _, one, other in pairs.interleave(
                count, lambda: _ours(options, mill, forge, place), lambda: _webhook(options, folder / "webhook", place)
            ):
                rate.add(one["rate"], other["rate"])
                ours.append(one)
                theirs.append(other)
                print("            " + "; ".join(
                    f"{name}: p50 {result['p50']:.1f} ms, p99 {result['p99']:.1f} ms, "
                    f"refused {result['refused']}, broken {result['broken']}"
                    for name, result in (("webhook", other), ("hookmill", one))), flush=True)
    finally:
        place.unlink(missing_ok=True)
    rate.close(goal=2.0, what="rate")
    for name, digits in (("p50", 2), ("p99", 1)):
        print(f" {name}, ms")
        late = pairs.Table("hookmill", "webhook", "ms", digits)
        for one, other in zip(ours, theirs):
            late.add(one[name], other[name])
        late.close(goal=1 / 3 if name == "p99" else None, what=name)
