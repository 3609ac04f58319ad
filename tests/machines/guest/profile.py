"""The AppArmor profile, where the kernel lets only programs with a profile make user namespaces (Ubuntu 23.10 and later)."""

import shutil
import subprocess
from pathlib import Path

import service
from promises import NotHere, expect

_SWITCH = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_PROFILE = Path("/etc/apparmor.d/hookmill")


def all_of(table, hookmill):
    """Before and with the profile; it stays loaded and the switch on, so that every later promise is kept with both."""
    table.promise("apparmor: without the profile doctor names it", named, hookmill)
    table.promise("apparmor: with it every layer is there, and a step can't use what it allows", loaded, hookmill)


def _switch_on():
    if not _SWITCH.exists():
        raise NotHere("this kernel has no kernel.apparmor_restrict_unprivileged_userns: user namespaces need no profile")
    _SWITCH.write_text("1")


def named(hookmill):
    _switch_on()
    # A distribution may bring a profile for bubblewrap; ours has to do without.
    missing = service.probe(hookmill)
    expect("user namespaces" in missing, f"doctor misses {sorted(missing)}")
    row = missing["user namespaces"]
    expect("apparmor" in row["fix"].lower(), f"the fix is {row['fix']}")
    return row["detail"]


def loaded(hookmill):
    _switch_on()
    shutil.copy(hookmill.deploy / "apparmor-hookmill", _PROFILE)
    done = subprocess.run(["apparmor_parser", "-r", str(_PROFILE)], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"apparmor_parser: {done.stderr or done.stdout}")
    missing = service.probe(hookmill)
    expect(not missing, f"doctor misses {missing}")
    return ""
