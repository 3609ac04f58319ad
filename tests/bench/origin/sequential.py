"""One after the other, each waited for before the next is thought of."""

import subprocess

from steps import BOWER, NPM, main


async def install(folder):
    subprocess.run(NPM, cwd=folder, stdin=subprocess.DEVNULL, check=True)
    subprocess.run(BOWER, cwd=folder, stdin=subprocess.DEVNULL, check=True)


main(install)
