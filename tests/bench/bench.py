"""Runs one benchmark by its name. It ends what it starts, however it ends."""

import argparse
import importlib
import signal
import sys
import time

from lib import machine, processes, work

# Name → module, seconds it may take, what it compares.
BENCHMARKS = {
    "origin": ("install_order", 5400, "the origin's three scripts against each other, without and with webpack's own cache"),
    "n1": ("cold_push", 3600, "cold push: delivery → final status, against the gathered script"),
    "n2": ("restore", 7200, "install phase, lockfiles unchanged, against the gathered script with a warm npm cache"),
    "n3": ("warm_push", 7200, "whole push, dependencies unchanged, against the script without and with webpack's cache"),
    "n4": ("same_tree", 3600, "push of a tree already built → final status, against the script"),
    "n5": ("first_line", 900, "delivery → first line of the first step, against bare spawn and bubblewrap"),
    "n6": ("delivery_rate", 900, "deliveries a second, against adnanh/webhook"),
    "n7": ("idle_memory", 900, "idle memory after start and after 200 builds"),
    "n8": ("start_and_size", 1800, "start with 10 000 builds; size, crates and compile time"),
    "n9": ("switch", 1800, "fetch of one commit and switch of a warm workspace, against git's command line"),
    "n10": ("gigabyte", 900, "a step that prints 1 GB, against cat reading the same pipe"),
    "n11": ("queue_claims", 7200, "10 000 queued builds: claims a second and their p99, from first to last"),
    "fence": ("fence", 600, "a step that does nothing, in all layers of the sandbox, against a bare spawn"),
    "checkout": ("checkout_size", 1800, "checkouts of 57 000 files and of 500 MB, against git clone --depth 1"),
    "cost": ("cost", 7200, "what keeping costs: disk, memory, time"),
    "n12": ("kill", 1800, "kill -9 under load: acknowledged deliveries lost, final words missing"),
}


def arguments():
    listed = "\n".join(f"  {name:7} {text}" for name, (_, _, text) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Benchmarks (design section 7). Ratios are ours / theirs, from interleaved pairs.\n\n{listed}",
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--pairs", type=int, metavar="N", help="how many pairs, instead of the benchmark's own number")
    parser.add_argument("--binary", metavar="FILE", help="this binary, instead of cargo's release build")
    parser.add_argument("--limit", type=int, metavar="SECONDS", help="ends the benchmark after that time")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, to look into")
    # Before parsing, so that --help lists them too.
    for name in (one for one in sys.argv[1:] if one in BENCHMARKS):
        importlib.import_module(BENCHMARKS[name][0]).options(parser)
        break
    return parser.parse_args()


def main():
    options = arguments()
    module, limit, text = BENCHMARKS[options.name]
    limit = options.limit or limit

    def late(*_):
        raise TimeoutError(f"longer than {limit} s (--limit)")

    def ended(*_):
        sys.exit(130)

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGTERM, ended)
    processes.adopt_orphans()
    begun = time.monotonic()
    try:
        with work.Folder(options.keep) as folder:
            print(f"{options.name}: {text}\n{machine.line(folder)}", flush=True)
            benchmark = importlib.import_module(module)
            options.binary = work.release_binary(options.binary) if benchmark.NEEDS_BINARY else None
            signal.alarm(limit)
            try:
                benchmark.run(options, folder)
            finally:
                signal.alarm(0)
                # Also before the folder goes: a process that still writes would leave it behind.
                processes.end_everything()
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{options.name}: took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
