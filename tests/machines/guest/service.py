"""Hookmill under systemd, as README.md installs it, and what its units promise."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from lib import push
from lib.forge import FINAL, Forge, build_of
from promises import Missed, NotHere, expect, until

SECRET, PORT = b"a hook secret of the machine", 4665
URL = f"http://127.0.0.1:{PORT}"
# An emulated processor needs its time; a promise of seconds is measured by the promise itself.
PATIENCE = 400
# What the server gives a tool to tell its version (src/toolchain/versions.rs).
_TOOLS_PATIENCE = 10
BINARY = Path("/usr/local/bin/hookmill")
UNITS = Path("/etc/systemd/system")
FULL = re.compile(r"^userns\+mount\+pid\+net\+overlay\+bwrap\+landlock\d+\+seccomp\+cgroup$")
ENVIRONMENT = {"HOOKMILL_DATA__DIR": "/var/lib/hookmill"}


def run(*command, check=True, **more):
    """A command's standard output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if check and done.returncode != 0:
        raise Missed(f"{' '.join(map(str, command))}: {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
    return done.stdout


def prop(unit, name):
    """A property of a unit."""
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


class Service:
    """The server under its unit, and a forge beside it. Use as `with Service(share) as service`."""

    unit = "hookmill.service"

    def __init__(self, share):
        self.deploy, self.binary = share / "deploy", share / "hookmill"
        self.forge = Forge("/srv/forge")
        self.node = run("node", "--version").strip().lstrip("v").split(".")[0]
        self.repositories = {}

    def __enter__(self):
        self.forge.__enter__()
        for name in ("acme/shop", "acme/slow"):
            self.repositories[name] = self.forge.repository(name)
        self.install()
        return self

    def __exit__(self, *error):
        run("systemctl", "stop", self.unit, "hookmill.socket", check=False)
        self.forge.__exit__(*error)

    def install(self):
        """README.md, "As a service", line by line."""
        shutil.copy(self.binary, BINARY)
        BINARY.chmod(0o755)
        Path("/etc/sysusers.d").mkdir(exist_ok=True)
        shutil.copy(self.deploy / "hookmill.sysusers", "/etc/sysusers.d/hookmill.conf")
        run("systemd-sysusers")
        (Path("/etc/hookmill") / "secrets").mkdir(parents=True)
        self.configure()
        for unit in ("hookmill.service", "hookmill.socket", "hookmill-agent.service"):
            shutil.copy(self.deploy / unit, UNITS / unit)
        run("systemctl", "daemon-reload")

    def configure(self, more=""):
        """Writes /etc/hookmill; `more` stands at its end."""
        folder = Path("/etc/hookmill")
        for name, content in (("hook", SECRET), ("token", b"token-of-the-machine"), ("admin", b"admin-token-of-machine")):
            (folder / "secrets" / name).write_bytes(content)
        blocks = "".join(
            f'[[repo]]\nforge = "forge"\nname = "{name}"\nclone_url = "{repository.url}"\nhook_secret_file = "secrets/hook"\n{limits}\n'
            for (name, repository), limits in zip(self.repositories.items(), ("", "limits = { cpus = 0.5 }"))
        )
        (folder / "hookmill.toml").write_text(
            f"""
[server]
public_url = "{URL}"
admin_token_file = "secrets/admin"
[agent]
slots = 1
[limits]
memory = "400MiB"
processes = 96
[toolchain]
node = "{self.node}"
[sandbox]
require = "full"
[[forge]]
name = "forge"
kind = "github"
api_url = "{self.forge.api_url}"
web_url = "http://127.0.0.1:1"
token_file = "secrets/token"
{blocks}{more}""",
            encoding="utf-8",
        )
        run("chown", "-R", "hookmill:", str(folder))
        run("chmod", "700", str(folder))

    def start(self):
        """Starts the unit; systemd waits for its word, Type=notify."""
        run("systemctl", "reset-failed", self.unit, check=False)
        run("systemctl", "restart", self.unit, check=False)
        # A database beside it may need longer than its first start has patience; then systemd starts it again.
        until(lambda: prop(self.unit, "ActiveState") == "active", PATIENCE, "the server's start")

    def journal(self, lines=30):
        """The end of its log."""
        return run("journalctl", "-u", self.unit, "-n", str(lines), "--no-pager", "-o", "cat", check=False)

    def get(self, path, post=False):
        """A document of the API, asked for with the administrator's token."""
        request = urllib.request.Request(
            URL + path, data=b"" if post else None, headers={"Authorization": "Bearer admin-token-of-machine"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def deliver(self, files, repo="acme/shop"):
        """A push of one commit with these files. Returns its id."""
        repository = self.repositories[repo]
        commit = repository.commit({name: content.encode() for name, content in files.items()})
        body = push.payload(repo, "refs/heads/main", "0" * 40, commit)
        code, said = push.send(PORT, push.request(f"/hooks/forge/{repo}", body, SECRET), 60)
        expect(code == 202, f"the delivery was answered {code}: {said}")
        return commit

    def build(self, commit):
        """The id of a commit's build, as soon as the forge was told of it."""
        heard = self.forge.wait_for(lambda all_: [build_of(one) for one in all_ if one["sha"] == commit], PATIENCE)
        expect(heard, f"no status of {commit}; {self.journal()}")
        return heard[0]

    def final(self, commit):
        """The final status of a commit."""

        def word(statuses):
            return next((one for one in statuses if one["sha"] == commit and one["state"] in FINAL), None)

        status = self.forge.wait_for(word, PATIENCE)
        expect(status, f"no final status of {commit}; {self.journal()}")
        return status

    def log(self, build):
        """What a build printed."""
        request = urllib.request.Request(
            f"{URL}/api/v1/builds/{build}/log", headers={"Authorization": "Bearer admin-token-of-machine"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode(errors="replace")

    def passes(self, commit):
        """The commit's build passed; its log."""
        status = self.final(commit)
        log = self.log(build_of(status))
        expect(status["state"] == "success", f"{status['description']}; {log[-700:]}; {self.journal(8)}")
        return log

    def group(self):
        """The control group of the unit."""
        return Path("/sys/fs/cgroup") / prop(self.unit, "ControlGroup").lstrip("/")

    def leaves(self):
        """Those of steps."""
        return sorted(self.group().glob("step-*"))


def check(name, script, program="python3"):
    """The files of a repository with one check, which runs `script`; not in node, which an emulator takes long to start."""
    return {
        ".hookmill.toml": f'[[check]]\nname = "{name}"\ncommand = ["{program}", "{name}.txt"]\n',
        f"{name}.txt": script,
    }


def all_of(table, hookmill):
    """The units as they are."""
    table.promise("unit: starts, and every layer is there", starts, hookmill)
    table.promise("unit: doctor says the same, from a terminal and inside the unit", doctor, hookmill)
    table.promise("unit: npm ci with an install script passes under require = full", installs, hookmill)
    table.promise("unit: a delivery during a restart waits at the socket", waits_at_the_socket, hookmill)


def starts(hookmill):
    hookmill.start()
    said = hookmill.get("/readyz")["parts"]["sandbox"]["detail"]
    expect(FULL.match(said), f"/readyz says {said}; {hookmill.journal()}")
    agent = hookmill.group() / "agent/cgroup.procs"
    expect(prop(hookmill.unit, "MainPID") in agent.read_text().split(), "the server is not in its own leaf")
    return said


def findings(*command):
    """The rows of `doctor` on the sandbox: name → state and words."""
    said = run(*command, check=False)
    try:
        rows = json.loads(said)["findings"]
    except ValueError:
        raise Missed(f"{command[-1]}: no document of doctor's: {said[:300]}") from None
    return {row["name"]: row for row in rows if row["group"] == "sandbox"}


def faults(rows):
    """Those that are none to have."""
    return {name: row for name, row in rows.items() if row["state"] != "good"}


def inside(hookmill, unit, *more, path="/usr/bin:/bin"):
    """A command of systemd-run that runs what follows with the directives of a unit, and `more`."""
    section = (hookmill.deploy / unit).read_text(encoding="utf-8").partition("[Service]")[2].partition("\n[")[0]
    own = [line for line in section.splitlines() if re.match(r"[A-Z]\w+=", line)]
    # A run of one command is not what these are about.
    skipped = ("Type", "Exec", "Restart", "KillMode", "Timeout", "StartLimit")
    taken = [line for line in own if not line.startswith(skipped)] + list(more)
    # What the server holds is the server's: another directory of the same kind.
    taken = [re.sub(r"(?<=[=/])hookmill(-agent)?(?=$|/)", "machine-test", line)
             if line.startswith(("StateDirectory=", "WorkingDirectory=", "Environment=")) else line for line in taken]  # fmt: skip
    properties = [word for line in taken for word in ("-p", line)]
    return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--setenv=PATH={path}", *properties]


def doctor(hookmill):
    path = only_bwrap()
    words = [f"{key}={value}" for key, value in {**ENVIRONMENT, "PATH": path}.items()]
    command = [str(BINARY), "doctor", "--json"]
    outside = findings("runuser", "-u", "hookmill", "--", "env", "--chdir=/var/lib/hookmill", *words, *command)
    within = findings(*inside(hookmill, hookmill.unit, path=path), *command)
    agents = findings(*inside(hookmill, "hookmill-agent.service", path=path), *command)
    for where, rows in (("a terminal", outside), ("the unit", within), ("the agent's unit", agents)):
        expect(not faults(rows), f"doctor in {where}: {faults(rows)}")
    return f"control groups: {within['control groups']['detail']}"


def only_bwrap():
    """A PATH on which doctor finds no tool to ask for its version, which an emulator takes long to do."""
    folder = Path("/run/only-bwrap")
    folder.mkdir(exist_ok=True)
    if not (folder / "bwrap").exists():
        (folder / "bwrap").symlink_to(shutil.which("bwrap"))
    return str(folder)


def installs(hookmill):
    begun = time.monotonic()
    run("node", "-p", "1")
    if (taken := time.monotonic() - begun) > _TOOLS_PATIENCE / 2:
        raise NotHere(f"node alone takes {taken:.0f} s on this host, and the server asks it for its version beside npm")
    package = {"name": "shop", "version": "1.0.0", "scripts": {"postinstall": "node look.js"}}
    lock = {"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {**package, "hasInstallScript": True}}}
    # What V8 asks of memory: pages to run what it compiles, and address space for WebAssembly.
    look = "new WebAssembly.Memory({initial: 1, maximum: 65536}); let n = 0; while (n < 1e6) n++; console.log('counted', n)"
    files = {
        "package.json": json.dumps(package), "package-lock.json": json.dumps(lock), "look.js": look,
        ".npmrc": "foreground-scripts=true\nupdate-notifier=false\n",
    }  # fmt: skip
    log = hookmill.passes(hookmill.deliver(files))
    expect("counted 1000000" in log, f"the install script left no word: {log[-600:]}")
    return ""


def waits_at_the_socket(hookmill):
    run("systemctl", "stop", hookmill.unit)
    run("systemctl", "start", "hookmill.socket")
    with socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE) as asked:
        asked.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        begun = time.monotonic()
        run("systemctl", "start", hookmill.unit)
        said = asked.recv(4096)
    expect(said.startswith(b"HTTP/1.1 200"), f"answered {said[:80]!r}")
    return f"answered {time.monotonic() - begun:.0f} s after it was asked"


# What each unit names at its end, and what it takes away.
LEFT_OUT = {
    "ProtectKernelTunables=yes": "user namespaces",
    "ProtectKernelLogs=yes": "user namespaces",
    "ProcSubset=pid": "user namespaces",
    "ProtectControlGroups=yes": "control groups",
    "ProtectHostname=yes": None,
    "RestrictNamespaces=yes": "user namespaces",
    "PrivateUsers=yes": None,
    # Refused, not killed for: else doctor itself ends without a word.
    "SystemCallFilter=@system-service SystemCallErrorNumber=EPERM": None,
}


def hardening(table, hookmill):
    """Every directive that the units leave out is left out for a reason, if not on this machine then on another."""
    # Else doctor would show the server's own control groups.
    run("systemctl", "stop", hookmill.unit, "hookmill.socket", check=False)
    for directive, layer in LEFT_OUT.items():
        table.promise(f"hardening: {directive} would take a layer away", takes_away, hookmill, directive, layer)
    table.promise("hardening: MemoryDenyWriteExecute=yes would end node", ends_node, hookmill)
    table.promise("hardening: exposure as systemd counts it", exposure, hookmill)


def probe(hookmill, *directives):
    """What doctor finds lacking under the unit with these beside its own."""
    command = [str(BINARY), "doctor", "--json"]
    return faults(findings(*inside(hookmill, hookmill.unit, *directives, path=only_bwrap()), *command))


def takes_away(hookmill, directive, layer):
    missing = probe(hookmill, *directive.split())
    if not missing:
        raise NotHere("here it takes none")
    expect("layers" not in missing and (layer is None or layer in missing), f"it takes {sorted(missing)}")
    name, row = next(iter(missing.items()))
    return f"{name}: {row['detail']}"


def ends_node(hookmill):
    script = "for (let i = 0, sum = 0; i < 1e6; i++) sum += Math.sqrt(i)"

    def ends_with(*directives):
        command = [*inside(hookmill, hookmill.unit, *directives), "node", "-e", script]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.returncode, done.stderr.strip()[-200:]

    expect(ends_with()[0] == 0, f"node does not even run without it: {ends_with()}")
    code, said = ends_with("MemoryDenyWriteExecute=yes")
    expect(code != 0, "node runs: the unit could have it")
    return f"node ends with {code} {said}"


def exposure(hookmill):
    said = run("systemd-analyze", "security", "--no-pager", hookmill.unit, "hookmill-agent.service", check=False)
    found = re.findall(r"Overall exposure level for (\S+): ([\d.]+) (\S+)", said)
    if not found:
        raise NotHere(said[-200:])
    return "; ".join(f"{unit} {level} {word}" for unit, level, word in found)
