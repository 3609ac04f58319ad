"""A forge on loopback: git over HTTP (`git http-backend`) and the statuses API, which remembers."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

from . import loopback

_STATUSES = re.compile(r"^/api/repos/([^/]+/[^/]+)/statuses/([0-9a-f]{40})$")
_GIT = re.compile(r"^/(.+?\.git)/(info/refs|git-upload-pack|HEAD|objects/.*)$")
FINAL = ("success", "failure", "error")


class _Handler(loopback.Handler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if _GIT.match(path):
            self._git(path, query)
        else:
            self.answer(404)

    def do_POST(self):
        path, _, query = self.path.partition("?")
        if match := _STATUSES.match(path):
            heard = json.loads(self.body())
            # First kept, then late: what counts is when the forge has it.
            self.server.forge.keep(match[1], match[2], heard)
            time.sleep(self.server.forge.latency)
            self.answer(201, json.dumps({"id": 1, **heard}).encode())
        elif _GIT.match(path):
            self._git(path, query)
        else:
            self.body()
            self.answer(404)

    def _git(self, path, query):
        """Git's own server, by CGI (git-http-backend(1), RFC 3875)."""
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server.forge.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.body()
        environment["CONTENT_LENGTH"] = str(len(body))
        command = [self.server.forge.git, "http-backend"]
        git = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.server.forge.serving.add(git.pid)
        try:
            said, _ = git.communicate(body)
        finally:
            self.server.forge.serving.discard(git.pid)
        head, _, content = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        code = int(headers.pop("Status", "200").split()[0])
        kind = headers.pop("Content-Type", "text/plain")
        self.answer(code, content, kind, headers.items())


class Forge:
    """Use as `with Forge(folder) as forge`. Bare repositories lie in `root`; `latency` delays its answers, in seconds."""

    def __init__(self, folder, latency=0.0):
        self.root, self.latency = Path(folder), latency
        self.root.mkdir(parents=True, exist_ok=True)
        self.git = shutil.which("git")
        self.statuses = []
        self.serving = set()  # ids of its git processes
        self._heard = threading.Condition()
        self._server = loopback.Server(_Handler)
        self._server.forge = self
        self.url = self._server.url
        self.api_url = f"{self.url}/api"

    def __enter__(self):
        self._server.__enter__()
        return self

    def __exit__(self, *error):
        self._server.__exit__(*error)

    def keep(self, repo, sha, status):
        """Remembers one status with the moment it came."""
        with self._heard:
            self.statuses.append({"repo": repo, "sha": sha, "at": time.monotonic(), **status})
            self._heard.notify_all()

    def wait_for(self, found, patience):
        """Waits until `found(statuses)` is something, and returns that; None when it took too long."""
        deadline = time.monotonic() + patience
        with self._heard:
            while not (result := found(self.statuses)):
                left = deadline - time.monotonic()
                if left <= 0 or not self._heard.wait(left):
                    return found(self.statuses) or None
            return result

    def final(self, server, build, patience):
        """The final status of a server's build, by the link in it: every server counts its builds from one."""
        link = f"{server.url}/builds/{build}"

        def heard(statuses):
            return [one for one in statuses if one["target_url"].partition("?")[0] == link]

        def final(statuses):
            return next((one for one in reversed(heard(statuses)) if one["state"] in FINAL), None)

        status = self.wait_for(final, patience)
        if status is None:
            said = [(one["state"], one["description"]) for one in heard(self.statuses)]
            raise TimeoutError(f"build {build} got no final status within {patience} s; heard {said}\n{server.log_tail()}")
        return status

    def repository(self, name):
        """A new bare repository `owner/name`."""
        return Repository(self.root / f"{name}.git", f"{self.url}/{name}.git")


def build_of(status):
    """The build's id in a status's link, or None."""
    match = re.search(r"/builds/(\d+)", status.get("target_url") or "")
    return int(match[1]) if match else None


class Repository:
    """A bare repository that is written by `git fast-import`, so that a thousand commits cost one process."""

    def __init__(self, path, url):
        self.path, self.url = path, url
        self._git("init", "--quiet", "--bare", "--initial-branch=main", str(path), here=False)
        # As the big forges do: any commit may be asked for by its id.
        self._git("config", "uploadpack.allowAnySHA1InWant", "true")
        self._git("config", "http.receivepack", "false")
        self._count = 0

    def _git(self, *arguments, here=True, **more):
        command = ["git", *(["-C", str(self.path)] if here else []), *arguments]
        return subprocess.run(command, check=True, capture_output=True, **more).stdout

    def head(self, ref="refs/heads/main"):
        """The commit of a ref."""
        return self._git("rev-parse", ref).decode().strip()

    def commit(self, files, ref="refs/heads/main", parent=None):
        """One commit with these files (name to bytes) over those of `parent`. Returns its id."""
        return self.commits([files], [ref], parent)[0]

    def commits(self, changes, refs, parent=None):
        """One commit for each of `changes`, each on its own ref and over the same parent. Returns their ids."""
        marks = self.path / "bench-marks"
        stream = bytearray()
        for number, (files, ref) in enumerate(zip(changes, refs), 1):
            self._count += 1
            who = f"Ada <ada@example.invalid> {1_700_000_000 + self._count} +0000"
            message = f"Change {self._count}".encode()
            stream += f"commit {ref}\nmark :{number}\ncommitter {who}\ndata {len(message)}\n".encode() + message + b"\n"
            if parent:
                stream += f"from {parent}\n".encode()
            for name, content in files.items():
                stream += f'M 100644 inline {name}\ndata {len(content)}\n'.encode() + content + b"\n"
            stream += b"\n"
        self._git("fast-import", "--quiet", "--force", f"--export-marks={marks}", input=bytes(stream))
        found = dict(line.split() for line in marks.read_text(encoding="ascii").splitlines())
        return [found[f":{number}"] for number in range(1, len(changes) + 1)]

    def tag(self, name, commit):
        """A light tag."""
        self._git("tag", "--force", name, commit)
