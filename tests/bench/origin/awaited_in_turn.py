"""Asynchronous to the eye: each coroutine is awaited before the next is started, so nothing runs side by side."""

from steps import BOWER, NPM, main, run


async def install(folder):
    await run(folder, NPM)
    await run(folder, BOWER)


main(install)
