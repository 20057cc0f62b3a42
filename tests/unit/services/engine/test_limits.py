"""Calls under way: how many at once, and how each ends."""

import asyncio
from contextlib import aclosing

import orjson
import pytest
from aiohttp import web

from services.engine.limits import Engine, EngineCall
from services.errors import EngineUnavailable
from services.settings import EngineSettings
from tests.unit.services.engine.fake_engine import (
    MESSAGES,
    SAMPLING,
    FakeEngine,
    answers,
    chat_bytes,
    delta,
    reply,
    run,
)


def test_stopping_early_ends_the_engines_work_and_frees_the_slot() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"data: " + orjson.dumps(delta(content="a")) + b"\n\n")
                await asyncio.sleep(0.005)
        finally:
            ended.set()

    ended = asyncio.Event()

    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = endless
        async with aclosing(engine.stream(MESSAGES, **SAMPLING)) as pieces:
            async for _ in pieces:
                break
        await asyncio.wait_for(ended.wait(), 5)
        fake.chat = reply("b")
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "b"
        assert [call.outcome for call in calls] == ["cancelled", "ok"]

    run(test, concurrency=1)


def test_no_more_calls_at_once_than_allowed() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        under_way, most = 0, 0

        async def slow(request: web.Request) -> web.StreamResponse:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.02)
            under_way -= 1
            return await reply("a")(request)

        fake.chat = slow
        await asyncio.gather(*(engine.complete(MESSAGES, **SAMPLING) for _ in range(6)))
        assert most == 2

    run(test, concurrency=2)


def test_a_chat_left_early_is_no_mark_against_the_engine() -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = reply(*"abc")
        async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme"):
            pass
        with pytest.raises(ZeroDivisionError):
            async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme"):
                raise ZeroDivisionError
        assert [call.outcome for call in calls] == ["cancelled", "cancelled"]
        await chat_bytes(engine, {"messages": MESSAGES, "stream": True})

    run(test, breaker_failures=1)


def test_embeddings_neither_wait_for_the_engines_slots_nor_take_them() -> None:
    asked = asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.sleep(30)
        raise AssertionError("unreachable")

    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        settings = EngineSettings(url=engine._base, embeddings_url=engine._base, concurrency=1)
        async with Engine.open(settings, calls.append) as both:
            fake.chat = silent
            chat = asyncio.create_task(both.complete(MESSAGES, **SAMPLING))
            await asked.wait()
            fake.chat = answers({"data": [{"index": 0, "embedding": [1]}]})
            assert await both.embed(["x"]) == [[1.0]]
            chat.cancel()
            await asyncio.wait({chat})

    run(test)


def test_an_embeddings_server_that_stays_silent_is_left_alone() -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError("unreachable")

    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        settings = EngineSettings(url=engine._base, embeddings_url=engine._base, breaker_failures=2)
        async with Engine.open(settings, calls.append) as both:
            fake.chat = silent
            for _ in range(3):
                with pytest.raises(EngineUnavailable):
                    await both.embed(["x"], longest_s=0.05)
            assert not both.calls.breaker_open  # the engine's
        assert [call.outcome for call in calls] == ["unavailable", "unavailable"]  # the third was not sent

    run(test)


def test_what_is_under_way_can_be_looked_at() -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        asked.set()
        await go.wait()
        return web.Response(status=503)

    asked, go = asyncio.Event(), asyncio.Event()

    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = slow
        assert (engine.calls.in_flight, engine.calls.breaker_open) == (0, False)
        call = asyncio.create_task(engine.complete(MESSAGES, **SAMPLING))
        await asked.wait()
        assert (engine.calls.in_flight, engine.calls.breaker_open) == (1, False)
        go.set()
        await asyncio.wait({call})
        assert isinstance(call.exception(), EngineUnavailable)
        assert (engine.calls.in_flight, engine.calls.breaker_open) == (0, True)
        assert [call.tenant for call in calls] == [SAMPLING["tenant"]]

    run(test, breaker_failures=1)
