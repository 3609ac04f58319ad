"""A server that has built a sample before: what N2, N3, N4 and the costs push to."""

import time

from . import processes
from .server import Server, instant
from .shop import NAME

PATIENCE = 900
_ZERO = "0" * 40
_INSTALLS = ("npm", "bower")


class Pushed:
    """One push: what the forge heard when, and what the server tells of the build."""

    def __init__(self, server, build, status, wall, cpu):
        self.id, self.wall, self.cpu, self.sentence = build, wall, cpu, status["description"]
        self.shown = server.build(build)
        self.steps = {step["name"]: step for step in self.shown["steps"]}

    def hits(self):
        """Whether every install of the build came from a snapshot, by the words of its steps."""
        installs = [step for name, step in self.steps.items() if name.partition(":")[0] in _INSTALLS]
        return bool(installs) and all(step["cache"] == "hit" for step in installs)

    def told(self):
        """Where each step's result came from, for people."""
        notes = {name: f" ({step['cache_note']})" if step.get("cache_note") else "" for name, step in self.steps.items()}
        return ", ".join(f"{name} {self.steps[name]['cache']}{note}" for name, note in notes.items() if name != "checkout")

    def install_seconds(self):
        """From the checkout's end to the bundle's start, as the build's steps tell."""
        return instant(self.steps["bundle"]["started_at"]) - instant(self.steps["checkout"]["finished_at"])


class Warm:
    """Use as `with Warm(…) as warm`: a server with one build of the sample behind it, and nothing left to keep."""

    def __init__(self, options, folder, forge, shop, **more):
        self.forge, self.shop, self._before = forge, shop, _ZERO
        self.server = Server(more.pop("binary", options.binary), folder, forge.api_url, {NAME: shop.repository.url},
                             environment=shop.environment(more.pop("tools", None)), **more)

    def __enter__(self):
        self.server.start()
        try:
            self.first = self.push()
            print(f"  hookmill's first build: {self.first.wall:.2f} s, sandbox: {self.first.shown['sandbox']}", flush=True)
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_):
        self.server.stop()

    def push(self, branch="main", rest=True):
        """Pushes the sample's newest commit; `rest`: then waits until the server keeps nothing any more."""
        before = self._before if branch == "main" else _ZERO
        raw = self.server.delivery(NAME, f"refs/heads/{branch}", before, self.shop.commit)
        self._before = self.shop.commit if branch == "main" else self._before
        cpu, begun = processes.cpu_seconds(self.server.pid), time.monotonic()
        build = self.server.deliver(raw)
        status = self.forge.final(self.server, build, PATIENCE)
        wall, cpu = status["at"] - begun, processes.cpu_seconds(self.server.pid) - cpu
        if status["state"] != "success":
            raise RuntimeError(f"{status['state']}: {status['description']}\n{self.server.log_tail()}")
        pushed = Pushed(self.server, build, status, wall, cpu)
        if rest:
            self.server.settle()
        return pushed


def tell_misses(pushes):
    """Says plainly which builds ran a package manager although nothing had changed."""
    missed = [one for one in pushes if not one.hits()]
    if missed:
        print(f"  NO HIT in {len(missed)} of {len(pushes)} builds: the package manager ran ({missed[-1].told()})")
    return not missed
