"""What the three scripts share: the commands, and a clock around them."""

import asyncio
import json
import resource
import sys
import time

NPM = ("npm", "ci")
BOWER = ("bower", "install")
WEBPACK = ("node_modules/.bin/webpack",)


async def run(folder, command):
    """One command, its output passed through. A failure ends the script."""
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdin=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")


def _cpu():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def main(install):
    """`SCRIPT URL FOLDER RESULT`: clones outside the clock, installs, bundles, and writes the seconds as JSON."""
    url, folder, result = sys.argv[1:4]

    async def script():
        await run(None, ("git", "clone", "--quiet", url, folder))
        begun, cpu = time.monotonic(), _cpu()
        await install(folder)
        installed = time.monotonic()
        await run(folder, WEBPACK)
        ended = time.monotonic()
        cost = {"install": installed - begun, "bundle": ended - installed, "wall": ended - begun, "cpu": _cpu() - cpu}
        with open(result, "w", encoding="ascii") as file:
            json.dump(cost, file)

    asyncio.run(script())
