"""The live stream over a real socket: httpx's ASGI transport would join what comes in pieces."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
import uvicorn

from services.preference import live
from services.preference.__main__ import create_preference_app
from services.server.app import TENANT_HEADER, TOKEN_HEADER
from services.server.state import Process, state_of
from tests.chaos.mock_engine import MockEngine
from tests.conftest import free_port
from tests.unit.services.preference.rig import TENANT, USER, OwnRedis, record
from tests.unit.services.preference.served import PREFERENCES, Served
from tests.unit.services.preference.working import benched, until

pytestmark = pytest.mark.anyio

Event = tuple[str, Any, str]


async def follow(served: Served, last_event_id: str | None = None) -> AsyncGenerator[Event, None]:
    """(name, data, id) of each event."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with served.http.stream("GET", f"{PREFERENCES}/stream", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield fields["event"], orjson.loads(fields["data"]), fields.get("id", "")
                fields = {}


async def through(events: AsyncIterator[Event], name: str) -> list[Event]:
    """The events up to the next of this name."""
    found = []
    async for event in events:
        found.append(event)
        if event[0] == name:
            return found
    raise AssertionError(f"the stream ended before {name}: {found}")


@asynccontextmanager
async def streaming(
    url: str, mock: MockEngine, **blocks: dict[str, Any]
) -> AsyncIterator[tuple[Served, uvicorn.Server]]:
    async with benched(url, mock, **{"queue": {"poll_ms": 2}, **blocks}) as bench:
        app, port = create_preference_app(bench.settings), free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
        headers = {TOKEN_HEADER: bench.settings.internal_token.get_secret_value(), TENANT_HEADER: TENANT}
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers)
        async with running(server), client:
            yield Served(client, bench), server


@asynccontextmanager
async def running(server: uvicorn.Server) -> AsyncIterator[None]:
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    async with streaming(redis_url, MockEngine()) as (served, _):
        yield served


async def test_the_text_comes_while_it_is_written(redis_url: str) -> None:
    async with streaming(redis_url, MockEngine(lambda _: "silent")) as (served, __):
        await served.put(*(f"u1n{n}" for n in range(30)))
        async with served.bench.at_work(), aclosing(follow(served)) as events:
            name, now, _ = await anext(events)
            assert (name, now["version"], now["source"]) == ("version", 0, "profile")
            assert (await anext(events))[:2] == ("pending", {"pending": 30, "version": 0})
            await until(served.bench.is_asked)
            served.bench.mock.gate.set()
            seen = await through(events, "version")
            text = "".join(data["text"] for name, data, _ in seen if name == "delta")
            assert seen[-1][1]["version"] == 1
            assert seen[-1][1]["text"] == text
            places = [place for *_, place in seen]
            assert places == sorted(places)


async def test_who_comes_later_gets_what_was_said_so_far(served: Served) -> None:
    await served.put("u1n1")
    claim = await served.bench.take()
    for event, data in (("pending", {"pending": 1}), ("delta", {"text": "The "}), ("delta", {"text": "user"})):
        assert await served.bench.queue.publish(claim, event, orjson.dumps(data).decode())
    async with aclosing(follow(served)) as events:
        seen = [await anext(events) for _ in range(5)]
        assert [name for name, *_ in seen] == ["version", "pending", "pending", "delta", "delta"]
        await served.bench.queue.publish(claim, "delta", orjson.dumps({"text": " likes"}).decode())
        assert (await anext(events))[1] == {"text": " likes"}
    resumed = seen[3][2]
    async with aclosing(follow(served, resumed)) as events:
        assert (await anext(events))[1] == {"text": "user"}
        assert (await anext(events))[1] == {"text": " likes"}
        assert await served.bench.commit(claim, "The user likes tea.")
        name, data, _ = await anext(events)
        assert (name, data["version"], data["text"]) == ("version", 1, "The user likes tea.")


async def test_who_comes_back_too_late_gets_the_summary_again(served: Served) -> None:
    bench = served.bench
    await served.put("u1n1")
    async with aclosing(follow(served)) as events:
        await through(events, "pending")
        assert await bench.commit(await bench.take(), "The user likes tea.")
        seen = (await anext(events))[2]
    await bench.redis.delete(bench.keys().live)  # as after LIVE_MS
    async with aclosing(follow(served, seen)) as events:
        assert (await anext(events))[1]["text"] == "The user likes tea."
    await bench.queue.edit(TENANT, USER, 1, record("By hand.", 2))
    await bench.queue.edit(TENANT, USER, 2, record("By hand again.", 3))
    async with aclosing(follow(served, seen)) as events:
        name, data, _ = await anext(events)
        assert (name, data["text"]) == ("version", "By hand again.")
        await bench.queue.edit(TENANT, USER, 3, record("The last.", 4))
        assert (await anext(events))[1]["text"] == "The last."
    await bench.redis.xtrim(bench.keys().live, maxlen=1, approximate=False)
    async with aclosing(follow(served, seen)) as events:
        assert (await anext(events))[1]["text"] == "The last."


