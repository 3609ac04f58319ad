"""Asynchronous to the eye: each coroutine is awaited before the next is started, so nothing runs side by side."""

from steps import installs, main, run


async def install(folder):
    for command in installs(folder):
        await run(folder, command)


main(install)
