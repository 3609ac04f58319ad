"""Checkouts of large repositories by the agent's child process, against `git clone --depth 1` of the same address.

Of each repository: a first checkout, one more commit that changes one file, and the same commit again. The child's highest
resident set counts what it maps of packs; what it may write to is bounded by itself (800 MiB).
"""

import json
import random
import statistics
import subprocess
import threading
import time

from lib import pairs
from lib.forge import Forge

NEEDS_BINARY = True


def options(parser):
    parser.add_argument("--files", type=int, default=57_000, help="files of the repository of many files (57 000)")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the repository of large files (500)")
    parser.add_argument("--against", metavar="FILE", help="another binary for the checkout of a small repository")
    parser.add_argument("--builds", type=int, metavar="N", help="N commits of a small repository into one mirror, and no more")


def _highest(pid):
    """The highest resident set so far, in bytes; 0 once the process has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as lines:
            return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def _measured(command, text=b""):
    """Seconds, the highest resident set in bytes (as seen every 10 ms), and the answer."""
    begun = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seen = [0]

    def look():
        while (now := _highest(child.pid)) > 0:
            seen[0] = max(seen[0], now)
            time.sleep(0.01)

    # Not wait4(2)'s: that begins with what this process held when it forked.
    looking = threading.Thread(target=look)
    looking.start()
    child.stdin.write(text)
    child.stdin.flush()
    said = child.stdout.read()
    child.stdin.close()
    child.wait()
    took = time.monotonic() - begun
    looking.join()
    child.stdout.close()
    return took, seen[0], said


def checkout(binary, repository, sha, folder, passed=()):
    """One job of the child process; seconds, resident set and its answer."""
    job = {
        "source": {
            "from": "remote", "clone_url": repository.url, "git_ref": "refs/heads/main", "sha": sha, "base": None,
            "passed": list(passed), "credential": None,
            "network": {"proxy": None, "no_proxy": [], "ca_file": None, "patience": {"secs": 300, "nanos": 0}},
        },
        "slot": str(folder / "slot"), "mirror": str(folder / "mirrors" / "one.git"), "objects_seen_at": None, "depth": 1,
        "budget": {"files": 300_000, "bytes": 4 << 30, "depth": 100, "path_bytes": 4000},
        "deadline": {"secs": 600, "nanos": 0},
    }
    took, resident, said = _measured([binary, "internal", "checkout"], json.dumps(job).encode() + b"\n")
    answer = json.loads(said)
    if answer["answer"] != "done":
        raise RuntimeError(answer["message"])
    return took, resident, answer


def _large(options, folder, forge, name, files):
    repository = forge.repository(f"acme/{name}")
    first = repository.commit(files)
    second = repository.commit({next(iter(files)): b"changed\n"}, parent=first)
    place = folder / name
    took, resident, done = checkout(options.binary, repository, first, place)
    theirs, *_ = _measured(["git", "clone", "--quiet", "--depth", "1", repository.url, str(folder / f"{name}-git")])
    print(f"  {name}: {done['files']} files, {done['bytes'] / 1e6:.0f} MB")
    print(f"    first      {took:8.2f} s  {resident / 1e6:6.0f} MB resident   git clone --depth 1 {theirs:.2f} s")
    for what, sha in (("one file", second), ("nothing", second)):
        took, resident, done = checkout(options.binary, repository, sha, place)
        print(f"    {what:10} {took:8.2f} s  {resident / 1e6:6.0f} MB resident   {done['changed']} changed", flush=True)


def _small(options, folder, forge):
    """The plain case: one changed file in a repository of 40, against another binary."""
    repository = forge.repository("acme/small")
    parent = repository.commit({f"src/{number}.js": b"x\n" * 200 for number in range(40)})
    table = pairs.Table("ours", "other", " ms", digits=1)
    for number in range(options.pairs or 15):
        parent = repository.commit({"src/1.js": f"{number}\n".encode()}, parent=parent)
        turns = [("ours", options.binary), ("other", options.against)]
        # Whoever comes second finds the forge warm.
        times = {who: checkout(binary, repository, parent, folder / f"small-{who}")[0] * 1000
                 for who, binary in (turns if number % 2 else turns[::-1])}
        table.add(times["ours"], times["other"])
    table.close(what="checkout")


def _grown(options, folder, forge):
    """A mirror that N builds fetched into, then the same mirror with its packs made one."""
    repository = forge.repository("acme/grown")
    parent = repository.commit({f"src/{number}.js": b"x\n" * 200 for number in range(40)})
    place, times = folder / "grown", []

    def builds(count):
        nonlocal parent
        for _ in range(count):
            parent = repository.commit({"src/1.js": f"{len(times)}\n".encode()}, parent=parent)
            times.append(checkout(options.binary, repository, parent, place)[0] * 1000)

    def told(what):
        packs = len(list((place / "mirrors/one.git/objects/pack").glob("*.pack")))
        print(f"  {what:28} {statistics.median(times[-20:]):7.1f} ms (median of 20)   {packs} packs", flush=True)

    builds(21)
    told("the first builds")
    builds(options.builds - 21)
    told(f"after {options.builds} builds")
    took, resident, said = _measured([options.binary, "internal", "consolidate", str(place / "mirrors/one.git")])
    print(f"  consolidated in {took * 1000:.0f} ms, {resident / 1e6:.0f} MB resident: {said.decode()}")
    builds(20)
    told("after that")


def run(options, folder):
    draw = random.Random(1)
    with Forge(folder / "forge") as forge:
        if options.builds:
            return _grown(options, folder, forge)
        if options.against:
            _small(options, folder, forge)
        many = {f"m{n % 190}/d{n % 7}/f{n}.js": f"export default {n};\n".encode() * 5 for n in range(options.files)}
        _large(options, folder, forge, "many", many)
        size = options.megabytes * 10_000
        _large(options, folder, forge, "heavy", {f"video/{n}.mp4": draw.randbytes(size) for n in range(100)})
