"""A PostgreSQL of the benchmark's own on loopback, asked by psql."""

import csv
import glob
import io
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from .server import free_port

_ROLE = "hookmill"


def _binary(name):
    """On PATH, else the newest where Debian puts it."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: int(path.split("/")[4]))
    path = found[-1] if found else shutil.which(name)
    return path or sys.exit(f"missing: {name}; on Debian: apt-get install postgresql")


class Cluster:
    """Use as `with Cluster(folder) as cluster`. Commits are synced, as a database's are that must not lose any."""

    def __init__(self, folder):
        self.folder, self.port = Path(folder), free_port()
        self.folder.mkdir(parents=True)
        # PostgreSQL refuses to run as root: then it is its package's user's.
        root = os.geteuid() == 0
        self._who = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []} if root else {}
        if root:
            shutil.chown(self.folder, "postgres", pwd.getpwnam("postgres").pw_gid)
            for parent in self.folder.parents:
                if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        self.data, self._process = self.folder / "data", None

    @property
    def url(self):
        """For `[store] url`."""
        return f"postgres://{_ROLE}@127.0.0.1:{self.port}/postgres"

    def __enter__(self):
        subprocess.run([_binary("initdb"), "--no-locale", "--encoding=UTF8", "--auth=trust", "-U", _ROLE, "-D", self.data],
                       check=True, capture_output=True, cwd="/", **self._who)
        self.start()
        return self

    def __exit__(self, *_):
        self.crash()

    def start(self):
        """Starts it and waits until it answers."""
        with open(self.folder.parent / "postgres.log", "ab") as log:
            command = [_binary("postgres"), "-D", self.data, "-p", str(self.port), "-k", str(self.folder),
                       "-c", "listen_addresses=127.0.0.1"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **self._who)
        ready = [_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with {self._process.returncode}")

    def crash(self):
        """Ends it at once; it recovers at its next start."""
        self._process.send_signal(3)  # SIGQUIT: immediate shutdown
        self._process.wait()

    def query(self, sql):
        """Rows of numbers and texts; a null is an empty text."""
        command = [_binary("psql"), "-X", "-q", "--csv", "-t", "-h", "127.0.0.1", "-p", str(self.port), "-U", _ROLE,
                   "-d", "postgres", "-c", sql]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [tuple(int(one) if one.isdecimal() else one for one in row) for row in csv.reader(io.StringIO(said))]

    @property
    def pid(self):
        """Its first process."""
        return self._process.pid
