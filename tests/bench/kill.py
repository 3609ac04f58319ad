"""N12: kill -9 of the server at random moments under load.

A sender delivers signed pushes, each of a commit of its own, whether or not somebody listens; only a 202 counts as
acknowledged. The server is killed (it alone: what it started has to notice) and started again at once, many times. After
the last start everything may come to rest. Then: every acknowledged delivery must be stored; every stored build must have
ended and said exactly one final word, with nothing after it; the database must be whole; no process may be left.

`--store postgres`: two servers and two agents on one PostgreSQL. Each time one of them is killed, and now and then the
database crashes; the same must hold.

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
from lib.postgres import Cluster
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
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite", help="one process, or several (sqlite)")
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


class _Sender(threading.Thread):
    """Delivers at a steady rate until it is told to end."""

    def __init__(self, servers, commits, rate):
        super().__init__(daemon=True)
        self.servers, self.commits, self.pause = servers, commits, 1 / rate
        self.ended = threading.Event()
        self.acknowledged, self.refused, self.unanswered = {}, collections.Counter(), 0

    def run(self):
        for number, commit in enumerate(self.commits):
            if self.ended.wait(self.pause):
                return
            delivery = str(uuid.uuid4())
            server = self.servers[number % len(self.servers)]
            raw = server.delivery(NAME, f"refs/heads/push-{number}", "0" * 40, commit, delivery=delivery)
            try:
                code, answer = push.send(server.port, raw, patience=5)
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

    def look(self, others=(), killed_at=None):
        """Forgets what has ended; takes on, after a kill, what is alive and neither the forge's nor the others'."""
        now = time.monotonic()
        living = set(processes.descendants(os.getpid()))
        for pid in set(self.alive) - living:
            del self.alive[pid]
        if killed_at is not None:
            for root in [*set(self.forge.serving), *others]:
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


class _Alone:
    """One server on a SQLite of its own."""

    def __init__(self, options, folder, forge, repos):
        server = Server(options.binary, folder / "hookmill", forge.api_url, repos, sandbox=options.sandbox, cache=False)
        self.servers = self.all = [server]

    def query(self, sql):
        """Rows, whether or not it runs."""
        connection = sqlite3.connect(f"file:{self.servers[0].database}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def whole(self):
        """Whether the file and its references are."""
        return self.query("PRAGMA integrity_check") == [("ok",)] and not self.query("PRAGMA foreign_key_check")

    def hit(self, draw, leftovers):
        """Kills the server. Returns who is to be started again."""
        self.servers[0].kill()
        leftovers.look(killed_at=time.monotonic())
        return self.servers

    def end(self):
        """Ends all of it."""
        for one in reversed(self.all):
            one.stop()


class _Together(_Alone):
    """Two servers and two agents on one PostgreSQL."""

    def __init__(self, options, folder, forge, repos):
        self.cluster = Cluster(folder / "postgres")
        self.cluster.__enter__()

        def one(role, number):
            agent = f'name = "{role}-{number}"\nlease = "5s"'
            return Server(options.binary, folder / f"{role}-{number}", forge.api_url, repos, slots=int(role == "agent"),
                          sandbox=options.sandbox, cache=False, store=self.cluster.url, role=role, agent=agent)

        self.servers = [one("serve", number) for number in (1, 2)]
        self.all = [*self.servers, *(one("agent", number) for number in (1, 2))]

    def query(self, sql):
        return self.cluster.query(sql)

    def whole(self):
        return all(count == 0 for (count,) in self.query(
            "SELECT count(*) FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM builds b WHERE b.id = o.build_id)"))

    def hit(self, draw, leftovers):
        if draw.random() < 0.1:
            self.cluster.crash()
            self.cluster.start()
            return []
        hit = draw.choice(self.all)
        hit.kill()
        leftovers.look([self.cluster.pid, *(one.pid for one in self.all if one is not hit)], killed_at=time.monotonic())
        return [hit]

    def end(self):
        super().end()
        self.cluster.crash()


def _rest(store, patience):
    """Waits until every stored build is finished and every status is sent, as long as there is progress."""
    left, since = None, time.monotonic()
    while True:
        now = (store.query("SELECT count(*) FROM builds WHERE state <> 'finished'")[0][0],
               store.query("SELECT count(*) FROM outbox WHERE fate = 'due'")[0][0])
        if now == (0, 0):
            return
        if now != left:
            left, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            print(f"  no progress for {patience} s: {now[0]} builds unfinished, {now[1]} statuses unsent")
            return
        time.sleep(0.5)


def _judge(store, forge, sender, leftovers):
    stored = dict(store.query("SELECT delivery, answer FROM deliveries"))
    builds = dict(store.query("SELECT id, state FROM builds"))
    outcomes = store.query("SELECT outcome, count(*) FROM builds GROUP BY outcome ORDER BY 2 DESC")
    whole = store.whole()
    dead = store.query("SELECT count(*) FROM outbox WHERE fate = 'dead'")[0][0]
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
        store = (_Together if options.store == "postgres" else _Alone)(options, folder, forge, {NAME: repository.url})
        sender, leftovers, starts = _Sender(store.servers, commits, options.rate), _Leftovers(forge), []
        try:
            for one in store.all:
                starts.append(one.launch())
            sender.start()
            for number in range(1, options.kills + 1):
                time.sleep(draw.uniform(0.02, options.life))
                leftovers.look()
                for one in store.hit(draw, leftovers):
                    starts.append(one.launch())
                leftovers.look()
                if number % 10 == 0:
                    print(f"  {number} kills, {len(sender.acknowledged)} acknowledged", flush=True)
            sender.ended.set()
            sender.join()
            begun = time.monotonic()
            _rest(store, options.rest)
            print(f"  at rest {time.monotonic() - begun:.1f} s after the last start; "
                  f"starts {pairs.spread([1e3 * one for one in starts], ' ms', 0)}")
            while leftovers.alive:
                leftovers.look()
                time.sleep(0.1)
            _judge(store, forge, sender, leftovers)
        finally:
            sender.ended.set()
            store.end()
