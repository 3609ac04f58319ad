"""N12: kill -9 of the server at random moments under load.

A sender delivers signed pushes, each of a commit of its own, whether or not somebody listens; only a 202 counts as
acknowledged. The server is killed (it alone: what it started has to notice) and started again at once, many times. After
the last start everything may come to rest. Then: every acknowledged delivery must be stored; every stored build must have
ended and said exactly one final word, with nothing after it; the database must be whole; no process may be left.

The same word may be said twice: when the server dies between the forge's having heard it and its own note of that, it
can't know. Such repeats are counted apart.
"""

import collections
import os
import random
import sqlite3
import threading
import time
import uuid

from lib import pairs, processes, push
from lib.forge import FINAL, Forge, build_of
from lib.server import Server, require

NEEDS_BINARY = True
NAME = "acme/noop"
_ORPHAN = 10.0  # seconds after the kill from which a process is called left behind


def options(parser):
    parser.add_argument("--kills", type=int, default=100, help="how often it is killed (100)")
    parser.add_argument("--rate", type=float, default=10.0, help="deliveries a second (10)")
    parser.add_argument("--life", type=float, default=1.6, help="longest time between start and kill, in seconds (1.6)")
    parser.add_argument("--seed", type=int, help="of the random moments; printed")
    parser.add_argument("--rest", type=int, default=120, help="seconds without progress after which the end is not waited for (120)")
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


class _Sender(threading.Thread):
    """Delivers at a steady rate until it is told to end."""

    def __init__(self, server, commits, rate):
        super().__init__(daemon=True)
        self.server, self.commits, self.pause = server, commits, 1 / rate
        self.ended = threading.Event()
        self.acknowledged, self.refused, self.unanswered = {}, collections.Counter(), 0

    def run(self):
        for number, commit in enumerate(self.commits):
            if self.ended.wait(self.pause):
                return
            delivery = str(uuid.uuid4())
            raw = self.server.delivery(NAME, f"refs/heads/push-{number}", "0" * 40, commit, delivery=delivery)
            try:
                code, answer = push.send(self.server.port, raw, patience=5)
            except ConnectionRefusedError:
                self.refused["no listener"] += 1
            except (OSError, ValueError):
                self.unanswered += 1
            else:
                if code == 202:
                    self.acknowledged[delivery] = answer["build"]
                else:
                    self.refused[code] += 1


class _Leftovers:
    """What was alive beneath the server when it was killed."""

    def __init__(self, forge):
        self.forge, self.alive, self.longest, self.orphans = forge, {}, 0.0, []

    def look(self, server=None, killed_at=None):
        """Forgets what has ended; takes on, after a kill, what is alive and neither the forge's nor the new server's."""
        now = time.monotonic()
        living = set(processes.descendants(os.getpid()))
        for pid in set(self.alive) - living:
            del self.alive[pid]
        if killed_at is not None:
            for root in [*set(self.forge.serving), *([server.pid] if server else [])]:
                living -= {root, *processes.descendants(root)}
            for pid in living - set(self.alive):
                self.alive[pid] = killed_at
        for pid, since in list(self.alive.items()):
            self.longest = max(self.longest, now - since)
            if now - since > _ORPHAN:
                self.orphans.append(f"{pid} {processes.command(pid)}")
                del self.alive[pid]


def _finals(statuses):
    """By build: its statuses in the order they came."""
    words = collections.defaultdict(list)
    for one in statuses:
        words[build_of(one)].append(one["state"])
    return words


def _rest(server, patience):
    """Waits until every stored build is finished and every status is sent, as long as there is progress."""
    left, since = None, time.monotonic()
    while True:
        connection = sqlite3.connect(f"file:{server.database}?mode=ro", uri=True, timeout=10)
        try:
            now = (connection.execute("SELECT count(*) FROM builds WHERE state <> 'finished'").fetchone()[0],
                   connection.execute("SELECT count(*) FROM outbox WHERE fate = 'due'").fetchone()[0])
        finally:
            connection.close()
        if now == (0, 0):
            return
        if now != left:
            left, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            print(f"  no progress for {patience} s: {now[0]} builds unfinished, {now[1]} statuses unsent")
            return
        time.sleep(0.5)


