"""Side by side: all are started, then all are awaited."""

import asyncio

from steps import installs, main, run


async def install(folder):
    await asyncio.gather(*(run(folder, command) for command in installs(folder)))


main(install)
