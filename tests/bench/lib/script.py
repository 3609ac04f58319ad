"""Runs one of the origin's scripts: in a fresh clone with empty caches, or in a home that keeps its caches."""

import json
import os
import subprocess
import sys
from pathlib import Path

from . import work

FOLDER = Path(__file__).resolve().parents[1] / "origin"
NAMES = ("sequential", "awaited_in_turn", "gathered")


def run(name, shop, patience=1800):
    """The script's seconds: `install`, `bundle`, `wall` and `cpu`, which counts all processes it waited for."""
    with work.Folder(keep=False) as folder:
        return Home(folder, shop, patience).run(name)


class Home:
    """A HOME that keeps npm's and bower's caches between runs, and the clone's place: webpack's cache holds paths."""

    def __init__(self, folder, shop, patience=1800):
        self.folder, self.shop, self.patience = Path(folder), shop, patience
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, name="gathered", webpack_cache=False, bundle=True, installed=False):
        """The seconds of one run.

        `webpack_cache`: webpack keeps its own cache from run to run. `installed`: in the clone of the run before, with the
        dependencies that it installed; else in a fresh clone, which is removed outside the clock.
        """
        folder, clone, result = self.folder, self.folder / "clone", self.folder / "cost.json"
        if not installed:
            work.remove(clone)
        environment = {**os.environ, **self.shop.environment(), "HOME": str(folder)}
        # A lockfile with integrities needs nothing of the registry that the cache holds.
        environment.update(npm_config_cache=str(folder / "npm"), npm_config_prefer_offline="true", CI="true",
                           XDG_CACHE_HOME=str(folder), XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder))
        command = [sys.executable, str(FOLDER / f"{name}.py"), self.shop.repository.url, str(clone), str(result)]
        command += [f"--webpack-cache={folder / 'webpack'}"] if webpack_cache else []
        command += [] if bundle else ["--no-bundle"]
        command += ["--installed"] if installed else []
        with open(folder / "output", "w+b") as output:
            ran = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 timeout=self.patience, check=False)
            if ran.returncode != 0:
                output.seek(0)
                raise RuntimeError(f"{name} failed:\n{output.read().decode(errors='replace')[-3000:]}")
        if bundle and not (clone / "dist/main.js").is_file():
            raise RuntimeError(f"{name} bundled nothing")
        return json.loads(result.read_text(encoding="ascii"))
