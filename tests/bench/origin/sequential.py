"""One after the other, each waited for before the next is thought of."""

import subprocess

from steps import installs, main


async def install(folder):
    for command in installs(folder):
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, check=True)


main(install)