def _judge(server, forge, sender, leftovers):
    stored = dict(server.query("SELECT delivery, answer FROM deliveries"))
    builds = dict(server.query("SELECT id, state FROM builds"))
    outcomes = server.query("SELECT outcome, count(*) FROM builds GROUP BY outcome ORDER BY 2 DESC")
    whole = server.query("PRAGMA integrity_check") == [("ok",)] and not server.query("PRAGMA foreign_key_check")
    dead = server.query("SELECT count(*) FROM outbox WHERE fate = 'dead'")[0][0]
    words = _finals(forge.statuses)
    finals = {build: [word for word in words[build] if word in FINAL] for build in builds}
    lost = [delivery for delivery in sender.acknowledged if delivery not in stored]
    gone = [build for build in sender.acknowledged.values() if build not in builds]
    silent = [build for build, said in finals.items() if not said]
    torn = [build for build, said in finals.items() if len(set(said)) > 1]
    again = [build for build, said in finals.items() if len(said) > 1 and len(set(said)) == 1]
    after = [build for build in builds if words[build] and words[build][-1] not in FINAL and finals[build]]
    print(f"  acknowledged {len(sender.acknowledged)}, stored {len(stored)}, builds {len(builds)}; "
          f"answered otherwise {dict(sender.refused)}, without an answer {sender.unanswered}")
    print(f"  outcomes: {', '.join(f'{outcome} {count}' for outcome, count in outcomes)}; "
          f"the same final word twice: {len(again)}; statuses given up: {dead}")
    pairs.verdict("acknowledged deliveries lost = 0", not lost and not gone, f"{len(lost)} lost, {len(gone)} without their build")
    pairs.verdict("final words missing = 0", not silent, f"{len(silent)} {silent[:10]}")
    pairs.verdict("one final word, the last", not torn and not after,
                  f"{len(torn)} with two different words, {len(after)} with a pending after the final")
    pairs.verdict("database whole", whole, "integrity_check, foreign_key_check")
    pairs.verdict("processes left behind = 0", not leftovers.orphans,
                  f"{len(leftovers.orphans)} {leftovers.orphans[:3]}; one was seen {leftovers.longest:.1f} s after its kill")


def run(options, folder):
    require("git")
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    draw = random.Random(seed)
    print(f" {options.kills} kills, {options.rate:g} deliveries a second, seed {seed}", flush=True)
    with Forge(folder / "forge") as forge:
        repository = forge.repository(NAME)
        base = repository.commit({".hookmill.toml": b'[bundle]\ncommand = ["true"]\n'})
        count = int(options.kills * (options.life + 1) * options.rate) + 100
        commits = repository.commits([{"number": str(n).encode()} for n in range(count)],
                                     [f"refs/heads/push-{n}" for n in range(count)], base)
        server = Server(options.binary, folder / "hookmill", forge.api_url, {NAME: repository.url}, sandbox=options.sandbox, cache=False)
        sender, leftovers, starts = _Sender(server, commits, options.rate), _Leftovers(forge), []
        try:
            starts.append(server.launch())
            sender.start()
            for number in range(1, options.kills + 1):
                time.sleep(draw.uniform(0.02, options.life))
                leftovers.look()
                server.kill()
                leftovers.look(killed_at=time.monotonic())
                starts.append(server.launch())
                leftovers.look()
                if number % 10 == 0:
                    print(f"  {number} kills, {len(sender.acknowledged)} acknowledged", flush=True)
            sender.ended.set()
            sender.join()
            begun = time.monotonic()
            _rest(server, options.rest)
            print(f"  at rest {time.monotonic() - begun:.1f} s after the last start; "
                  f"starts {pairs.spread([1e3 * one for one in starts], ' ms', 0)}")
            while leftovers.alive:
                leftovers.look()
                time.sleep(0.1)
        finally:
            sender.ended.set()
            server.stop()
        _judge(server, forge, sender, leftovers)
