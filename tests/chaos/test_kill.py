"""Nothing is lost, doubled or out of order while processes are killed.

    pytest tests/chaos -s                # ALIGNX_CHAOS_SEED picks another run

100 users send 5 000 events through the gateway, each call with an Idempotency-Key and tried again
until it is accepted. Meanwhile worker, preference service and Redis are killed with SIGKILL in turn
and started again, and the engine answers with 503, breaks off or dawdles. Every event is a number, so
the log and the summary of each user tell what became of it. At the end every user is erased.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from redis import Redis

from tests.chaos.mock_engine import MARKER
from tests.live.suite import Suite, mock_engine

pytestmark = pytest.mark.live

SEED = int(os.environ.get("ALIGNX_CHAOS_SEED", "1"))
USERS, EVENTS = 100, 50
SENDING_S = 25.0
"""About how long each user spreads its calls."""
KILLED = ("worker", "preference", "redis")
ROUNDS, BETWEEN_S, DOWN_S = 2, 2.0, 0.4
SETTLED_WITHIN_S = 30.0
FAST = {
    "ALIGNX_QUEUE__LEASE_MS": "1500",
    "ALIGNX_QUEUE__HEARTBEAT_MS": "500",
    "ALIGNX_QUEUE__BACKOFF_MS": "100",
    "ALIGNX_QUEUE__BACKOFF_MAX_MS": "1000",
    "ALIGNX_ENGINE__BREAKER_COOLDOWN_S": "0.3",
    "ALIGNX_SUMMARY__UPDATE_AGE_S": "3",
}


def name_of(user: int) -> str:
    return f"person-{user}@example.org"


def markers_of(user: int) -> list[str]:
    return [f"u{user}n{number}" for number in range(EVENTS)]


class Sender:
    """One user's client: sends in order and repeats a call until it is accepted."""

    def __init__(self, session: aiohttp.ClientSession, user: int, counts: Counter[str]) -> None:
        self.session = session
        self.user = user
        self.counts = counts
        self.dice = random.Random(SEED * 1_000 + user)

    async def send_all(self) -> None:
        markers = markers_of(self.user)
        while markers:
            size = self.dice.randint(1, 4)
            events = [{"type": "post", "text": f"I wrote {marker}."} for marker in markers[:size]]
            await asyncio.sleep(self.dice.expovariate(EVENTS / 2.5 / SENDING_S))
            await self.send(f"{self.user}-{len(markers)}", events)
            markers = markers[size:]

    async def send(self, key: str, events: list[dict[str, str]]) -> None:
        while not await self._accepted(key, events):
            self.counts["retries"] += 1
            await asyncio.sleep(self.dice.uniform(0.05, 0.3))
        self.counts["calls"] += 1
        if self.dice.random() < 0.05:  # a client that did not hear the answer
            self.counts["repeats"] += await self._accepted(key, events)

    async def _accepted(self, key: str, events: list[dict[str, str]]) -> bool:
        try:
            async with self.session.post(
                f"/v1/users/{name_of(self.user)}/events", json={"events": events}, headers={"Idempotency-Key": key}
            ) as answer:
                self.counts[f"status {answer.status}"] += 1
                assert answer.status in (202, 503), await answer.text()
                return answer.status == 202
        except aiohttp.ClientError:
            self.counts["broken"] += 1
            return False


async def send(suite: Suite, counts: Counter[str], killing: Callable[[Suite, Counter[str]], Awaitable[None]]) -> None:
    headers = {"Authorization": f"Bearer {suite.new_key('chaos')}"}
    timeout = aiohttp.ClientTimeout(total=10)
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(suite.url, headers=headers, timeout=timeout, connector=connector)
    async with session, asyncio.TaskGroup() as group:
        for user in range(USERS):
            group.create_task(Sender(session, user, counts).send_all())
        group.create_task(killing(suite, counts))


