"""Every process is restarted in turn, under load, and no request fails.

Two of each service run; each gets SIGTERM, drains, ends and is started again while callers post
events (without Idempotency-Key: nothing is ever sent twice), read summaries, select, chat with a
stream and follow the summary's stream. The callers do what a load balancer does: they go to the
other gateway when one refuses a connection or closes them after an answer. A stream may end, cleanly,
and is resumed by Last-Event-ID.
"""

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.chaos.mock_engine import MARKER, Fault, MockEngine
from tests.live.many import ManySuite

pytestmark = pytest.mark.live

USERS = 8
MOST_POSTS = 200
"""Of a user, half of them at a slower pace: a prompt holds no more of a past summary."""
SETTINGS = {
    "ALIGNX_SERVER__DRAIN_S": "0.7",
    "ALIGNX_GATEWAY__REPLICA_CHECK_S": "0.2",
    "ALIGNX_SUMMARY__UPDATE_AGE_S": "2",
}
AVOIDED_S = 5.0
"""How long a caller stays away from a gateway that drains."""
SETTLED_WITHIN_S = 20.0


class Doors:
    """The gateways as a load balancer in front of them sees them."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.session = session
        self.away_until = dict.fromkeys(urls, 0.0)
        self.counts: Counter[str] = Counter()

    @asynccontextmanager
    async def call(self, what: str, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        for url in sorted(self.away_until, key=lambda url: self.away_until[url] > time.monotonic()):
            try:
                answer = await self.session.request(method, url + path, **options)
            except aiohttp.ClientConnectorError:  # refused: nothing was sent
                self._avoid(url)
                continue
            async with answer:
                if answer.headers.get("Connection") == "close":
                    self._avoid(url)
                self.counts[f"{what} {answer.status}"] += 1
                yield answer
            return
        raise AssertionError("both gateways refuse connections")

    def _avoid(self, url: str) -> None:
        self.away_until[url] = time.monotonic() + AVOIDED_S


class Load:
    """What the callers do until `done`; every answer must be the good one."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors
        self.done = asyncio.Event()
        self.sent: dict[int, list[str]] = {user: [] for user in range(USERS)}
        self.followed: dict[int, list[int]] = {user: [] for user in range(USERS)}

    async def post(self, user: int) -> None:
        for number in range(MOST_POSTS):
            if self.done.is_set():
                return
            marker = f"u{user}n{number}"
            body = {"events": [{"type": "post", "text": f"I wrote {marker}."}]}
            async with self.doors.call("post", "POST", f"/v1/users/u{user}/events", json=body) as answer:
                assert answer.status == 202, await answer.text()
            self.sent[user].append(marker)
            await asyncio.sleep(0.15 if number < MOST_POSTS / 2 else 0.8)

    async def read(self, user: int) -> None:
        async with self.doors.call("read", "GET", f"/v1/users/u{user}/preferences") as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    async def select(self, user: int) -> None:
        body = {"query": "and now?", "items": ["a good one", "another"]}
        async with self.doors.call("select", "POST", f"/v1/users/u{user}/select", json=body) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    async def chat(self, user: int) -> None:
        messages = [{"role": "user", "content": "How are you?"}]
        body = {"model": "mock", "user": f"u{user}", "stream": True, "messages": messages}
        async with self.doors.call("chat", "POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            text = await answer.text()
            assert text.rstrip().endswith("data: [DONE]"), text[-300:]

    async def follow(self, user: int) -> None:
        """The summary's stream, taken up again where it ended."""
        last = ""
        while not self.done.is_set():
            headers = {"Last-Event-ID": last} if last else {}
            path = f"/v1/users/u{user}/preferences/stream"
            async with self.doors.call("stream", "GET", path, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                async for event in events(answer.content):
                    assert event.get("event") != "error", event
                    last = event.get("id", last)
                    if event.get("event") == "version":
                        self.followed[user].append(orjson.loads(event["data"])["version"])

    async def again(self, act: Callable[[int], Awaitable[None]], pause_s: float) -> None:
        for user in itertools.cycle(range(USERS)):
            if self.done.is_set():
                return
            await act(user)
            await asyncio.sleep(pause_s)


async def events(content: aiohttp.StreamReader) -> AsyncIterator[dict[str, str]]:
    """Whole events; a stream that ends inside one fails."""
    fields: dict[str, str] = {}
    async for line in content:
        if line == b"\n":
            if fields:
                yield fields
            fields = {}
        elif not line.startswith(b":"):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            fields[name] = value
    assert not fields, f"cut inside an event: {fields}"


async def restart_in_turn(suite: ManySuite, counts: Counter[str]) -> None:
    for name in suite.names:
        await asyncio.to_thread(suite.kill, name, signal.SIGTERM)
        suite.start(name)
        await asyncio.to_thread(suite.wait_ready, [name])
        counts[f"restarted {name.partition('-')[0]}"] += 1


async def wait_until_settled(load: Load, user: int) -> dict[str, Any]:
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        async with load.doors.call("settle", "GET", f"/v1/users/u{user}/preferences") as answer:
            current: dict[str, Any] = await answer.json()
        if not current["pending"]:
            return current
        assert time.monotonic() < deadline, f"{current['pending']} events of user {user} still wait"
        await asyncio.sleep(0.2)


async def scenario(folder: Path, counts: Counter[str]) -> None:
    def slow(prompt: str) -> Fault:
        return "slow" if "How are you?" in prompt else ""

    async with MockEngine(slow).serving() as engine:
        suite = ManySuite(folder, SETTINGS | {"ALIGNX_ENGINE__URL": engine})
        try:
            await asyncio.to_thread(suite.up)
            headers = {"Authorization": f"Bearer {await asyncio.to_thread(suite.new_key, 'rolling')}"}
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
                load = Load(Doors(session, suite.gateways))
                load.doors.counts = counts
                await run(load, suite)
                for user in range(USERS):
                    current = await wait_until_settled(load, user)
                    assert MARKER.findall(current["text"]) == load.sent[user]
                    assert load.followed[user] == sorted(load.followed[user])
                    assert len(load.followed[user]) > 1
        finally:
            await asyncio.to_thread(suite.down)


async def run(load: Load, suite: ManySuite) -> None:
    async with asyncio.TaskGroup() as group:
        for user in range(USERS):
            group.create_task(load.post(user))
        while not all(load.sent.values()):  # noqa: ASYNC110  # every user is known then
            await asyncio.sleep(0.05)
        following = [group.create_task(load.follow(user)) for user in range(USERS)]
        for act in (load.read, load.select, load.chat):
            group.create_task(load.again(act, 0.05))
        await restart_in_turn(suite, load.doors.counts)
        load.done.set()
        await asyncio.sleep(1)  # for the version of the last event
        for task in following:
            task.cancel()


@pytest.mark.anyio
async def test_no_request_fails_while_everything_is_restarted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: Counter[str] = Counter()
    await scenario(tmp_path, counts)
    with capsys.disabled():
        print("\n" + ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))  # noqa: T201
    statuses = {name.rpartition(" ")[2] for name in counts if not name.startswith("restarted")}
    assert statuses == {"200", "202"}
    assert all(counts[f"restarted {service}"] == 2 for service in ("preference", "worker", "response", "gateway"))
