"""A sample as it stands at the forge: repository, components, and the bower that both sides use."""

import os
import shutil
import subprocess

from sample import generate

from . import work

NAME = "acme/shop"
_BOWER = "1.8.14"


def sample_option(parser, default="small"):
    """`--sample NAME`."""
    parser.add_argument("--sample", choices=list(generate.SAMPLES), default=default, help=f"which repository ({default})")


class Shop:
    """Writes a sample to `forge`, its packages served by `registry`. `changes`: further files (name to bytes)."""

    def __init__(self, forge, registry, sample="small", changes=None):
        self.registry, self.sample, self._number = registry, sample, 0
        components_url = f"{forge.url}/components"
        for name in generate.COMPONENTS if sample == "small" else ():
            component = forge.repository(f"components/{name}")
            parent = None
            for version in generate.VERSIONS:
                parent = component.commit(generate.component(name, version, components_url), parent=parent)
                component.tag(version, parent)
        self.repository = forge.repository(NAME)
        self.files = {**generate.repository(sample, components_url, registry.url), **(changes or {})}
        self.commit = self.repository.commit(self.files)
        self.tools = self._bower()

    def environment(self, tools=None):
        """For both sides: where packages come from, and bower on PATH (of `tools` instead, if given)."""
        path = f"{tools or self.tools}:{os.environ['PATH']}"
        return {**self.registry.environment(), "PATH": path, "bower_allow_root": "true", "bower_analytics": "false"}

    def copy_tools(self, folder):
        """bower copied to where another user can read it; what `environment` then takes."""
        shutil.copytree(self.tools.parent, folder, symlinks=True)
        return folder / "bin"

    def next_commit(self, what):
        """One more commit on main: `source` changes a module, `readme` the README, `nothing` not a file."""
        self._number += 1
        name = {"source": "src/parts/part0.jsx", "readme": "README.md", "nothing": None}[what]
        comment = f"// change {self._number}\n" if what == "source" else f"Change {self._number}.\n"
        files = {name: self.files[name] + comment.encode()} if name else {}
        self.commit = self.repository.commit(files, parent=self.commit)
        return self.commit

    def _bower(self):
        """bower as an operator installs it: `npm install --global`, into a prefix of the benchmarks' own."""
        home = work.cache() / f"bower-{_BOWER}"
        if not (home / "bin/bower").exists():
            home.mkdir(exist_ok=True)
            environment = {**os.environ, **self.registry.environment(), "npm_config_cache": str(home / ".npm")}
            command = ["npm", "install", "--global", "--prefix", str(home), f"bower@{_BOWER}", "--no-audit", "--no-fund",
                       "--loglevel=error", "--ignore-scripts"]
            subprocess.run(command, cwd=home, env=environment, check=True, stdout=subprocess.DEVNULL)
        return home / "bin"
