"""The users of a chaos run: they send numbered events until each call is accepted, and can be checked afterwards.

Every event is a number (`u17n3`), and the mock engine's summary lists the numbers it has read, so the log, the
versions and the summary of each user tell what became of each event.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
import httpx
from redis import Redis

from tests.chaos.mock_engine import MARKER
from tests.live.suite import Suite

TENANT = "chaos"
FAST = {
    "ALIGNX_QUEUE__LEASE_MS": "1500",
    "ALIGNX_QUEUE__HEARTBEAT_MS": "500",
    "ALIGNX_QUEUE__BACKOFF_MS": "100",
    "ALIGNX_QUEUE__BACKOFF_MAX_MS": "1000",
    "ALIGNX_ENGINE__BREAKER_COOLDOWN_S": "0.3",
    "ALIGNX_GATEWAY__HUNG_AFTER_S": "1.2",
    "ALIGNX_SUMMARY__UPDATE_AGE_S": "3",
}
"""Settings under which what a fault holds up goes on soon after it."""
SETTLED_WITHIN_S = 40.0
READ = 10
"""Users whose versions are read as well."""


@dataclass(frozen=True)
class Crowd:
    """`users` of `events` each, sent over about `sending_s` seconds; those of two seeds are different people."""

    seed: int
    users: int = 100
    events: int = 50
    sending_s: float = 25.0

    def names(self) -> Sequence[str]:
        return [self.name(user) for user in range(self.users)]

    def name(self, user: int) -> str:
        return f"person-{self.seed}-{user}@example.org"

    def markers(self, user: int) -> list[str]:
        """Short: a summary of few letters and many figures is refused as no language."""
        return [f"u{self.seed * 1_000 + user}n{number}" for number in range(self.events)]


class Sender:
    """One user's client: sends in order and repeats a call until it is accepted."""

    def __init__(self, session: aiohttp.ClientSession, crowd: Crowd, user: int, counts: Counter[str]) -> None:
        self.session = session
        self.crowd = crowd
        self.user = user
        self.counts = counts
        self.dice = random.Random(crowd.seed * 1_000 + user)
        self._sent: list[tuple[str, list[dict[str, str]]]] = []

    async def send_all(self) -> None:
        markers = self.crowd.markers(self.user)
        while markers:
            size = self.dice.randint(1, 4)
            events = [{"type": "post", "text": f"I wrote {marker}."} for marker in markers[:size]]
            await asyncio.sleep(self.dice.expovariate(self.crowd.events / 2.5 / self.crowd.sending_s))
            await self.send(f"{self.user}-{len(markers)}", events)
            markers = markers[size:]

    async def send(self, key: str, events: list[dict[str, str]]) -> None:
        while not await self._accepted(key, events):
            self.counts["retries"] += 1
            await asyncio.sleep(self.dice.uniform(0.05, 0.3))
        self.counts["calls"] += 1
        self._sent.append((key, events))
        if self.dice.random() < 0.1:  # a client that did not hear the answer, of this call or an earlier one
            self.counts["repeats"] += await self._accepted(*self.dice.choice(self._sent[-3:]))

    async def _accepted(self, key: str, events: list[dict[str, str]]) -> bool:
        path = f"/v1/users/{self.crowd.name(self.user)}/events"
        try:
            async with self.session.post(path, json={"events": events}, headers={"Idempotency-Key": key}) as answer:
                self.counts[f"status {answer.status}"] += 1
                assert answer.status in (202, 503), await answer.text()
                return answer.status == 202
        except (aiohttp.ClientError, TimeoutError):
            self.counts["broken"] += 1
            return False


Disturb = Callable[[Suite, Counter[str]], Awaitable[None]]


async def send(suite: Suite, crowd: Crowd, counts: Counter[str], disturb: Disturb | None = None) -> None:
    """All events, while `disturb` does its work, if it is given."""
    async with open_session(suite) as session, asyncio.TaskGroup() as group:
        for user in range(crowd.users):
            group.create_task(Sender(session, crowd, user, counts).send_all())
        if disturb:
            group.create_task(disturb(suite, counts))


def open_session(suite: Suite) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {suite.new_key(TENANT)}"}
    timeout = aiohttp.ClientTimeout(total=10)
    return aiohttp.ClientSession(suite.url, headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))


