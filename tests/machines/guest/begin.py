"""What runs on the machine: every promise, in an order in which each can use what those before it left."""

import subprocess
import sys
from pathlib import Path

SHARE = Path("/mnt")
sys.path.insert(0, str(SHARE / "guest"))

import bounds  # noqa: E402
import containers  # noqa: E402
import profile  # noqa: E402
import promises  # noqa: E402
import service  # noqa: E402
import shared  # noqa: E402


def facts():
    """What the machine is, for whoever reads along."""
    for command in (["uname", "-r"], ["systemctl", "--version"], ["cat", "/sys/fs/cgroup/cgroup.controllers"],
                    ["cat", "/sys/kernel/security/lsm"], ["bwrap", "--version"], ["node", "--version"]):  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        print(*command, "->", said[0] if said else "nothing", flush=True)


def main():
    facts()
    table = promises.Table((SHARE / "only").read_text(encoding="utf-8").splitlines())
    with service.Service(SHARE) as hookmill:
        profile.all_of(table, hookmill)
        service.all_of(table, hookmill)
        bounds.all_of(table, hookmill)
        service.hardening(table, hookmill)
        shared.all_of(table, hookmill)
    containers.all_of(table, SHARE)
    promises.tell(end=True)


if __name__ == "__main__":
    main()
