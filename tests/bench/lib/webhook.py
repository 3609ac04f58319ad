"""adnanh/webhook, the other side: it verifies a signature and starts `true`."""

import json
import shutil
import subprocess
from pathlib import Path

from .server import SECRET, free_port, until_open


class Webhook:
    """Use as `with Webhook(folder) as hook`; deliveries go to `hook.path` at `hook.port`."""

    path = "/hooks/bench"

    def __init__(self, folder):
        self.folder, self.port = Path(folder), free_port()
        self.url = f"http://127.0.0.1:{self.port}{self.path}"

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        signed = {
            "type": "payload-hmac-sha256",
            "secret": SECRET.decode(),
            "parameter": {"source": "header", "name": "X-Hub-Signature-256"},
        }
        hooks = self.folder / "hooks.json"
        hook = {"id": "bench", "execute-command": shutil.which("true"), "trigger-rule": {"match": signed}}
        hooks.write_text(json.dumps([hook]), encoding="ascii")
        command = ["webhook", "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(self.port)]
        with open(self.folder / "webhook.log", "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self._process.pid
        until_open(self.port)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)
