"""N1: a cold push, from the delivery's first byte to the final status at the forge, against the gathered script.

Both start with empty caches and without a clone; the script's clone is outside its clock, ours is inside. Packages come
from a registry on loopback, so that the network is not what is timed. CPU seconds: for the script all that it waited for;
for us the server's whole tree from the delivery until it has ended (start-up is taken off, the stop is not).
"""

import time

from lib import pairs, processes, script, work
from lib.forge import Forge
from lib.registry import Registry
from lib.server import Server, instant, require
from lib.shop import NAME, Shop, sample_option

NEEDS_BINARY = True
_PATIENCE = 600
_ZERO = "0" * 40


def options(parser):
    sample_option(parser)
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


def _push(options, shop, forge, steps):
    """One cold push: its wall and CPU seconds."""
    with work.Folder(options.keep) as folder:
        server = Server(options.binary, folder, forge.api_url, {NAME: shop.repository.url}, sandbox=options.sandbox,
                        environment=shop.environment(), measured=True)
        with server:
            raw = server.delivery(NAME, "refs/heads/main", _ZERO, shop.commit)
            cpu = processes.cpu_seconds(server.pid)
            begun = time.monotonic()
            build = server.deliver(raw)
            status = forge.final(server, build, _PATIENCE)
            wall = status["at"] - begun
            if status["state"] != "success":
                raise RuntimeError(f"{status['state']}: {status['description']}\n{server.log_tail()}")
            shown = server.build(build)
            steps.append({one["name"]: _seconds(one) for one in shown["steps"]})
            server.stop()
        return wall, server.cost() - cpu, shown["sandbox"]


def _seconds(step):
    return instant(step["finished_at"]) - instant(step["started_at"]) if step["started_at"] else 0.0


def run(options, folder):
    require("git", "npm", "node")
    count = options.pairs or 5
    with Forge(folder / "forge") as forge, Registry(work.cache() / "registry") as registry:
        shop = Shop(forge, registry, options.sample)
        script.run("gathered", shop)  # fills the registry's disk and the page cache
        misses, steps, theirs = registry.misses(), [], []
        wall = pairs.Table("hookmill", "script", "s")
        cpu = []
        sandbox = "?"

        def push():
            return _push(options, shop, forge, steps)

        def gathered():
            theirs.append(script.run("gathered", shop))
            return theirs[-1]

        for _, ours, cost in pairs.interleave(count, push, gathered):
            wall.add(ours[0], cost["wall"])
            cpu.append((ours[1], cost["cpu"]))
            sandbox = ours[2]
        print(f" sandbox: {sandbox}")
        print(" wall")
        wall.close(goal=1.05)
        print(" cpu seconds")
        used = pairs.Table("hookmill", "script", "s")
        for one, other in cpu:
            used.add(one, other)
        used.close(goal=1.02, what="cpu")
        print(" by step")
        for name in steps[0]:
            print(f"  hookmill {name:9} {pairs.spread([one.get(name, 0.0) for one in steps], 's')}")
        for name in ("install", "bundle"):
            print(f"  script   {name:9} {pairs.spread([cost[name] for cost in theirs], 's')}")
        print(f" the registry asked upstream {registry.misses() - misses} times during the pairs")
