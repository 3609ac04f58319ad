"""`hookmill serve` with a configuration of its own in a folder of its own."""

import datetime
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

from . import machine, processes, push

FORGE, SECRET = "forge", b"a hook secret of the benchmark"
_TOKEN = "token-of-the-benchmark"
_START = 20.0


def free_port():
    """A port of loopback that nobody has now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """Use as `with Server(…) as server`. `repos` maps `owner/name` to the address git fetches from.

    `measured`: runs under `measured.py`, and `cost()` tells the CPU time of the whole tree after `stop()`.
    `user`: a name; it runs as that user, who is given the folder. `store`: another one than SQLite in the folder, which
    several share; `role` is `serve` or `agent`, `agent` further lines of that table.
    """

    def __init__(self, binary, folder, api_url, repos, slots=1, sandbox="available", context="hookmill",
                 environment=None, limits="", measured=False, user=None, cache=True, store="sqlite://./data/hookmill.db", role="serve", agent="",
                 secret=SECRET, token=_TOKEN):
        self.store, self.role, self.agent = store, role, agent
        self.secret, self.token = secret, token
        self.binary, self.folder = Path(binary), Path(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.measured, self.user, self._process, self.pid = measured, user, None, None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "home").mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **(environment or {}),
        }
        self._write(api_url, repos, slots, sandbox, context, limits, cache)
        if user:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, user, pwd.getpwnam(user).pw_gid)

    def _write(self, api_url, repos, slots, sandbox, context, limits, cache):
        for name, content in (("hook-secret", self.secret), ("forge-token", self.token.encode())):
            (self.folder / name).write_bytes(content)
            (self.folder / name).chmod(0o600)
        blocks = "".join(
            f'\n[[repo]]\nforge = "{FORGE}"\nname = "{name}"\nclone_url = "{url}"\nhook_secret_file = "hook-secret"\n'
            # The same tree again is to be built again, where that is what is timed.
            + ("" if cache else "cache = false\n")
            for name, url in repos.items()
        )
        node = machine.version("node").split(".")[0]
        toolchain = f'[toolchain]\nnode = "{node}"\n' if node.isdigit() else ""
        (self.folder / "hookmill.toml").write_text(
            f"""# Written by a benchmark.
[server]
listen = "127.0.0.1:{self.port}"
public_url = "{self.url}"

[store]
url = "{self.store}"

[data]
dir = "./data"

[agent]
slots = {slots}
drain_timeout = "5s"
{self.agent}

[limits]
{limits}
{toolchain}
[sandbox]
require = "{sandbox}"
install_hosts = {json.dumps(["npm", "yarn", "bower", "node", *self._git_hosts(repos)])}

[statuses]
context = "{context}"

