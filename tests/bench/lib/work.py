"""Where a benchmark works, and the binary it works with."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def cache():
    """Kept between runs: what the registry on loopback fetched, and the tools."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("HOOKMILL_BENCH_CACHE") or f"{base}/hookmill-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Folder:
    """A temporary folder; `with Folder(keep) as path`."""

    def __init__(self, keep):
        self.keep = keep

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="hookmill-bench-"))
        return self.path

    def __exit__(self, *_):
        if self.keep:
            print(f"kept: {self.path}")
        else:
            remove(self.path)


def remove(path):
    """Removes a tree, also one whose folders were made unwritable."""
    for folder, _, _ in os.walk(path):
        try:
            os.chmod(folder, 0o700)
        except OSError:
            pass
    shutil.rmtree(path, ignore_errors=True)


def files(path):
    """How many files are beneath a folder."""
    return sum(len(names) for _, _, names in os.walk(path))


def disk(path):
    """Bytes on disk beneath a folder (st_blocks), a file of several names counted once."""
    seen, total = set(), 0
    for folder, _, names in os.walk(path):
        for name in (".", *names):
            try:
                found = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total


def target_folder():
    """Where cargo puts what it builds."""
    asked = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps", "--locked"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )
    return Path(json.loads(asked.stdout)["target_directory"])


def release_binary(given=None):
    """The release binary, built when there is none."""
    if given:
        path = Path(given).resolve()
        if not path.is_file():
            sys.exit(f"{path} is not a file")
        return path
    path = target_folder() / "release" / "hookmill"
    if not path.is_file():
        print("building the release binary (some minutes) …", flush=True)
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    return path
