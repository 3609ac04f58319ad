"""Side by side: both are started, then both are awaited."""

import asyncio

from steps import BOWER, NPM, main, run


async def install(folder):
    await asyncio.gather(run(folder, NPM), run(folder, BOWER))


main(install)
