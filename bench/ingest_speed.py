"""Taking events in: how many a second, and how long until they are acknowledged.

One call at a time, through the gateway and directly to the preference service by turns, gives the
latency; then eight connections post batches of 20 as fast as they are answered. The worker runs on
the same two cores and updates the summaries meanwhile.
"""

import asyncio
import time

import aiohttp
import orjson

from bench.harness import by_turns, callers, comparison, post_event, running_suite
from bench.page import Row, median_ms, percentile
from tests.live.suite import Suite

PAIRS = 300
SECONDS = 6.0
CONNECTIONS = 8
USERS = 200
BATCH = 20


def measure() -> list[Row]:
    with running_suite() as suite:
        through, direct = by_turns(PAIRS, *map(post_event, callers(suite, "preference", "ack")))
        rate = asyncio.run(throughput(suite))
    return [
        Row("acknowledge one event, through the gateway, p50", median_ms(through), "ms", "≤ 5"),
        Row("acknowledge one event, through the gateway, p99", percentile(through, 0.99) * 1000, "ms"),
        Row("the same directly at the service, p50", median_ms(direct), "ms"),
        Row("gateway / direct", median_ms(through) / median_ms(direct), "ratio"),
        Row("events through the gateway in batches of 20", rate, "events/s", "≥ 2000"),
    ]


async def throughput(suite: Suite) -> float:
    """Events accepted a second over CONNECTIONS connections."""
    headers = {"Authorization": f"Bearer {suite.new_key('load')}", "Content-Type": "application/json"}
    body = orjson.dumps({"events": [comparison(number) for number in range(BATCH)]})
    accepted = 0
    stop = time.monotonic() + SECONDS

    async def post(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal accepted
        turn = number
        while time.monotonic() < stop:
            turn += CONNECTIONS
            async with session.post(f"{suite.url}/v1/users/u{turn % USERS}/events", data=body) as answer:
                await answer.read()
                accepted += BATCH if answer.status == 202 else 0

    async with aiohttp.ClientSession(headers=headers) as session:
        start = time.monotonic()
        await asyncio.gather(*(post(session, number) for number in range(CONNECTIONS)))
        return accepted / (time.monotonic() - start)
