"""N2: the install phase of a push whose lockfiles did not change, against the gathered script with a warm npm cache.

Ours, twice: from the checkout's end to the bundle's start as the API tells the steps; and, harder, to the moment that the
bundle's own process reads from the clock, once it has found what was installed. The bundle is that command alone. Theirs:
npm and bower side by side in a fresh clone, nothing but the installs timed.
"""

import os
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import pairs, script, work
from lib.forge import Forge
from lib.registry import Registry
from lib.server import instant, require
from lib.shop import Shop, sample_option
from lib.warm import Warm, tell_misses

NEEDS_BINARY = True
# Way → sandbox.require, whether each push is of a branch of its own (which may not take main's tree away by rename),
# the file system of a loop device, and whether the goal is the one for machines with namespaces or reflinks.
WAYS = {
    "overlay": ("available", False, None, True),
    "overlay-user": ("available", False, None, True),
    "reflink-btrfs": ("none", True, "btrfs", True),
    "reflink-xfs": ("none", True, "xfs", True),
    "rename": ("none", False, None, False),
    "copy": ("none", True, None, None),
}
# How many times faster than the script, and milliseconds at most.
_GOALS = {"small": (50, 50), "medium": (100, 50), "large": (100, 50)}
_MODEST = (10, None)
_IMAGE = 24 << 30  # sparse
# The clock first, then whether what was installed is there.
_BUNDLE = ("date +%s.%N; test -f node_modules/webpack/package.json; "
           "test ! -f bower.json || test -d bower_components/shop-base")
_CONFIG = f'[bundle]\ncommand = ["sh", "-ec", "{_BUNDLE}"]\n'.encode()


def options(parser):
    sample_option(parser)
    parser.add_argument("--way", choices=list(WAYS), action="append", help="how trees are brought in; may be repeated (all)")
    parser.add_argument("--user", default="nobody", help="who is the ordinary user of overlay-user (nobody)")


@contextmanager
def _loop(kind, folder):
    """A file system of its own in a file, mounted on `folder`. Yields None where that can't be."""
    if os.geteuid() != 0 or not shutil.which(f"mkfs.{kind}"):
        yield None
        return
    folder.mkdir()
    image = folder.with_suffix(".image")
    with open(image, "wb") as file:
        file.truncate(_IMAGE)
    more = ["-m", "reflink=1"] if kind == "xfs" else []
    subprocess.run([f"mkfs.{kind}", "-q", *more, str(image)], check=True, stdout=subprocess.DEVNULL)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        print(f"  {mounted.stderr.strip()}")
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
        image.unlink()


def _clock(server, build):
    """When the bundle's own process read the clock, in seconds since 1970."""
    found = re.search(r"^(\d{9,11}\.\d{9})\s*$", server.log(build, "bundle"), re.MULTILINE)
    if not found:
        raise RuntimeError("the bundle told no time")
    return float(found[1])


def _place(stack, way, folder):
    """Where the server of a way works; None, said why, where this machine has no such way."""
    kind = WAYS[way][2]
    if kind:
        place = stack.enter_context(_loop(kind, folder / way))
        if place is None:
            print(f"  skipped: a {kind} of a file needs root, mount and mkfs.{kind} (on Debian: btrfs-progs, xfsprogs)")
            return None
        return place / "server"
    if way == "overlay-user" and os.geteuid() != 0:
        print("  skipped: only root can start the server as somebody else; run --way overlay as this user")
        return None
    return folder / way


def _as_user(options, way, folder, shop):
    """What makes the server run as an ordinary user: the binary and bower where that user can read them."""
    if way != "overlay-user":
        return {}
    folder.chmod(0o755)
    binary = Path(shutil.copy2(options.binary, folder / "hookmill-of-user"))
    binary.chmod(0o755)
    return {"user": options.user, "tools": shop.copy_tools(folder / "tools-of-user"), "binary": binary}


def _measure(options, way, place, forge, shop, home, more):
    sandbox, own_branch, _, strict = WAYS[way]
    faster, most = {True: _GOALS[options.sample], False: _MODEST, None: (None, None)}[strict]
    numbers, pushes, hard = iter(range(10_000)), [], []
    with Warm(options, place, forge, shop, sandbox=sandbox, **more) as warm:

        def push():
            # A tree that differs, so that no verdict of the one before is reused.
            shop.next_commit("readme")
            pushed = warm.push(f"{way}-{next(numbers)}" if own_branch else "main")
            pushes.append(pushed)
            checked_out = instant(pushed.steps["checkout"]["finished_at"])
            return pushed.install_seconds() * 1e3, (_clock(warm.server, pushed.id) - checked_out) * 1e3

        push()  # the first hit reads what no later one reads from the disk
        pushes.clear()
        table = pairs.Table("hookmill", "script", " ms", digits=1, ratio_digits=4)
        for _, ours, theirs in pairs.interleave(
            options.pairs or 10, push, lambda: home.run(bundle=False)["install"] * 1e3
        ):
            # The API counts whole milliseconds.
            table.add(max(ours[0], 0.5), theirs)
            hard.append(ours[1])
        print(f"  sandbox as the build names it: {pushes[-1].shown['sandbox']}")
    hit = tell_misses(pushes)
    table.close(goal=1 / faster if faster else None, what="install phase (by the API's steps)")
    ratios = [one / other for one, other in zip(hard, table.theirs)]
    low, high = pairs.interval(ratios)
    print(f"  harder, to the bundle's own clock: {pairs.spread(hard, ' ms', 1)}; ratio {pairs.spread(ratios, digits=4)}, "
          f"95 % interval of the median {low:.4f} to {high:.4f}")
    if faster:
        times = 1 / pairs.middle(ratios)
        pairs.verdict(f"to the bundle's own clock ≥ {faster} times faster", times >= faster, f"{times:.1f} times")
    if most:
        middle = pairs.middle(hard)
        pairs.verdict(f"to the bundle's own clock ≤ {most} ms", middle <= most, f"{middle:.1f} ms")
    if not hit:
        print("  these figures are of builds that installed: not of restored trees")


def run(options, folder):
    require("git", "npm", "node")
    with Forge(folder / "forge") as forge, Registry(work.cache() / "registry") as registry:
        shop = Shop(forge, registry, options.sample, {".hookmill.toml": _CONFIG})
        home = script.Home(folder / "script", shop)
        first = home.run(bundle=False)  # fills npm's cache, and bower's
        print(f" {options.sample}: the script's cold install {first['install']:.2f} s, "
              f"{work.files(home.folder / 'clone/node_modules')} files in node_modules", flush=True)
        for way in options.way or WAYS:
            print(f" {way}")
            with ExitStack() as stack:
                place = _place(stack, way, folder)
                if place is None:
                    continue
                more = _as_user(options, way, folder, shop)
                try:
                    _measure(options, way, place, forge, shop, home, more)
                finally:
                    work.remove(place)
