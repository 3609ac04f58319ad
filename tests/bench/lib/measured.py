"""Runs a command and writes what all of it cost: `measured.py RESULT COMMAND…`.

It is the reaper of whatever the command leaves behind, so the figure of getrusage(RUSAGE_CHILDREN) holds the
whole tree. What is not in it: processes that the kernel itself cleans up when a PID namespace ends, since nobody
waits for those.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import processes  # noqa: E402


def main():
    result, command = sys.argv[1], sys.argv[2:]
    processes.adopt_orphans()
    begun = time.monotonic()
    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: child.send_signal(got))
    code = child.wait()
    wall = time.monotonic() - begun
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(result, "w", encoding="ascii") as file:
        json.dump({"code": code, "wall": wall, "cpu": used.ru_utime + used.ru_stime}, file)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