async def test_a_fault_is_told_and_the_stream_goes_on(redis_url: str) -> None:
    faults = ["overloaded"]

    mock = MockEngine(lambda _: "overloaded" if faults and faults.pop() else "")

    async with streaming(redis_url, mock, queue={"poll_ms": 2, "backoff_ms": 50}) as (served, __):
        await served.put("u1n1")
        async with aclosing(follow(served)) as events, served.bench.at_work():
            seen = await through(events, "error")
            assert seen[-1][1]["type"] == "urn:alignx:problem:engine_unavailable"
            await through(events, "pending")
            assert (await through(events, "version"))[-1][1]["version"] == 1


async def test_what_no_notice_told_of_comes_with_the_keep_alive(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr(live, "_LOOK_S", 0.1)
    await served.put("u1n1")
    async with aclosing(follow(served)) as events:
        await through(events, "pending")
        await served.bench.redis.xadd(served.bench.keys().live, {"e": "delta", "d": '{"text":"tea"}'})
        assert (await anext(events))[:2] == ("delta", {"text": "tea"})
        await served.bench.redis.delete(served.bench.keys().state)
        assert (await anext(events))[1]["type"] == "urn:alignx:problem:user_unknown"


async def test_many_streams_of_one_user_all_get_what_is_new(served: Served) -> None:
    await served.put("u1n1")
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(aclosing(follow(served))) for _ in range(30)]
        for events in followers:
            await through(events, "pending")
        claim = await served.bench.take()
        for word in ("The", " user", " likes", " tea"):
            assert await served.bench.queue.publish(claim, "delta", orjson.dumps({"text": word}).decode())
        assert await served.bench.commit(claim, "The user likes tea.")
        for events in followers:
            seen = await through(events, "version")
            assert "".join(data["text"] for name, data, _ in seen if name == "delta") == "The user likes tea"


async def test_a_stream_goes_on_after_a_restart_of_redis(own_redis: OwnRedis) -> None:
    async with streaming(own_redis.url, MockEngine()) as (served, __):
        await until(lambda: answers(served))
        await served.put("u1n1")
        async with aclosing(follow(served)) as events:
            await through(events, "pending")
            own_redis.stop()
            own_redis.start()
            await until(lambda: answers(served))
            await served.bench.queue.edit(TENANT, USER, 0, record("By hand."))
            assert (await anext(events))[1]["text"] == "By hand."


async def test_a_redis_that_stays_away_ends_the_stream_with_an_error(
    own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_KEEP_ALIVE_S", 0.5)
    monkeypatch.setattr(live, "_LOOK_S", 0.5)
    async with streaming(own_redis.url, MockEngine(), redis={"timeout_s": 1}) as (served, __):
        await until(lambda: answers(served))
        await served.put("u1n1")
        async with aclosing(follow(served)) as events:
            await through(events, "pending")
            own_redis.stop()
            assert (await anext(events))[1]["type"] == "urn:alignx:problem:store_unavailable"
            assert [event async for event in events] == []


async def answers(served: Served) -> bool:
    return (await served.http.get("/readyz")).status_code == 200


async def test_an_erased_user_ends_the_stream(served: Served) -> None:
    await served.put("u1n1")
    async with aclosing(follow(served)) as events:
        await through(events, "pending")
        await served.bench.queue.forget(TENANT, USER)
        _, data, _ = (await through(events, "error"))[-1]
        assert data["type"] == "urn:alignx:problem:user_unknown"
        assert [event async for event in events] == []


async def test_streams_are_limited(redis_url: str) -> None:
    async with streaming(redis_url, MockEngine(), limits={"streams": 1}) as (served, __):
        await served.put("u1n1")
        async with aclosing(follow(served)) as events:
            await anext(events)
            refused = await served.http.get(f"{PREFERENCES}/stream")
            assert refused.status_code == 503
            assert refused.headers["Retry-After"] == "5"

        async def free() -> bool:
            async with served.http.stream("GET", f"{PREFERENCES}/stream") as answer:
                return answer.status_code == 200

        await until(free)


async def test_a_drain_ends_open_streams(redis_url: str) -> None:
    async with streaming(redis_url, MockEngine()) as (served, server):
        await served.put("u1n1")
        async with aclosing(follow(served)) as events:
            await through(events, "pending")
            state_of(server.config.app, Process).drain.end()  # type: ignore[arg-type]
            assert [event async for event in events] == []
