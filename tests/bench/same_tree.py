"""N4: a push of a tree that its scope built before (an empty commit: the same tree, a new id), delivery → final status.

Against the gathered script with a warm npm cache, which knows nothing of trees; with webpack's own cache on request.
"""

from lib import pairs, script, work
from lib.forge import Forge
from lib.registry import Registry
from lib.server import require
from lib.shop import Shop, sample_option
from lib.warm import Warm

NEEDS_BINARY = True


def options(parser):
    sample_option(parser)
    parser.add_argument("--webpack-cache", action="store_true", help="the script keeps webpack's own cache")
    parser.add_argument("--sandbox", choices=["available", "none"], default="available", help="sandbox.require of the server")


def run(options, folder):
    require("git", "npm", "node")
    with Forge(folder / "forge") as forge, Registry(work.cache() / "registry") as registry:
        shop = Shop(forge, registry, options.sample)
        home = script.Home(folder / "script", shop)
        home.run(webpack_cache=options.webpack_cache)
        with Warm(options, folder / "server", forge, shop, sandbox=options.sandbox) as warm:
            pushes = []

            def push():
                shop.next_commit("nothing")
                pushes.append(warm.push())
                return pushes[-1].wall * 1e3

            table = pairs.Table("hookmill", "script", " ms", digits=1, ratio_digits=4)
            for _, ours, theirs in pairs.interleave(
                options.pairs or 10, push, lambda: home.run(webpack_cache=options.webpack_cache)["wall"] * 1e3
            ):
                table.add(ours, theirs)
            afresh = [one for one in pushes if one.shown.get("same_as") is None]
            if afresh:
                print(f"  NO VERDICT REUSED in {len(afresh)} of {len(pushes)} builds: they were built afresh ({afresh[-1].told()})")
            table.close(goal=0.01)
            middle = pairs.middle(table.ours)
            pairs.verdict("≤ 150 ms", middle <= 150, f"{middle:.1f} ms")
