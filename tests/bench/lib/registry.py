"""A package registry on loopback: a proxy that keeps what it fetched, in front of wherever npm is configured to go.

Warmed outside the clock, it serves from disk. Addresses of tarballs are rewritten to itself.
Run by itself, since Python runs one thread at a time: `registry.py FOLDER UPSTREAM` prints its address.
"""

import hashlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import loopback  # noqa: E402

_SHORT = "application/vnd.npm.install-v1+json"


def upstream():
    """Where npm is configured to go."""
    asked = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True)
    return asked.stdout.strip().splitlines()[-1].rstrip("/") + "/"


class Registry:
    """The proxy as a process of its own: `with Registry(folder) as registry`, then `registry.url`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        command = [sys.executable, os.path.abspath(__file__), str(self.folder), upstream()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the registry on loopback did not start")
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(10)

    def misses(self):
        """How often it had to ask upstream so far."""
        with urllib.request.urlopen(f"{self.url}/-/misses", timeout=10) as reply:
            return json.load(reply)

    def environment(self):
        """What sends a package manager here."""
        return {"npm_config_registry": f"{self.url}/", "npm_config_replace_registry_host": "never"}


class _Kept:
    """What was fetched, on disk, and ready to send, in memory."""

    def __init__(self, folder, upstream_url):
        self.folder, self.upstream = folder, upstream_url
        self.misses = 0
        self._ready, self._locks, self._lock = {}, {}, threading.Lock()
        context = ssl.create_default_context()
        if extra := os.environ.get("NODE_EXTRA_CA_CERTS"):
            context.load_verify_locations(extra)
        self._open = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open

    def _fetch(self, url, accept):
        self.misses += 1
        last = None
        for _ in range(3):
            try:
                request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "npm"})
                with self._open(request, timeout=60) as reply:
                    return reply.read()
            except urllib.error.HTTPError:
                raise
            except (OSError, http.client.HTTPException) as error:
                last = error
        raise last

    def _file(self, kind, key, make):
        """The file of that name, made when it is not there; once, even when asked by many."""
        path = self.folder / kind / hashlib.sha256(key.encode()).hexdigest()
        with self._lock:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                part.write_bytes(make())
                part.rename(path)
        return path

    def packument(self, name, accept):
        """The document of a package, its tarballs at `own`/name/-/file."""
        kind = "short" if _SHORT in accept else "full"
        wanted = _SHORT if kind == "short" else "application/json"
        url = self.upstream + urllib.parse.quote(name, safe="@")
        return self._file(kind, name, lambda: self._fetch(url, wanted))

    def rewritten(self, name, accept, own):
        """The same as bytes to send."""
        key = (name, _SHORT in accept)
        if key not in self._ready:
            document = json.loads(self.packument(name, accept).read_bytes())
            for version in document.get("versions", {}).values():
                file = version["dist"]["tarball"].rpartition("/")[2]
                version["dist"]["tarball"] = f"{own}/{name}/-/{file}"
            self._ready[key] = json.dumps(document, separators=(",", ":")).encode()
        return self._ready[key]

    def tarball(self, name, file):
        """A tarball's path; its address comes from the package's document."""

        def make():
            document = json.loads(self.packument(name, _SHORT).read_bytes())
            for version in document.get("versions", {}).values():
                if version["dist"]["tarball"].rpartition("/")[2] == file:
                    return self._fetch(version["dist"]["tarball"], "*/*")
            raise FileNotFoundError(f"{name} has no {file}")

        return self._file("tarballs", f"{name}/{file}", make)


class _Handler(loopback.Handler):
    def do_GET(self):
        path = urllib.parse.unquote(self.path.partition("?")[0]).strip("/")
        kept = self.server.kept
        try:
            if path == "-/misses":
                self.answer(200, json.dumps(kept.misses).encode())
            elif "/-/" in path:
                name, _, file = path.partition("/-/")
                self.answer(200, kept.tarball(name, file).read_bytes(), "application/octet-stream")
            else:
                accept = self.headers.get("Accept", "")
                kind = _SHORT if _SHORT in accept else "application/json"
                self.answer(200, kept.rewritten(path, accept, self.server.url), kind)
        except urllib.error.HTTPError as error:
            self.answer(error.code, b"{}")
        except FileNotFoundError:
            self.answer(404, b"{}")
        except OSError as error:
            self.answer(502, json.dumps({"error": str(error)}).encode())

    def do_POST(self):
        # Audits and the like: nothing to say.
        self.body()
        self.answer(404, b"{}")


def main():
    folder, upstream_url = Path(sys.argv[1]), sys.argv[2]
    with loopback.Server(_Handler) as server:
        server.kept = _Kept(folder, upstream_url)
        print(server.url, flush=True)
        # The other end of this pipe closes when the benchmark ends, however it ends.
        sys.stdin.read()


if __name__ == "__main__":
    main()