def check_all(
    suite: Suite, engine: str, crowd: Crowd, counts: Counter[str], started: float, *, erased: int = 0
) -> None:
    """Raises AssertionError for what was lost, doubled, moved or brought back; of the last users, `erased` are."""
    names = crowd.names()
    kept, gone = names[: len(names) - erased], names[len(names) - erased :]
    with suite.client(TENANT) as client:
        for user, summary in enumerate(settle(client, kept)):
            check_kept(client, kept[user], crowd.markers(user), summary)
            counts["versions"] += summary["version"]
            if user < READ:
                check_versions(client, kept[user], crowd.markers(user))
        for name in gone:
            assert client.get(f"/v1/users/{name}/preferences").status_code == 404, "an erased user is back"
        seen = httpx.get(f"{engine}/seen").json()
        assert seen["foreign"] == 0
        sys.stdout.write(report(crowd, counts, seen, time.monotonic() - started) + "\n\n")
        check_nothing_remains(suite, client, kept)
    check_logs(suite)


def read(client: httpx.Client, path: str, **params: str | int) -> dict[str, Any]:
    """What a call answers once the service behind the gateway does: one that is starved for a moment seems to hang."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while (answer := client.get(path, params=params)).status_code == 503:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def settle(client: httpx.Client, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every user's summary, once nothing is pending."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        found = [read(client, f"/v1/users/{name}/preferences") for name in names]
        if not any(summary["pending"] for summary in found):
            return found
        assert time.monotonic() < deadline, f"{sum(summary['pending'] for summary in found)} events still wait"
        time.sleep(0.5)


def log_of(client: httpx.Client, name: str) -> list[str]:
    """The numbers of a user's events, as they are listed."""
    markers: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = read(client, f"/v1/users/{name}/events", limit=20, **after)
        for event in page["events"]:
            markers += MARKER.findall(event["interaction"]["text"])
        if not page["next"]:
            return markers
        after = {"after": page["next"]}


def check_kept(client: httpx.Client, name: str, markers: Sequence[str], summary: dict[str, Any]) -> None:
    """Each event is in the log and in the summary once and in order, and none was set aside."""
    assert log_of(client, name) == markers
    assert MARKER.findall(summary["text"]) == markers
    assert read(client, f"/v1/users/{name}/dead-letters")["events"] == []


def check_versions(client: httpx.Client, name: str, markers: Sequence[str]) -> None:
    """Each kept version goes on from the one before. A worker that lost its lease and wrote all the same would leave a
    version that does not."""
    versions = read(client, f"/v1/users/{name}/preferences/versions")["versions"]
    texts = [
        read(client, f"/v1/users/{name}/preferences/versions/{version['version']}")["text"]
        for version in reversed(versions)
    ]
    for earlier, later in pairwise(MARKER.findall(text) for text in texts):
        assert later[: len(earlier)] == earlier
        assert later == markers[: len(later)]


def check_nothing_remains(suite: Suite, client: httpx.Client, names: Sequence[str]) -> None:
    """Erases the users, after which Redis holds no trace of them."""
    for name in names:
        assert client.delete(f"/v1/users/{name}").status_code == 204
        assert client.get(f"/v1/users/{name}/preferences").status_code == 404
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
    """No process has logged a user's text or name, nor lost an exception."""
    for name in suite.processes:
        text = suite.log(name)
        assert not MARKER.search(text), name
        assert "person-" not in text, name
        assert "Task exception was never retrieved" not in text, name


def report(crowd: Crowd, counts: Counter[str], seen: dict[str, Any], seconds: float) -> str:
    """What happened, in lines."""
    events, versions = crowd.users * crowd.events, counts["versions"]
    faults = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if name.startswith("fault "))
    answers = {name: count for name, count in sorted(counts.items()) if name[:6] in ("status", "broken")}
    lines = (
        f"seed {crowd.seed}: {events} events of {crowd.users} users in {seconds:.0f} s; {faults.replace('fault ', '')}",
        f"calls {counts['calls']}, tried again {counts['retries']}, repeated after the answer {counts['repeats']}",
        f"engine answers {seen['calls']}, faults {seen['faults']}, versions {versions}",
        f"events a version {events / max(1, versions):.1f}, events sent to the engine {seen['events']}",
        f"clients saw {answers}",
    )
    return "\n".join(lines)
