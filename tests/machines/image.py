"""A Debian as one ext4 image, with its kernel beside it. Made once and kept; what is tried in it comes by a shared folder."""

import os
import shutil
import subprocess
from pathlib import Path

# What a machine that runs Hookmill has, and what stands in for the outside (git's own server, a database).
_PACKAGES = [
    "systemd-sysv", "udev", "dbus", "kmod", "linux-image-amd64", "util-linux", "iproute2", "procps", "netbase",
    "bubblewrap", "git", "ca-certificates", "nodejs", "npm", "python3",
    "apparmor", "docker.io", "iptables", "postgresql",
]  # fmt: skip
# Compose as Docker's own program; before, Debian has only the older one.
_MORE = {"bookworm": [], "trixie": ["docker-cli", "docker-compose", "docker-buildx"]}
SUITES = list(_MORE)

# Starts what is tried and ends the machine, whatever comes of it.
_UNIT = """[Unit]
Description=The promises
After=multi-user.target
RequiresMountsFor=/mnt
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/usr/bin/python3 -B /mnt/guest/begin.py
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""
# For whoever looks into a machine; without `--console` nobody is at the other end.
_CONSOLE = """[Unit]
Description=A shell on the second serial line

[Service]
ExecStart=/bin/bash --norc --noediting -i
WorkingDirectory=/root
Environment=HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
StandardInput=tty
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
Restart=always
"""
_FSTAB = """/dev/vda / ext4 defaults,noatime 0 1
promises /mnt 9p ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose 0 0
"""
# Theirs is a life of months, ours one of minutes.
_QUIET = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
          "man-db.timer", "dpkg-db-backup.timer", "systemd-networkd-wait-online.service", "getty@tty1.service",
          "serial-getty@ttyS0.service"]  # fmt: skip
# Started by those who try them.
_ON_DEMAND = ["docker.service", "docker.socket", "containerd.service", "postgresql.service"]


def cache():
    """Where images are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("HOOKMILL_MACHINES_CACHE") or f"{base}/hookmill-machines")


def of(suite):
    """The folder with `disk`, `kernel` and `initrd` of a suite; made when it is not there."""
    made = cache() / suite
    if not (made / "disk").exists():
        coming = cache() / f"{suite}.coming"
        shutil.rmtree(coming, ignore_errors=True)
        coming.mkdir(parents=True)
        _make(suite, coming)
        coming.rename(made)
    return made


def _make(suite, folder):
    root, log = folder / "root", folder / "making.log"
    mirror = os.environ.get("HOOKMILL_MACHINES_MIRROR")
    print(f"{suite}: making the image (once; {log})", flush=True)
    with open(log, "wb") as heard:
        said = {"check": True, "stdin": subprocess.DEVNULL, "stdout": heard, "stderr": heard}
        subprocess.run(["debootstrap", "--variant=minbase", suite, str(root), *([mirror] if mirror else [])], **said)
        # By apt, not by debootstrap, which does not know the packages that provide what npm's depend on.
        _install(root, _PACKAGES + _MORE[suite], said)
    settle(root)
    for name, into in (("vmlinuz-*", "kernel"), ("initrd.img-*", "initrd")):
        shutil.copyfile(max((root / "boot").glob(name)), folder / into)
    disk = folder / "disk.coming"
    with open(disk, "wb") as file:
        file.truncate(10 << 30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", "machine", "-d", str(root), str(disk)], check=True)
    shutil.rmtree(root)
    disk.rename(folder / "disk")


def _install(root, packages, said):
    """Packages into a folder whose services must not start (invoke-rc.d's policy)."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    policy.chmod(0o755)
    # An image that is half made is thrown away: nothing of it has to be on the disk at each step.
    (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n", encoding="ascii")
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    try:
        apt = ["chroot", str(root), "apt-get", "--yes", "--no-install-recommends"]
        subprocess.run([*apt, "install", *packages], env=environment, **said)
        subprocess.run([*apt, "clean"], env=environment, **said)
    finally:
        subprocess.run(["umount", str(root / "proc")], check=True)
    policy.unlink()


def settle(root):
    """What makes a machine of a folder of packages."""
    (root / "etc/fstab").write_text(_FSTAB, encoding="ascii")
    (root / "etc/hostname").write_text("machine\n", encoding="ascii")
    (root / "etc/hosts").write_text("127.0.0.1 localhost machine\n::1 localhost\n", encoding="ascii")
    units = root / "etc/systemd/system"
    for name, text in (("promises", _UNIT), ("console", _CONSOLE)):
        (units / f"{name}.service").write_text(text, encoding="ascii")
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    # Their links lead to nowhere as seen from here.
    for folder in units.glob("*.wants"):
        for link in (folder / unit for unit in _ON_DEMAND):
            link.unlink(missing_ok=True)
    for unit in _QUIET:
        link = units / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    for name, target in (("promises", "graphical"), ("console", "multi-user")):
        link = units / f"{target}.target.wants/{name}.service"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"/etc/systemd/system/{name}.service")