[[forge]]
name = "{FORGE}"
kind = "github"
api_url = "{api_url}"
web_url = "http://127.0.0.1:1"
token_file = "forge-token"
{blocks}""",
            encoding="utf-8",
        )

    @staticmethod
    def _git_hosts(repos):
        """Where bower finds the samples' components: the forge's git."""
        return sorted({urllib.parse.urlsplit(url).netloc for url in repos.values()})

    @property
    def database(self):
        """The SQLite file."""
        return self.folder / "data" / "hookmill.db"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Starts it and waits until it is ready. Returns the seconds until it listened."""
        seconds = self.launch()
        self._wait("/readyz", (200,))
        return seconds

    def launch(self):
        """Starts it and waits until it answers at all. Returns the seconds that took."""
        command = [str(self.binary), self.role, "--config", str(self.folder / "hookmill.toml")]
        if self.measured:
            command = [sys.executable, str(Path(__file__).with_name("measured.py")), str(self._result), *command]
        who = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []} if self.user else {}
        with open(self.folder / "serve.log", "ab") as log:
            begun = time.monotonic()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=self.environment,
                start_new_session=True, **who,
            )
        if self.role == "serve":
            self._listening()
        seconds = time.monotonic() - begun
        self.pid = self._process.pid
        if self.measured:
            self.pid = next(pid for pid in processes.descendants(self.pid) if self._is_ours(pid))
        return seconds

    def _is_ours(self, pid):
        try:
            return os.path.samefile(f"/proc/{pid}/exe", self.binary)
        except OSError:
            return False

    @property
    def _result(self):
        return self.folder / "cost.json"

    def _listening(self):
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"serve ended with {self._process.returncode}:\n{self.log_tail()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                    if connection.recv(64).startswith(b"HTTP/1.1 200"):
                        return
            except OSError:
                pass
            time.sleep(0.0005)
        raise TimeoutError(f"serve did not listen within {_START} s:\n{self.log_tail()}")

    def _wait(self, path, codes):
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            code, _ = self.get(path)
            if code in codes:
                return
            time.sleep(0.01)
        raise TimeoutError(f"{path} did not answer {codes} within {_START} s:\n{self.log_tail()}")

    def get(self, path):
        """One request: the code and the bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def build(self, number):
        """A build by the API."""
        code, content = self.get(f"/api/v1/builds/{number}")
        if code != 200:
            raise RuntimeError(f"GET build {number}: {code} {content[:200]!r}")
        return json.loads(content)

    def log(self, number, step):
        """What a step wrote."""
        code, content = self.get(f"/api/v1/builds/{number}/log?step={step}")
        if code not in (200, 206):
            raise RuntimeError(f"GET log of build {number}: {code} {content[:200]!r}")
        return content.decode(errors="replace")

    def delivery(self, repo, ref, before, after, size=7000, delivery=None):
        """The bytes of a signed push, ready to be sent."""
        body = push.payload(repo, ref, before, after, size)
        return push.request(f"/hooks/{FORGE}/{repo}", body, self.secret, delivery)

    def deliver(self, raw):
        """Sends a delivery that must make a build. Returns the build's id."""
        code, answer = push.send(self.port, raw)
        if code != 202 or not answer.get("build"):
            raise RuntimeError(f"the delivery was answered {code} {answer}\n{self.log_tail()}")
        return answer["build"]

    def own_processes(self):
        """Ids of all processes of this binary: the server and those it starts of itself."""
        return [pid for pid in [self.pid, *processes.descendants(self.pid)] if self._is_ours(pid)]

    def kill(self):
        """kill -9, of the server alone."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self):
        """Asks it to end, twice if needed, and kills it if it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        for patience in (10, 5):
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cost(self):
        """CPU seconds of everything it ever started; only for a `measured` server that was stopped."""
        return json.loads(self._result.read_text(encoding="ascii"))["cpu"]

    def query(self, sql):
        """Rows of the stopped server's database."""
        connection = sqlite3.connect(self.database)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def told(self, word):
        """Lines of its log whose message or fields hold `word`, as objects (they are JSON where nobody looks on)."""
        found = []
        for line in (self.folder / "serve.log").read_text(errors="replace").splitlines():
            if word in line and line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    def settle(self, patience=300):
        """Waits until it keeps nothing any more: nothing is coming in, and its processes used no CPU time for a second."""
        deadline, since, spent = time.monotonic() + patience, time.monotonic(), -1.0
        while time.monotonic() < deadline:
            incoming = self.folder / "data/snapshots/incoming"
            now = processes.cpu_seconds(self.pid)
            coming = incoming.is_dir() and any(incoming.iterdir())
            if now > spent + 0.015 or coming or processes.busy(self.pid):
                since, spent = time.monotonic(), now
            elif time.monotonic() - since >= 1:
                return
            time.sleep(0.05)
        raise TimeoutError(f"the server did not come to rest within {patience} s\n{self.log_tail()}")

    def log_tail(self, lines=15):
        """The end of its log."""
        try:
            return "\n".join((self.folder / "serve.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def instant(text):
    """Seconds since 1970 of a time of the API (RFC 3339)."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def until_open(port, patience=10):
    """Waits until somebody listens there."""
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def require(*programs):
    """Stops with the package's name when a program is missing."""
    packages = {"wrk": "wrk", "webhook": "webhook", "bwrap": "bubblewrap", "git": "git", "npm": "npm", "node": "nodejs"}
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        names = " ".join(packages.get(program, program) for program in missing)
        sys.exit(f"missing: {', '.join(missing)}; on Debian: apt-get install {names}")
