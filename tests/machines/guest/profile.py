"""The AppArmor profile, where the kernel lets only programs with a profile make user namespaces (Ubuntu 23.10 and later).

Debian's kernels have AppArmor's say on user namespaces since 6.7, and not Ubuntu's switch. There a profile that forbids them
stands in for what Ubuntu makes of a program without one.
"""

import shutil
import subprocess
from pathlib import Path

import service
from promises import NotHere, expect

_SWITCH = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_MASK = Path("/sys/kernel/security/apparmor/features/namespaces/mask")
_PROFILE = Path("/etc/apparmor.d/hookmill")
# Everything but user namespaces.
_STAND_IN = """abi <abi/4.0>,
profile hookmill /usr/local/bin/hookmill flags=(attach_disconnected) {
  file,
  /{,**} ix,
  capability, network, mount, umount, pivot_root, signal, ptrace, unix, dbus, mqueue, io_uring, change_profile,
  deny userns,
}
"""


def all_of(table, hookmill):
    """Before and with the profile; it stays, so that every later promise is kept with it."""
    table.promise("apparmor: where user namespaces are refused doctor names the profile", refused, hookmill)
    table.promise("apparmor: with the profile every layer is there", loaded, hookmill)


def _has_a_say():
    if not _SWITCH.exists() and "userns_create" not in (_MASK.read_text() if _MASK.exists() else ""):
        raise NotHere("AppArmor has no say on this kernel's user namespaces, which need no profile then")


def _load(file):
    done = subprocess.run(["apparmor_parser", "-r", str(file)], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"apparmor_parser: {done.stderr or done.stdout}")


def refused(hookmill):
    _has_a_say()
    if _SWITCH.exists():
        _SWITCH.write_text("1")
    else:
        _PROFILE.write_text(_STAND_IN, encoding="ascii")
        _load(_PROFILE)
    missing = service.probe(hookmill)
    expect("user namespaces" in missing, f"doctor misses {sorted(missing)}")
    row = missing["user namespaces"]
    expect("AppArmor profile in deploy/" in row["fix"], f"the fix is {row['fix']}")
    return row["detail"]


def loaded(hookmill):
    _has_a_say()
    shutil.copy(hookmill.deploy / "apparmor-hookmill", _PROFILE)
    _load(_PROFILE)
    missing = service.probe(hookmill)
    expect(not missing, f"doctor misses {missing}")
    profiles = Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines()
    expect("hookmill (unconfined)" in profiles, "the profile is not loaded")
    return ""