async def kill_in_turn(suite: Suite, counts: Counter[str]) -> None:
    dice = random.Random(SEED)
    for _ in range(ROUNDS):
        for name in dice.sample(KILLED, len(KILLED)):
            await asyncio.sleep(BETWEEN_S * dice.uniform(0.5, 1.5))
            await asyncio.to_thread(suite.kill, name, signal.SIGKILL)
            counts[f"killed {name}"] += 1
            await asyncio.sleep(DOWN_S)
            suite.start(name)
            if name != "redis":
                await asyncio.to_thread(suite.wait_ready, [name])


def settle(client: httpx.Client) -> list[dict[str, Any]]:
    """Every user's summary, once nothing is pending."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        found = [client.get(f"/v1/users/{name_of(user)}/preferences").json() for user in range(USERS)]
        if not any(summary["pending"] for summary in found):
            return found
        assert time.monotonic() < deadline, f"{sum(summary['pending'] for summary in found)} events still wait"
        time.sleep(0.5)


def log_of(client: httpx.Client, user: int) -> list[str]:
    markers: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = client.get(f"/v1/users/{name_of(user)}/events", params={"limit": 20, **after}).json()
        for event in page["events"]:
            markers += MARKER.findall(event["interaction"]["text"])
        if not page["next"]:
            return markers
        after = {"after": page["next"]}


def check_nothing_remains(suite: Suite, client: httpx.Client) -> None:
    for user in range(USERS):
        assert client.delete(f"/v1/users/{name_of(user)}").status_code == 204
        assert client.get(f"/v1/users/{name_of(user)}/preferences").status_code == 404
    for url in suite.redis_urls:
        with Redis.from_url(url, decode_responses=True) as redis:
            check_no_person(redis)


def check_no_person(redis: Any) -> None:
    for key in redis.scan_iter(count=1_000):
        assert "person" not in key
        if redis.type(key) == "zset":
            assert not [member for member in redis.zrange(key, 0, -1) if "person" in member]
        if redis.type(key) == "hash":
            assert "person" not in str(redis.hgetall(key))


def check_logs(suite: Suite) -> None:
    for name in suite.processes:
        text = suite.log(name)
        assert not MARKER.search(text), name
        assert "person-" not in text, name
        assert "Task exception was never retrieved" not in text, name


def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with mock_engine(tmp_path, str(SEED)) as engine:
        suite = Suite(tmp_path, FAST | {"ALIGNX_ENGINE__URL": f"{engine}/v1"})
        try:
            suite.up()
            asyncio.run(send(suite, counts, kill_in_turn))
            suite.wait_ready(("preference", "worker", "gateway"))
            with suite.client("chaos") as client:
                summaries = settle(client)
                seen = httpx.get(f"{engine}/seen").json()
                with capsys.disabled():
                    report(counts, seen, summaries, time.monotonic() - started)
                assert seen["foreign"] == 0
                for user in range(USERS):
                    assert log_of(client, user) == markers_of(user)
                    assert MARKER.findall(summaries[user]["text"]) == markers_of(user)
                    letters = client.get(f"/v1/users/{name_of(user)}/dead-letters").json()
                    assert letters["events"] == []
                check_nothing_remains(suite, client)
            check_logs(suite)
        finally:
            suite.down()
    assert all(counts[f"killed {name}"] >= 2 for name in KILLED)


def report(counts: Counter[str], seen: dict[str, Any], summaries: list[dict[str, Any]], seconds: float) -> None:
    versions = sum(summary["version"] for summary in summaries)
    kills = ", ".join(f"{name[7:]} {count}" for name, count in counts.items() if name.startswith("killed "))
    lines = (
        f"seed {SEED}: {USERS * EVENTS} events of {USERS} users in {seconds:.0f} s; killed: {kills}",
        f"calls {counts['calls']}, tried again {counts['retries']}, repeated after the answer {counts['repeats']}",
        f"engine answers {seen['calls']}, faults {seen['faults']}, versions {versions}",
        f"events a version {USERS * EVENTS / versions:.1f}, events sent to the engine {seen['events']}",
        f"clients saw { {name: count for name, count in sorted(counts.items()) if name[:6] in ('status', 'broken')} }",
    )
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
