"""The origin's three scripts, cold: what overlapping npm and bower is worth."""

import statistics

from lib import pairs, script
from lib.forge import Forge
from lib.registry import Registry
from lib.server import require
from lib.shop import Shop
from lib.work import cache

NEEDS_BINARY = False


def options(_parser):
    """None of its own."""


def run(options, folder):
    require("git", "npm", "node")
    rounds = options.pairs or 5
    with Forge(folder / "forge") as forge, Registry(cache() / "registry") as registry:
        shop = Shop(forge, registry)
        script.run("gathered", shop)
        misses = registry.misses()
        costs = {name: [] for name in script.NAMES}
        for number in range(rounds):
            # Every script stands in every place equally often.
            shift = number % len(script.NAMES)
            for name in (*script.NAMES[shift:], *script.NAMES[:shift]):
                cost = script.run(name, shop)
                costs[name].append(cost)
                print(f"  round {number + 1}  {name:16} " + "  ".join(f"{k} {v:6.2f}s" for k, v in cost.items()), flush=True)
        for part in ("install", "wall", "cpu"):
            print(f" {part}")
            for name in script.NAMES:
                print(f"  {name:16} {pairs.spread([cost[part] for cost in costs[name]], 's')}")
            for name in script.NAMES[:2]:
                ratios = [one[part] / other[part] for one, other in zip(costs[name], costs["gathered"])]
                print(f"  {name} / gathered: {pairs.spread(ratios, digits=3)}")
        print(f" the registry asked upstream {registry.misses() - misses} times during the rounds")
        print(f" beside npm: {statistics.median(c['install'] for c in costs['gathered']):.1f} s, "
              f"not {statistics.median(c['install'] for c in costs['sequential']):.1f} s")
