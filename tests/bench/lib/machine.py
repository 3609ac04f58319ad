"""Lines that say on what the figures were taken."""

import os
import platform
import shutil
import subprocess
import time


def _first(path, field):
    try:
        with open(path, encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(field)), "?")
    except OSError:
        return "?"


def _file_system(path):
    """The type of the file system that holds `path`."""
    path, best = os.path.realpath(path), ("", "?")
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            for line in file:
                _, at, kind, *_ = line.split()
                inside = path == at or path.startswith(at.rstrip("/") + "/")
                if inside and len(at) >= len(best[0]):
                    best = (at, kind)
    except OSError:
        pass
    return best[1]


def version(program, *arguments):
    """The first line that a program says about its version, shortened to the number."""
    if not shutil.which(program):
        return "none"
    asked = subprocess.run(
        [program, *(arguments or ["--version"])], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    words = (asked.stdout.strip() or asked.stderr.strip() or "?").splitlines()[0].split()
    return next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), words[-1])


def pressure(of):
    """The first line of /proc/pressure: how much of the last seconds somebody waited for it, in percent."""
    try:
        with open(f"/proc/pressure/{of}", encoding="ascii") as file:
            return file.readline().strip().rpartition(" total")[0]
    except OSError:
        return "not told by this kernel"


def line(work):
    """Cores, memory, file system of `work`, kernel, tools, load, time of day, pressure."""
    memory = int(_first("/proc/meminfo", "MemTotal").split()[0]) / 1048576
    tools = ", ".join(f"{name} {version(name)}" for name in ("node", "npm", "git", "bwrap"))
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"machine: {os.cpu_count()} cores ({_first('/proc/cpuinfo', 'model name')}), {memory:.0f} GiB, "
        f"{_file_system(work)}, Linux {platform.release()}, {tools}; load {load}; "
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC\npressure: cpu {pressure('cpu')}; io {pressure('io')}"
    )
