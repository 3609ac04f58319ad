"""N9: one new commit fetched into a warm mirror and switched to in a warm workspace, against git's command line.

Ours is the agent's child process, as the agent calls it; theirs `git fetch` and `git switch` in a clone. The commit changes
three files. Each side is first every other time: whoever comes second finds the forge's pages warm.
"""

import subprocess
import time

from checkout_size import checkout
from lib import pairs
from lib.forge import Forge
from lib.server import require

NEEDS_BINARY = True
_SIZES = (800, 57_000)


def options(parser):
    parser.add_argument("--files", type=int, action="append", help="how many files; may be repeated (800 and 57 000)")


class _Clone:
    """git's command line in a clone of its own."""

    def __init__(self, repository, folder):
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", repository.url, str(folder)], check=True)

    def __call__(self, sha):
        begun = time.monotonic()
        for command in (("fetch", "--quiet", "origin", sha), ("switch", "--quiet", "--detach", sha)):
            subprocess.run(["git", *command], cwd=self.folder, check=True)
        return (time.monotonic() - begun) * 1e3


def _compare(options, folder, forge, files):
    repository = forge.repository(f"acme/files-{files}")
    sha = repository.commit({f"m{n % 190}/d{n % 7}/f{n}.js": f"export default {n};\n".encode() * 5 for n in range(files)})
    place = folder / str(files)
    checkout(options.binary, repository, sha, place)
    clone = _Clone(repository, folder / f"{files}-git")

    def ours():
        took, _, done = checkout(options.binary, repository, sha, place)
        if done["files"] != files or done["changed"] not in (3, None):
            raise RuntimeError(f"not the switch that was meant: {done}")
        return took * 1e3

    print(f" {files} files")
    table = pairs.Table("hookmill", "git", " ms", digits=1)
    numbers = iter(range(1, 10_000))

    def pair(first, second):
        nonlocal sha
        number = next(numbers)
        changed = (f"m{n % 190}/d{n % 7}/f{n}.js" for n in (number, number + 200, number + 400))
        sha = repository.commit({name: f"export default 'change {number}';\n".encode() for name in changed}, parent=sha)
        return first(), second()

    for number in range((options.pairs or 15) + 1):
        if number % 2:
            one, other = pair(ours, lambda: clone(sha))
        else:
            other, one = pair(lambda: clone(sha), ours)
        if number:  # the first switch of either side reads what it made from the disk
            table.add(one, other)
    table.close(goal=1.0)


def run(options, folder):
    require("git")
    with Forge(folder / "forge") as forge:
        for files in options.files or _SIZES:
            _compare(options, folder, forge, files)
