"""N11: 10 000 queued builds with no-op steps: claims a second, and the time from claim to claim, from first to last.

Every build is one commit on a branch of its own, whose one step is `true`. The queue is filled with no agent
(`agent.slots = 0`); then the server starts again with slots, which claim until nothing is left. Claims are read from the
database afterwards. `--repos`: over so many repositories, which take turns. `--agents 1,2,4`: on a PostgreSQL, by one agent,
then by two, then by four, each time with a queue of its own.
"""

import concurrent.futures
import shutil
import statistics
import time

from lib import pairs
from lib.forge import Forge
from lib.postgres import Cluster
from lib.server import Server, require

NEEDS_BINARY = True
_BUILDS = 10_000


def options(parser):
    parser.add_argument("--builds", type=int, default=_BUILDS, help=f"how many builds ({_BUILDS})")
    parser.add_argument("--repos", type=int, default=1, help="over how many repositories (1)")
    parser.add_argument("--slots", type=int, default=1, help="how many builds at once, of each agent (1)")
    parser.add_argument("--agents", type=_counts, metavar="N,N", help="on a PostgreSQL, by so many agents, one number after the other")
    parser.add_argument("--sandbox", choices=["available", "none"], default="none", help="sandbox.require of the server")


def _counts(text):
    return [int(one) for one in text.split(",")]


def _fill(server, commits):
    """Delivers a push of each commit; returns how many a second were taken."""
    def one(push):
        number, (name, commit) = push
        return server.deliver(server.delivery(name, f"refs/heads/b{number}", "0" * 40, commit))

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        made = list(pool.map(one, enumerate(commits)))
    if len(set(made)) != len(commits):
        raise RuntimeError(f"{len(commits)} pushes made {len(set(made))} builds")
    return len(commits) / (time.monotonic() - begun)


def _drain(server, count, patience):
    """Waits until nothing is unfinished."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        code, text = server.get("/metrics")
        left = [line for line in text.decode().splitlines() if line.startswith("hookmill_builds{") and 'outcome=""' in line]
        if code == 200 and all(line.endswith(" 0") for line in left):
            return
        time.sleep(0.5)
    raise TimeoutError(f"not all of {count} builds ended within {patience} s\n{server.log_tail()}")


def _turns(repos):
    """The longest run of builds of one repository while others waited."""
    longest, run, last = 0, 0, None
    waiting = {name: repos.count(name) for name in set(repos)}
    for name in repos:
        others = any(count for other, count in waiting.items() if other != name)
        run = run + 1 if name == last and others else 1
        waiting[name] -= 1
        longest, last = max(longest, run), name
    return longest


def run(options, folder):
    require("git")
    with Forge(folder / "forge") as forge:
        names = [f"acme/r{number:04}" for number in range(options.repos)]
        repositories = {name: forge.repository(name) for name in names}
        commits = []
        for name, repository in repositories.items():
            each = options.builds // options.repos
            base = repository.commit({".hookmill.toml": b'[bundle]\ncommand = ["true"]\n'})
            refs = [f"refs/heads/b{len(commits) + number}" for number in range(each)]
            found = repository.commits([{"n": str(number).encode()} for number in range(each)], refs, base)
            commits += [(name, commit) for commit in found]
        urls = {name: repository.url for name, repository in repositories.items()}

        def one(name, **more):
            return Server(options.binary, folder / name, forge.api_url, urls, sandbox=options.sandbox, cache=False, **more)

        if options.agents is None:
            _judge(options, *_alone(options, one, commits, folder))
            return
        rates = {}
        for count in options.agents:
            print(f" {count} agents", flush=True)
            place = folder / f"{count}-agents"
            with Cluster(place / "postgres") as cluster:
                rows, log_tail = _together(options, count, one, commits, cluster, place.name)
            _judge(options, rows, log_tail, count)
            starts = [at for at, _, _ in rows]
            rates[count] = 1000 * len(starts) / max(starts[-1] - starts[0], 1)
            shutil.rmtree(place, ignore_errors=True)
        first = next(iter(rates))
        for count, rate in rates.items():
            print(f"  {count} agents: {rate:.1f} claims/s in all, {rate / rates[first]:.2f} times those of {first}", flush=True)


_ROWS = "SELECT started_at, outcome, repo FROM builds ORDER BY started_at, id"


def _alone(options, one, commits, folder):
    """One process on SQLite. Returns the builds, and the end of its log."""
    shutil.rmtree(folder / "hookmill", ignore_errors=True)
    with one("hookmill", slots=0) as server:
        print(f"  filled with {_fill(server, commits):.0f} builds a second", flush=True)
    with one("hookmill", slots=options.slots) as server:
        _drain(server, len(commits), 0.5 * len(commits) + 60)
    return server.query(_ROWS), server.log_tail()


def _together(options, count, one, commits, cluster, folder):
    """A server that runs nothing and so many agents, on one PostgreSQL. Returns as `_alone`."""
    with one(f"{folder}/serve", slots=0, store=cluster.url) as server:
        print(f"  filled with {_fill(server, commits):.0f} builds a second", flush=True)
        agents = [one(f"{folder}/agent-{number}", slots=options.slots, store=cluster.url, role="agent",
                      agent=f'name = "agent-{number}"') for number in range(count)]
        try:
            for agent in agents:
                agent.launch()
            _drain(server, len(commits), 0.5 * len(commits) + 60)
        finally:
            for agent in agents:
                agent.stop()
        return cluster.query(_ROWS), agents[0].log_tail()


def _judge(options, rows, log_tail, agents=1):
    failed = sum(outcome != "passed" for _, outcome, _ in rows)
    if failed:
        raise RuntimeError(f"{failed} of {len(rows)} builds did not pass\n{log_tail}")
    _tell([at for at, _, _ in rows])
    if options.repos > 1:
        longest = _turns([repo for _, _, repo in rows])
        at_once = options.slots * agents
        pairs.verdict("no repository comes twice while another waits", longest <= at_once, f"{longest} in a row")


def _tell(starts):
    tenth = len(starts) // 10
    deciles = [starts[n * tenth:(n + 1) * tenth + 1] for n in range(10)]
    rates, lates = [], []
    for number, decile in enumerate(deciles, 1):
        gaps = [after - before for before, after in zip(decile, decile[1:])]
        rates.append(len(gaps) / max(sum(gaps) / 1000, 1e-9))
        lates.append(pairs.percentile(gaps, 0.99))
        print(f"  tenth {number:2}: {rates[-1]:7.1f} claims/s, from claim to claim median {statistics.median(gaps):.0f} ms, "
              f"p99 {lates[-1]:.0f} ms", flush=True)
    pairs.verdict("claims a second, first / last ≤ 1.2", rates[0] <= 1.2 * rates[-1], f"{rates[0] / rates[-1]:.2f}")
    pairs.verdict("p99 from claim to claim, last / first ≤ 1.2", lates[-1] <= 1.2 * lates[0], f"{lates[-1] / lates[0]:.2f}")
