"""A server and an agent, each under its unit, on one PostgreSQL (README.md, "The store on PostgreSQL" and "More machines")."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from promises import NotHere, expect, until
from service import PATIENCE, UNITS, check, prop, run

_AGENT = "hookmill-agent.service"
_PASSWORD = "of-this-machine"
_DROP_IN = "[Service]\nUnsetEnvironment=HOOKMILL_STORE__URL\nEnvironment=HOOKMILL_AGENT__SLOTS=0\n"


def all_of(table, hookmill):
    """The last of the units' promises: the server has another store afterwards."""
    table.promise("agent: under its unit it builds for a server on PostgreSQL, in every layer", builds, hookmill)
    table.promise("agent: after kill -9 it is started again and its build goes on", killed, hookmill)


def _database():
    if not shutil.which("pg_lsclusters"):
        raise NotHere("no PostgreSQL")
    run("systemctl", "start", "postgresql.service")
    asked = ["runuser", "-u", "postgres", "--", "psql", "--quiet", "--command"]
    until(lambda: subprocess.run([*asked, "select 1"], check=False, capture_output=True).returncode == 0, PATIENCE, "PostgreSQL")
    run(*asked, f"create role hookmill login password '{_PASSWORD}'")
    run("runuser", "-u", "postgres", "--", "createdb", "--encoding", "UTF8", "--template", "template0", "--owner", "hookmill", "hookmill")
    (Path("/etc/hookmill/secrets/store-url")).write_text(
        f"postgres://hookmill:{_PASSWORD}@127.0.0.1/hookmill\n", encoding="ascii"
    )


def _agents_journal():
    return run("journalctl", "-u", _AGENT, "-n", "12", "--no-pager", "-o", "cat", check=False)


def builds(hookmill):
    _database()
    hookmill.configure('[store]\nurl_file = "secrets/store-url"\n')
    drop_in = UNITS / "hookmill.service.d"
    drop_in.mkdir(exist_ok=True)
    (drop_in / "shared.conf").write_text(_DROP_IN, encoding="ascii")
    run("systemctl", "daemon-reload")
    hookmill.start()
    run("systemctl", "start", _AGENT)
    said = run("journalctl", "-u", _AGENT, "--no-pager", "-o", "cat")
    expect("builds are confined" in said and "SANDBOX DEGRADED" not in said, _agents_journal())
    status = hookmill.final(hookmill.deliver(check("plain", "print(1)")))
    expect(status["state"] == "success", f"{status['description']}; {_agents_journal()}")
    return ""


def killed(hookmill):
    commit = hookmill.deliver(check("long", "import time\ntime.sleep(25)\n"))
    group = Path("/sys/fs/cgroup") / prop(_AGENT, "ControlGroup").lstrip("/")
    until(lambda: any(leaf.joinpath("cgroup.procs").read_text() for leaf in group.glob("step-*")), PATIENCE, "a step's leaf")
    mine = int(prop(_AGENT, "MainPID"))
    os.kill(mine, signal.SIGKILL)
    until(lambda: not list(group.glob(f"step-{mine}-*")), 30, "the end of the killed agent's leaves")
    status = hookmill.final(commit)
    expect(status["state"] == "success", f"{status['description']}; {_agents_journal()}")
    return ""
