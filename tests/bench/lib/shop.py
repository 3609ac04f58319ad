"""The sample as it stands at the forge: repository, components, lockfile, and the bower that both sides use."""

import json
import os
import re
import subprocess

from sample import shop

from . import work

NAME = "acme/shop"
_BOWER = "1.8.14"


class Shop:
    """Writes the sample to `forge`, its packages served by `registry`."""

    def __init__(self, forge, registry):
        self.registry = registry
        components_url = f"{forge.url}/components"
        for name in shop.COMPONENTS:
            component = forge.repository(f"components/{name}")
            parent = None
            for version in shop.VERSIONS:
                parent = component.commit(shop.component(name, version, components_url), parent=parent)
                component.tag(version, parent)
        self.repository = forge.repository(NAME)
        self.files = shop.repository(components_url, self._lockfile())
        self.commit = self.repository.commit(self.files)
        self.tools = self._bower()

    def environment(self):
        """For both sides: where packages come from, and bower on PATH."""
        path = f"{self.tools}:{os.environ['PATH']}"
        return {**self.registry.environment(), "PATH": path, "bower_allow_root": "true", "bower_analytics": "false"}

    def next_commit(self, number):
        """One more commit: one source changed."""
        content = self.files["src/parts/part0.jsx"] + f"// change {number}\n".encode()
        self.commit = self.repository.commit({"src/parts/part0.jsx": content}, parent=self.commit)
        return self.commit

    def _npm(self, folder, *arguments):
        environment = {**os.environ, **self.registry.environment(), "npm_config_cache": str(folder / ".npm")}
        quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
        subprocess.run(["npm", *arguments, *quiet], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    def _lockfile(self):
        """Resolved once a machine; the registry's address in it is today's."""
        kept = work.cache() / f"package-lock-{shop.RESOLVED_AS_OF}.json"
        if not (kept.is_file() and _asks_for(kept, shop.PACKAGE)):
            with work.Folder(keep=False) as folder:
                (folder / "package.json").write_bytes(shop.package_json())
                self._npm(folder, "install", "--package-lock-only", f"--before={shop.RESOLVED_AS_OF}")
                kept.write_bytes((folder / "package-lock.json").read_bytes())
        text = kept.read_text(encoding="utf-8")
        return re.sub(r'"resolved": "http://127\.0\.0\.1:\d+/', f'"resolved": "{self.registry.url}/', text).encode()

    def _bower(self):
        """bower as an operator installs it: `npm install --global`, into a prefix of the benchmarks' own."""
        home = work.cache() / f"bower-{_BOWER}"
        if not (home / "bin/bower").exists():
            home.mkdir(exist_ok=True)
            self._npm(home, "install", "--global", "--prefix", str(home), f"bower@{_BOWER}")
        return home / "bin"


def _asks_for(lockfile, package):
    root = json.loads(lockfile.read_text(encoding="utf-8"))["packages"][""]
    return all(root.get(field) == package[field] for field in ("dependencies", "devDependencies"))
