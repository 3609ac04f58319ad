"""Boots each machine, reads what it tells on its serial line, prints the table of promises."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import image

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"debootstrap": "debootstrap", "qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs"}
KEPT, MISSED, ABSENT = "kept", "missed", "not here"


def arguments():
    parser = argparse.ArgumentParser(prog="tests/machines/run", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"machines: {', '.join(image.SUITES)}; all, unless given")
    parser.add_argument("--only", action="append", metavar="WORDS", help="promises whose name holds WORDS; may be repeated")
    parser.add_argument("--binary", metavar="FILE", help="this hookmill, instead of cargo's release build")
    parser.add_argument("--docker-here", action="store_true",
                        help="only Docker's promises, by the Docker that runs on this machine and SUITE's packages")  # fmt: skip
    parser.add_argument("--limit", type=int, default=3600, metavar="SECONDS", help="for each machine (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="shows all that the machine prints, while it does")
    parser.add_argument("--console", metavar="SOCKET", help="a second serial line with a shell, to look into a machine")
    parser.add_argument("--idle", action="store_true", help="tries nothing, for --console; `poweroff` there ends the machine")
    options = parser.parse_args()
    unknown = [suite for suite in options.suites if suite not in image.SUITES]
    if unknown:
        parser.error(f"no machine {unknown[0]!r}; there are {', '.join(image.SUITES)}")
    for program, package in NEEDED.items():
        if not shutil.which(program):
            parser.error(f"{program} is not installed: apt-get install {package}")
    if os.geteuid() != 0:
        parser.error("an image with its owners and devices is made by root only")
    return options


def binary(given):
    """The program that is tried."""
    if not given:
        subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "hookmill"], cwd=ROOT, check=True)
    return Path(given or ROOT / "target/release/hookmill")


def share(folder, program, only):
    """What a machine finds below /mnt."""
    shutil.copytree(ROOT / "tests/machines/guest", folder / "guest")
    shutil.copytree(ROOT / "tests/bench/lib", folder / "guest/lib")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    # Without what only a debugger reads: an emulated machine reads it in a minute.
    subprocess.run(["strip", "-o", str(folder / "hookmill"), str(program)], check=True)
    (folder / "only").write_text("\n".join(only or []), encoding="utf-8")


def can_virtualise():
    """Whether KVM has a processor to work with; a device file alone is no sign of it."""
    words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in words or "svm" in words)


def emulator(suite, shared, console, idle):
    """The command; what the machine writes to its disk is gone with it."""
    made = image.of(suite)
    accelerator = ["-accel", "kvm", "-cpu", "host"] if can_virtualise() else ["-accel", "tcg,thread=multi", "-cpu", "max"]
    masked = " systemd.mask=promises.service" if idle else ""
    return [
        "qemu-system-x86_64", *accelerator, "-smp", "2", "-m", "3072", "-nodefaults", "-display", "none", "-no-reboot",
        "-kernel", str(made / "kernel"), "-initrd", str(made / "initrd"),
        # no_timer_check: a busy host gives an emulated timer less than the kernel wants to see of it.
        "-append", f"root=/dev/vda rw console=ttyS0 panic=-1 no_timer_check quiet systemd.show_status=false{masked}",
        "-drive", f"file={made / 'disk'},format=raw,if=virtio,snapshot=on,cache=unsafe",
        "-virtfs", f"local,path={shared},mount_tag=promises,security_model=none,readonly=on",
        "-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng",
        "-serial", "stdio",
        *(["-serial", f"unix:{console},server=on,wait=off"] if console else []),
    ]  # fmt: skip


def docker_here(suite, shared, mounted):
    """The command that tries Docker's promises here."""
    subprocess.run(["mount", "-o", "loop,ro,noload", str(image.of(suite) / "disk"), str(mounted)], check=True)
    return [sys.executable, "-B", str(shared / "guest/containers.py"), str(shared), str(mounted)]


def line_of(told):
    """One promise, as people read it."""
    return f"{told['state']:8}  {told['promise']}{': ' if told['detail'] else ''}{told['detail']}"


def live(suite, options, command):
    """One life of a machine. Returns what it told of its promises, and whether it came to its own end."""
    begun, told, ended = time.monotonic(), [], False
    # A group of its own: whatever ends us ends it, by its own id.
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    signal.signal(signal.SIGALRM, lambda *_: machine.kill())
    signal.alarm(options.limit)
    last = []
    try:
        for raw in machine.stdout:
            line = raw.decode(errors="replace").rstrip()
            mark = line.find("##")
            if mark >= 0 and line[mark + 2 :].startswith("{"):
                heard = json.loads(line[mark + 2 :])
                ended = ended or heard.get("end", False)
                if "promise" in heard:
                    told.append(heard)
                    print(f"{suite}: {time.monotonic() - begun:5.0f} s  {line_of(heard)}", flush=True)
            elif options.show:
                print(f"{suite}| {line}", flush=True)
            last = [*last[-39:], line]
        machine.wait()
    finally:
        signal.alarm(0)
        if machine.poll() is None:
            machine.kill()
            machine.wait()
    if not ended:
        print("\n".join(last))
    return told, ended


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    program = binary(options.binary)
    lives = {}
    for suite in options.suites or image.SUITES:
        with tempfile.TemporaryDirectory(prefix="hookmill-machines-") as folder:
            shared = Path(folder) / "share"
            shared.mkdir()
            share(shared, program, options.only)
            if not options.docker_here:
                lives[suite] = live(suite, options, emulator(suite, shared, options.console, options.idle))
                continue
            mounted = Path(folder) / "root"
            mounted.mkdir()
            try:
                lives[suite] = live(suite, options, docker_here(suite, shared, mounted))
            finally:
                subprocess.run(["umount", str(mounted)], check=False)
    print()
    for suite, (told, ended) in lives.items():
        for one in told:
            print(f"{suite:9} {line_of(one)}")
        if not ended:
            print(f"{suite:9} did not come to its end within {options.limit} s, or died")
    missed = sum(one["state"] == MISSED for told, _ in lives.values() for one in told)
    kept = sum(one["state"] == KEPT for told, _ in lives.values() for one in told)
    print(f"\n{kept} promises kept, {missed} missed")
    if not all(ended for _, ended in lives.values()):
        sys.exit(3)
    sys.exit(1 if missed or not kept else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
