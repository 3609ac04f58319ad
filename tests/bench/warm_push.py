"""N3: a whole push whose dependencies did not change, delivery → final status, against the script.

Sources unchanged (a commit that changes the README: another tree, so that no verdict is reused) or one module changed.
Three scripts, all with a warm npm cache, each in turn first: in a fresh clone without webpack's cache; the same with webpack's
own cache (`--cache-type filesystem`) kept, at one path; and, as a floor, webpack alone with its cache in a clone that keeps
its dependencies too. Clones and fetches are outside the scripts' clock and inside ours.
"""

from lib import pairs, script, work
from lib.forge import Forge
from lib.registry import Registry
from lib.server import instant, require
from lib.shop import Shop, sample_option
from lib.warm import Warm, tell_misses

NEEDS_BINARY = True
# Name → arguments of the script, the goal.
_SCRIPTS = {
    "script without webpack's cache": ({}, 0.25),
    "script with webpack's cache": ({"webpack_cache": True}, 1.0),
    "webpack alone, all kept": ({"webpack_cache": True, "installed": True}, None),
}


def options(parser):
    sample_option(parser)
    parser.add_argument("--sources", choices=["unchanged", "one"], action="append", help="what a commit changes (both)")
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


def _seconds(step):
    return instant(step["finished_at"]) - instant(step["started_at"]) if step["started_at"] else 0.0


def _compare(options, warm, shop, homes, sources):
    what = {"unchanged": "readme", "one": "source"}[sources]
    print(f" sources: {sources}")
    pushes, times = [], {name: [] for name in ("hookmill", *_SCRIPTS)}
    shop.next_commit(what)
    warm.push()  # what the first push of this kind leaves is kept
    for number in range(options.pairs or 10):
        shop.next_commit(what)
        # Everybody stands in every place equally often.
        turns = list(times)
        turns = turns[number % len(turns):] + turns[:number % len(turns)]
        for name in turns:
            if name == "hookmill":
                pushes.append(warm.push())
                times[name].append(pushes[-1].wall)
            else:
                times[name].append(homes[name].run(**_SCRIPTS[name][0])["wall"])
        print(f"  round {number + 1:3}  " + "   ".join(f"{name} {times[name][-1]:.2f}s" for name in times), flush=True)
    for name, (_, goal) in _SCRIPTS.items():
        table = pairs.Table("hookmill", name, "s", quiet=True)
        for ours, theirs in zip(times["hookmill"], times[name]):
            table.add(ours, theirs)
        table.close(goal=goal)
    tell_misses(pushes)
    for name in pushes[0].steps:
        print(f"  hookmill {name:9} {pairs.spread([_seconds(one.steps[name]) for one in pushes], 's', 3)}  "
              f"cache: {pushes[-1].steps[name]['cache']}")
    print(f"  hookmill cpu       {pairs.spread([one.cpu for one in pushes], 's')}")


def run(options, folder):
    require("git", "npm", "node")
    with Forge(folder / "forge") as forge, Registry(work.cache() / "registry") as registry:
        shop = Shop(forge, registry, options.sample)
        homes = {name: script.Home(folder / f"script-{number}", shop) for number, name in enumerate(_SCRIPTS)}
        for name, home in homes.items():
            # The cold run that fills the caches; of it the last keeps its dependencies.
            home.run(webpack_cache=_SCRIPTS[name][0].get("webpack_cache", False))
        with Warm(options, folder / "server", forge, shop, sandbox=options.sandbox) as warm:
            for sources in options.sources or ("unchanged", "one"):
                _compare(options, warm, shop, homes, sources)
            print(f" sandbox: {warm.first.shown['sandbox']}")
