"""The origin's three scripts, their npm caches empty: what overlapping npm and bower is worth.

Each without webpack's cache, and with webpack's own, which an earlier run at the same path left.
"""

import statistics

from lib import pairs, script
from lib.forge import Forge
from lib.registry import Registry
from lib.server import require
from lib.shop import Shop, sample_option
from lib.work import cache, remove

NEEDS_BINARY = False


def options(parser):
    sample_option(parser)
    parser.add_argument("--webpack-cache", choices=["without", "with", "both"], default="both", help="webpack's own cache (both)")


def _run(name, home, cached):
    """One script with empty caches of npm and bower; webpack's is kept where it is wanted."""
    for kept in home.folder.iterdir() if home.folder.is_dir() else ():
        if kept.name != "webpack":
            remove(kept) if kept.is_dir() else kept.unlink()
    return home.run(name, webpack_cache=cached)


def _told(costs, cached):
    print(f" {'with' if cached else 'without'} webpack's cache")
    for part in ("install", "bundle", "wall", "cpu"):
        print(f"  {part}")
        for name in script.NAMES:
            print(f"   {name:16} {pairs.spread([cost[part] for cost in costs[name]], 's')}")
        for name in script.NAMES[:2]:
            ratios = [one[part] / other[part] for one, other in zip(costs[name], costs["gathered"])]
            low, high = pairs.interval(ratios)
            print(f"   {name} / gathered: {pairs.spread(ratios, digits=3)}, 95 % interval {low:.3f} to {high:.3f}")


def run(options, folder):
    require("git", "npm", "node")
    rounds = options.pairs or 5
    wanted = {"without": [False], "with": [True], "both": [False, True]}[options.webpack_cache]
    with Forge(folder / "forge") as forge, Registry(cache() / "registry") as registry:
        shop = Shop(forge, registry, options.sample)
        home = script.Home(folder / "home", shop)
        home.run(webpack_cache=True in wanted)  # fills the registry's disk, and webpack's cache
        misses = registry.misses()
        costs = {cached: {name: [] for name in script.NAMES} for cached in wanted}
        turns = [(name, cached) for cached in wanted for name in script.NAMES]
        for number in range(rounds):
            # Every script stands in every place equally often.
            shift = number % len(turns)
            for name, cached in (*turns[shift:], *turns[:shift]):
                cost = _run(name, home, cached)
                costs[cached][name].append(cost)
                print(f"  round {number + 1}  {name:16} {'with   ' if cached else 'without'}  "
                      + "  ".join(f"{k} {v:6.2f}s" for k, v in cost.items()), flush=True)
        for cached in wanted:
            _told(costs[cached], cached)
        print(f" the registry asked upstream {registry.misses() - misses} times during the rounds")
        first = costs[wanted[0]]
        print(f" beside npm: {statistics.median(c['install'] for c in first['gathered']):.1f} s, "
              f"not {statistics.median(c['install'] for c in first['sequential']):.1f} s")
