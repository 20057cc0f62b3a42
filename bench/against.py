"""This checkout against another one, call by call in one run: append, read, select by the profile.

    python -m bench.against ../base       (a checkout, such as a git worktree of the commit before)

Both suites stand on this machine at once and are asked by turns, directly at the services. Prints the ratio of the
medians (1 is as fast) with an interval over blocks of calls.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import orjson

from bench.harness import Caller, callers, comparison
from tests.live.suite import ROOT, Suite

BLOCKS, CALLS = 30, 40
"""Blocks of calls, and calls of each kind to each checkout in a block."""
TENANT = "against"


@contextmanager
def started(root: Path) -> Iterator[Suite]:
    """The suite of the checkout at `root`; the programs run in this environment."""
    settings = {"ALIGNX_LOG__ACCESS": "false", "PYTHONPATH": str(root)}
    with tempfile.TemporaryDirectory() as home, Suite(Path(home), settings, root).running() as suite:
        yield suite


def kinds() -> dict[str, tuple[str, Callable[[Caller, int], float]]]:
    """What is timed: the service, and one call of it."""
    items = [comparison(number)["chosen"] for number in range(8)]
    select = orjson.dumps({"query": "basil?", "items": items})

    def append(call: Caller, number: int) -> float:
        return call("POST", f"/v1/users/u{number % 20}/events", orjson.dumps({"events": [comparison(number)]}))

    return {
        "append one event": ("preference", append),
        "read a summary": ("preference", lambda call, number: call("GET", f"/v1/users/u{number % 20}/preferences")),
        "select of 8 by the profile": (
            "response",
            lambda call, number: call("POST", f"/v1/users/u{number % 20}/select", select),
        ),
    }


def main() -> None:
    base = Path(sys.argv[1]).resolve()
    with ExitStack() as stack:
        suites = [stack.enter_context(started(root)) for root in (ROOT, base)]
        for name, (service, call) in kinds().items():
            here, there = [callers(suite, service, TENANT)[1] for suite in suites]
            ratios = []
            for block in range(BLOCKS + 1):
                times: tuple[list[float], list[float]] = ([], [])
                for number in range(CALLS):
                    for caller, seconds in ((here, times[0]), (there, times[1])):
                        seconds.append(call(caller, block * CALLS + number))
                ratios.append(median(times[0]) / median(times[1]))
            ratios = sorted(ratios[1:])  # the first block warms up
            low, high = ratios[BLOCKS // 10], ratios[-1 - BLOCKS // 10]
            print(f"{name}: {median(ratios):.3f} of the other checkout's time ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
