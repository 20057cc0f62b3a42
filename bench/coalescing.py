"""Events per engine call in a burst, with an engine that takes 200 ms, against one call an event.

Forty users each send sixty events, a few milliseconds apart. The pair is the same burst with
batches of one event, which is what a queue without coalescing would do; it is cut off after the
time that the coalesced burst took, and its events per second are compared. Both run without the
prequential tests of summaries; a third burst has them, as by default, and tells what they read.
"""

import asyncio
import random
import time

import aiohttp
import httpx

from bench.harness import comparison, mock_engine, running_suite
from bench.page import Row
from tests.live.suite import Suite

USERS = 40
EVENTS = 60
LATENCY_S = 0.2
GAP_S = 0.02
DEADLINE_S = 60.0


def measure() -> list[Row]:
    untested = {"ALIGNX_SUMMARY__PREQUENTIAL_SAMPLE": "0"}
    counters, seconds, _ = burst(untested, DEADLINE_S)
    single_counters, _, done = burst({**untested, "ALIGNX_SUMMARY__BATCH_EVENTS": "1"}, seconds)
    tested, _, _ = burst({}, DEADLINE_S)
    together, single = counters["calls"], single_counters["calls"]
    total = USERS * EVENTS
    return [
        Row("events per engine call in a burst", total / together, "events", "≥ 7"),
        Row("the same without coalescing", done / max(single, 1), "events"),
        Row("seconds until all summaries are up to date", seconds, "s"),
        Row("events applied in that time, coalesced / one by one", total / max(done, 1), "ratio"),
        Row("with prequential tests: single-letter calls per summary", tested["letters"] / tested["calls"], "calls"),
        Row("their prompt tokens / those of the summaries", tested["letter_tokens"] / tested["all_tokens"], "ratio"),
    ]


def burst(settings: dict[str, str], limit_s: float) -> tuple[dict[str, int], float, int]:
    """(the engine's counters, seconds until nothing waits or `limit_s`, events applied)."""
    with mock_engine(LATENCY_S) as engine:
        environment = {"ALIGNX_ENGINE__URL": f"{engine}/v1", **settings}
        with running_suite(environment) as suite:
            start = time.monotonic()
            asyncio.run(_send(suite))
            with suite.client("burst") as client:
                while (waiting := _count_waiting(client)) and time.monotonic() - start < limit_s:
                    time.sleep(0.05)
            seconds = time.monotonic() - start
            counters: dict[str, int] = httpx.get(f"{engine}/calls").json()
            return counters, seconds, USERS * EVENTS - waiting


async def _send(suite: Suite) -> None:
    headers = {"Authorization": f"Bearer {suite.new_key('burst')}"}
    timing = random.Random(7)

    async def user(session: aiohttp.ClientSession, name: str) -> None:
        for number in range(EVENTS):
            body = {"events": [comparison(number)]}
            async with session.post(f"{suite.url}/v1/users/{name}/events", json=body) as answer:
                answer.raise_for_status()
            await asyncio.sleep(timing.expovariate(1 / GAP_S))

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(user(session, f"u{number}") for number in range(USERS)))


def _count_waiting(client: httpx.Client) -> int:
    return sum(client.get(f"/v1/users/u{number}/preferences").json()["pending"] for number in range(USERS))
