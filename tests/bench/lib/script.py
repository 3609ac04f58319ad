"""Runs one of the origin's scripts in a fresh clone with empty caches."""

import json
import os
import subprocess
import sys
from pathlib import Path

from . import work

FOLDER = Path(__file__).resolve().parents[1] / "origin"
NAMES = ("sequential", "awaited_in_turn", "gathered")


def run(name, shop, patience=600):
    """The script's seconds: `install`, `bundle`, `wall` and `cpu`, which counts all processes it waited for."""
    with work.Folder(keep=False) as folder:
        environment = {**os.environ, **shop.environment(), "HOME": str(folder)}
        environment.update(npm_config_cache=str(folder / "npm"), XDG_CACHE_HOME=str(folder), CI="true",
                           XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder))
        result = folder / "cost.json"
        with open(folder / "output", "w+b") as output:
            ran = subprocess.run(
                [sys.executable, str(FOLDER / f"{name}.py"), shop.repository.url, str(folder / "clone"), str(result)],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=patience, check=False,
            )
            if ran.returncode != 0:
                output.seek(0)
                raise RuntimeError(f"{name} failed:\n{output.read().decode(errors='replace')[-3000:]}")
        if not (folder / "clone/dist/main.js").is_file():
            raise RuntimeError(f"{name} bundled nothing")
        return json.loads(result.read_text(encoding="ascii"))
