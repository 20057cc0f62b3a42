"""This checkout against another one, call by call in one run: append, read, select by the profile, and a chat through
the gateway before a mock service.

    python -m bench.against ../base       (a checkout, such as a git worktree of the commit before)

Both suites stand on this machine at once and are asked by turns, directly at the services; of the gateway CPU is
counted, which a busy machine changes less than time. Prints the ratio of the medians (1 is as fast) with an interval
over blocks of calls.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import orjson
import uvloop

from bench.gateway_overhead import Target, cpu_seconds, gateway_before, throughput
from bench.harness import Caller, callers, comparison, mock_service
from tests.live.suite import ROOT, Suite

BLOCKS, CALLS = 30, 40
"""Blocks of calls, and calls of each kind to each checkout in a block."""
BLOCK_S = 1.0
"""Of chats through a gateway."""
UNKNOWN_BEFORE = tuple(
    f"ALIGNX_GATEWAY__{name}" for name in ("TENANT_REQUESTS", "TENANT_BULK", "SERVICE_REQUESTS", "HUNG_AFTER_S")
)
"""Settings of the tests' suite that one caller does not need, and a gateway of an early commit refuses."""
TENANT = "against"


def suite_of(home: Path, settings: dict[str, str], root: Path) -> Suite:
    suite = Suite(home, settings, root)
    for name in UNKNOWN_BEFORE:
        del suite.environment[name]
    return suite


@contextmanager
def started(root: Path) -> Iterator[Suite]:
    """The suite of the checkout at `root`; the programs run in this environment."""
    settings = {"ALIGNX_LOG__ACCESS": "false", "PYTHONPATH": str(root)}
    with tempfile.TemporaryDirectory() as home, suite_of(Path(home), settings, root).running() as suite:
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


async def cpu_of_chat(target: Target) -> float:
    """CPU seconds of the gateway for a chat, while it is as busy as it can be."""
    before = await cpu_seconds(target)
    rate = await throughput(target, BLOCK_S)
    return (await cpu_seconds(target) - before) / (rate * BLOCK_S)


def compare_gateways(base: Path) -> None:
    with ExitStack() as stack:
        service = stack.enter_context(mock_service("bench.mock_upstream"))
        here, there = (stack.enter_context(gateway_before(service, suite_of, root)) for root in (ROOT, base))
        ratios = []
        for block in range(BLOCKS + 1):
            first, second = (here, there) if block % 2 else (there, here)
            cpu = {side.port: uvloop.run(cpu_of_chat(side)) for side in (first, second)}
            ratios.append(cpu[here.port] / cpu[there.port])
        show("a chat through the gateway, its CPU", ratios)


def show(name: str, ratios: list[float]) -> None:
    ratios = sorted(ratios[1:])  # the first block warms up
    low, high = ratios[BLOCKS // 10], ratios[-1 - BLOCKS // 10]
    print(f"{name}: {median(ratios):.3f} of the other checkout's ({low:.3f} to {high:.3f})", flush=True)


def main() -> None:
    base = Path(sys.argv[1]).resolve()
    compare_gateways(base)
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
            show(f"{name}, time", ratios)


if __name__ == "__main__":
    main()
