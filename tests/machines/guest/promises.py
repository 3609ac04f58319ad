"""What is told of each promise."""

import json
import time
import traceback


class Missed(Exception):
    """The promise is not kept, and how."""


class NotHere(Exception):
    """This machine has not what the promise needs."""


def expect(true, otherwise):
    """Misses the promise, in these words, unless `true`."""
    if not true:
        raise Missed(otherwise)


def until(found, patience, what):
    """Waits until `found()` is something, and returns that."""
    deadline = time.monotonic() + patience
    while not (result := found()):
        if time.monotonic() > deadline:
            raise Missed(f"{what}: not within {patience:.0f} s")
        time.sleep(0.1)
    return result


def tell(**words):
    """One line for the other side."""
    print(f"\n##{json.dumps(words)}", flush=True)


class Table:
    """Tries the promises whose name holds one of `only`; all, if there is none."""

    def __init__(self, only):
        self.only = only

    def promise(self, name, story, *given):
        """Runs a story; what it returns, or raises, is told."""
        if self.only and not any(words in name for words in self.only):
            return
        state, detail = "kept", ""
        try:
            detail = story(*given) or ""
        except NotHere as why:
            state, detail = "not here", str(why)
        except Missed as how:
            state, detail = "missed", str(how)
        except Exception as error:  # A story that breaks keeps no promise.
            traceback.print_exc()
            state, detail = "missed", f"{type(error).__name__}: {error}"
        tell(promise=name, state=state, detail=detail.replace("\n", " | ")[:900])
