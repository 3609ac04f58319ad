"""Hookmill in Docker: `deploy/Dockerfile`, and the options that `doctor` names. Nothing is pulled.

The images that the Dockerfile begins with are stood in for by this machine's own root: it has the same packages. Two programs
that would need the network are stood in for as well, `apt-get` (all is there) and `cargo` (the binary is there).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bounds import GREEDY
from promises import NotHere, Table, expect, tell, until
from service import check, run

_ROOT = ("usr", "bin", "sbin", "lib", "lib64", "etc")
_LEFT = ("usr/lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man", "usr/lib/postgresql", "usr/bin/dockerd",
         "usr/sbin/dockerd", "usr/bin/containerd*", "usr/lib/docker", "usr/libexec/docker", "usr/bin/docker", "usr/sbin/runc",
         "usr/bin/ctr", "usr/lib/firmware", "etc/hookmill", "usr/local/bin/hookmill")  # fmt: skip
_USERS = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
_PLAIN = "docker: without options nothing is confined, and doctor says which are missing"
# Each line of deploy/pod.yaml, and what a runtime makes of it in `_pods_container`.
_POD = ("hostUsers: false", "runAsUser: 4665", "seccompProfile: {type: Unconfined}", "allowPrivilegeEscalation: false",
        "capabilities: {drop: [ALL]}", "procMount: Unmasked")  # fmt: skip
_LINE = "docker: with them every layer is there but control groups, which the watch stands in for"


def all_of(table, share, root="/"):
    """Docker is started only if one of these is asked for, and does not run. `root` is a Debian with its packages."""
    with Docker(share, Path(root)) as docker:
        _all_of(table, docker)


def _all_of(table, docker):
    table.promise("docker: deploy/Dockerfile makes an image", docker.build)
    table.promise(_PLAIN, docker.plain)
    table.promise(_LINE, docker.confined)
    table.promise("docker: npm ci and a check run in it, confined", docker.runs)
    table.promise("docker: over --memory of the container a step ends, and not the container", docker.memory)
    table.promise("docker: in the container of deploy/pod.yaml every layer is there but control groups, and a check runs", docker.pod)
    table.promise("docker: compose takes deploy/compose.yaml", docker.compose)


# Names that nobody else's images have: the daemon may be somebody's.
_BASE, _IMAGE, _DEMO = "hookmill-machines-base", "hookmill-machines", "hookmill-machines-demo"


class Docker:
    """The daemon, and the image. Use as `with Docker(share, root) as docker`."""

    def __init__(self, share, root):
        self.share, self.root, self.options = share, root, []
        self.work = Path(tempfile.mkdtemp(prefix="containers-", dir="/var/tmp"))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if shutil.which("docker"):
            subprocess.run(["docker", "rmi", "-f", _IMAGE, _DEMO, _BASE], capture_output=True, check=False)
        shutil.rmtree(self.work, ignore_errors=True)

    def _start(self):
        if not shutil.which("docker"):
            raise NotHere("no docker")
        if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
            return
        run("systemctl", "start", "docker.service")
        until(lambda: subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0, 240, "dockerd")

    def _base(self):
        """The root as the image that both stages begin with."""
        own = self.work / "stand-ins"
        stand_ins = own / "usr/local/bin"
        stand_ins.mkdir(parents=True)
        (stand_ins / "apt-get").write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
        (stand_ins / "cargo").write_text(
            "#!/bin/sh\nset -e\nmkdir -p target/release\nmv hookmill target/release/hookmill\n", encoding="ascii"
        )
        for program in stand_ins.iterdir():
            program.chmod(0o755)
        for folder, mode in (("home", 0o755), ("root", 0o700), ("run", 0o755), ("tmp", 0o1777), ("var/tmp", 0o1777), ("etc", 0o755)):
            (own / folder).mkdir(parents=True, exist_ok=True)
            (own / folder).chmod(mode)
        # Without the service's user, whom the image makes.
        for name in _USERS:
            lines = (self.root / name).read_text(encoding="utf-8").splitlines(keepends=True)
            (own / name).write_text("".join(line for line in lines if not line.startswith("hookmill:")), encoding="utf-8")
        # No path may stand in an archive twice.
        own_names = [path.relative_to(own) for path in own.rglob("*")]
        left = [f"--exclude={name}" for name in (*_LEFT, *_USERS)]
        command = ["tar", "-c", *left, "-C", str(self.root), *_ROOT, "--no-recursion", "-C", str(own),
                   *(name for name in map(str, own_names) if name.split("/")[0] not in _ROOT or not (own / name).is_dir())]  # fmt: skip
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        packed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with packed:
            run("docker", "import", "--change", f"ENV {path}", "-", _BASE, stdin=packed.stdout)

    def build(self):
        self._start()
        self._base()
        context = self.work / "context"
        shutil.copytree(self.share / "deploy", context / "deploy")
        shutil.copy(self.share / "hookmill", context / "hookmill")
        file = context / "deploy/Dockerfile"
        text, stages = re.subn(r"^FROM \S+:\S+", f"FROM {_BASE}", file.read_text(encoding="utf-8"), flags=re.M)
        expect(stages == 2, f"{stages} stages of the Dockerfile begin with an image")
        file.write_text(text, encoding="utf-8")
        for target, name in (("demo", _DEMO), ("serve", _IMAGE)):
            run("docker", "build", "--pull=false", "-f", str(file), "--target", target, "-t", name, ".", cwd=context)
        return run("docker", "images", "--format", "{{.Size}}", _IMAGE).strip()

    def _doctor(self, *options):
        return self._missing(run("docker", "run", "--rm", "--pull=never", *options, _IMAGE, "doctor", "--json", check=False))

    @staticmethod
    def _missing(said):
        rows = {row["name"]: row for row in json.loads(said)["findings"] if row["group"] == "sandbox"}
        return {name: row for name, row in rows.items() if row["state"] != "good"}

    def plain(self):
        missing = self._doctor()
        expect("user namespaces" in missing, f"doctor misses {sorted(missing)}")
        fix = missing["user namespaces"]["fix"]
        named = re.search(r"docker run((?: --security-opt \S+=unconfined)+)", fix)
        expect(named, f"no options in {fix}")
        self.options = named[1].split()
        return f"{missing['user namespaces']['detail']}: docker run{named[1]}"

    def confined(self):
        expect(self.options, "doctor named no options")
        text = (self.share / "deploy/Dockerfile").read_text(encoding="utf-8")
        written = re.search(r'SANDBOX="(.*)"', text)[1].split()
        expect(sorted(written) == sorted(self.options), f"the Dockerfile says {written}, doctor {self.options}")
        missing = self._doctor(*self.options)
        expect(list(missing) == ["control groups"], f"doctor misses {missing}")
        return missing["control groups"]["detail"]

    def _sources(self, name, files):
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(content, encoding="utf-8")
        return folder

    def _run(self, folder, *options):
        command = ["docker", "run", "--rm", "--pull=never", *self.options, *options, "-v", f"{folder}:/sources:ro", _IMAGE, "run", "/sources",
                   "--json"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            return json.loads(done.stdout), done.stderr
        except ValueError:
            return {"outcome": f"no document: {done.stdout[-200:]}"}, done.stderr

    def runs(self):
        package = {"name": "shop", "version": "1.0.0", "scripts": {"postinstall": "echo in''stalled"}}
        lock = {"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {**package, "hasInstallScript": True}}}
        node = run("docker", "run", "--rm", "--pull=never", "--entrypoint", "node", _IMAGE, "--version").strip().lstrip("v").split(".")[0]
        files = {
            "package.json": json.dumps(package), "package-lock.json": json.dumps(lock),
            ".hookmill.toml": f'[toolchain]\nnode = "{node}"\n[[check]]\nname = "look"\ncommand = ["python3", "-c", "print(1)"]\n',
        }  # fmt: skip
        build, said = self._run(self._sources("shop", files))
        expect(build["outcome"] == "passed", f"{build}; {said[-900:]}")
        layers = re.search(r"userns\+\S+", said)
        return layers[0] if layers else ""

    def memory(self):
        files = check("greedy", GREEDY)
        build, said = self._run(self._sources("greedy", files), "--memory", "500m", "--memory-swap", "500m")
        expect(build["outcome"] == "failed", f"{build}; {said[-900:]}")
        return build.get("reason") or ""

    def _pods_container(self):
        """A bundle as the OCI runtime is given it for deploy/pod.yaml: the image's root in a user namespace."""
        bundle, first = self.work / "pod", 1 << 20
        (bundle / "rootfs").mkdir(parents=True)
        made = run("docker", "create", "--pull=never", _IMAGE).strip()
        with subprocess.Popen(["docker", "export", made], stdout=subprocess.PIPE) as packed:
            run("tar", "-x", "-C", str(bundle / "rootfs"), stdin=packed.stdout)
        run("docker", "rm", made)
        for path in [bundle / "rootfs", *(bundle / "rootfs").rglob("*")]:
            was = path.lstat()
            os.chown(path, was.st_uid + first, was.st_gid + first, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(was.st_mode & 0o7777)
        # The way there is the runtime's.
        for folder in (self.work, bundle):
            folder.chmod(0o711)
        run("runc", "spec", "--bundle", str(bundle))
        spec = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
        spec["root"]["readonly"] = False
        spec["process"].update(terminal=False, user={"uid": 4665, "gid": 4665}, cwd="/data", noNewPrivileges=True, capabilities={})
        spec["process"]["env"] += ["HOOKMILL_DATA__DIR=/data", "HOME=/home/hookmill"]
        mapping = [{"containerID": 0, "hostID": first, "size": 1 << 16}]
        spec["linux"].update(uidMappings=mapping, gidMappings=mapping, maskedPaths=[], readonlyPaths=[])
        spec["linux"].pop("seccomp", None)
        spec["linux"]["namespaces"].append({"type": "user"})
        return bundle, spec

    def pod(self):
        text = (self.share / "deploy/pod.yaml").read_text(encoding="utf-8")
        lacking = [line for line in _POD if line not in text]
        expect(not lacking, f"deploy/pod.yaml has no longer {lacking}")
        bundle, spec = self._pods_container()

        def ran(*arguments):
            spec["process"]["args"] = ["hookmill", *arguments]
            (bundle / "config.json").write_text(json.dumps(spec), encoding="utf-8")
            command = ["runc", "run", "--bundle", str(bundle), f"pod-{arguments[0]}"]
            return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

        done = ran("doctor", "--json")
        expect(done.stdout.startswith("{"), done.stderr[-600:])
        missing = self._missing(done.stdout)
        expect(list(missing) == ["control groups"], f"doctor misses {missing}")
        shutil.copytree(self._sources("plain", check("plain", "print(1)")), bundle / "rootfs/sources")
        done = ran("run", "/sources", "--json")
        expect(done.returncode == 0, f"{done.stdout[-300:]}; {done.stderr[-900:]}")
        return json.loads(done.stdout)["sandbox"]

    def compose(self):
        if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
            raise NotHere("no docker compose")
        said = run("docker", "compose", "-f", str(self.share / "deploy/compose.yaml"), "config", "--format", "json")
        services = json.loads(said)["services"]
        agent = services["agent"]["security_opt"]
        named = sorted(option for option in self.options if "=" in option)
        expect(not named or sorted(agent) == named, f"the agent has {agent}, doctor names {named}")
        return ", ".join(sorted(services))


def main():
    """`containers.py SHARE ROOT`: on a machine that is no emulated one."""
    share, root = map(Path, sys.argv[1:])
    all_of(Table((share / "only").read_text(encoding="utf-8").splitlines()), share, root)
    tell(end=True)


if __name__ == "__main__":
    main()
