"""One Redis server against a cluster of three primaries, on one machine: what the cluster's client costs.

Two suites run side by side with one of each service; calls go to them by turns, through the gateway.
Every server writes its file before it answers. Three servers on the cores of one are no faster: what
a cluster adds is memory and machines.
"""

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.harness import Caller, by_turns, post_event
from bench.ingest_speed import throughput
from bench.page import Row, median_ms
from tests.live.many import ManySuite

PAIRS = 300


def measure() -> list[Row]:
    with ExitStack() as stack:
        suites = []
        for cluster in (False, True):
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            suite = ManySuite(home, replicas=1, cluster=cluster)
            stack.callback(suite.down)
            suites.append(suite.up())
        gateways = [
            Caller(suite.ports["gateway-0"], {"Authorization": f"Bearer {suite.new_key('turns')}"}) for suite in suites
        ]
        posts = by_turns(PAIRS, *map(post_event, gateways))
        reads = by_turns(PAIRS, *map(read_summary, gateways))
        rates = [asyncio.run(throughput(suite)) for suite in suites]
    return [
        Row("acknowledge one event, one server, p50", median_ms(posts[0]), "ms"),
        Row("acknowledge one event, three primaries, p50", median_ms(posts[1]), "ms"),
        Row("read a summary, one server, p50", median_ms(reads[0]), "ms"),
        Row("read a summary, three primaries, p50", median_ms(reads[1]), "ms"),
        Row("events in batches of 20, one server", rates[0], "events/s"),
        Row("events in batches of 20, three primaries", rates[1], "events/s"),
    ]


def read_summary(call: Caller) -> Callable[[int], float]:
    return lambda number: call("GET", f"/v1/users/u{number % 20}/preferences")
