"""What the three scripts share: the commands, and a clock around them."""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

NPM = ("npm", "ci")
BOWER = ("bower", "install")
WEBPACK = ("node_modules/.bin/webpack",)


async def run(folder, command):
    """One command, its output passed through. A failure ends the script."""
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdin=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")


def installs(folder):
    """The installs that the repository asks for."""
    return [NPM, *([BOWER] if (Path(folder) / "bower.json").exists() else [])]


def _cpu():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _arguments():
    parser = argparse.ArgumentParser(description="Clones outside the clock, installs, bundles; writes the seconds as JSON.")
    parser.add_argument("url")
    parser.add_argument("folder")
    parser.add_argument("result")
    parser.add_argument("--webpack-cache", metavar="DIR", help="webpack keeps its own cache there")
    parser.add_argument("--no-bundle", action="store_true", help="ends after the install")
    parser.add_argument("--installed", action="store_true", help="in the clone of a run before, whose dependencies are kept")
    return parser.parse_args()


def main(install):
    """`SCRIPT URL FOLDER RESULT`: clones, installs, bundles, and writes the seconds of the two as JSON."""
    asked = _arguments()
    webpack = WEBPACK
    if asked.webpack_cache:
        # By webpack's own switches, so that the repository stays as it is.
        webpack += ("--cache-type", "filesystem", "--cache-cache-directory", asked.webpack_cache)

    async def script():
        if asked.installed:
            for command in (("git", "fetch", "--quiet", "origin"), ("git", "reset", "--quiet", "--hard", "origin/HEAD")):
                subprocess.run(command, cwd=asked.folder, check=True)
        else:
            await run(None, ("git", "clone", "--quiet", asked.url, asked.folder))
        begun, cpu = time.monotonic(), _cpu()
        if not asked.installed:
            await install(asked.folder)
        installed = time.monotonic()
        if not asked.no_bundle:
            await run(asked.folder, webpack)
        ended = time.monotonic()
        cost = {"install": installed - begun, "bundle": ended - installed, "wall": ended - begun, "cpu": _cpu() - cpu}
        with open(asked.result, "w", encoding="ascii") as file:
            json.dump(cost, file)

    asyncio.run(script())
