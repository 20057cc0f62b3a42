"""Calls under way: how many at once, and how each ends."""

import asyncio
from contextlib import aclosing

import orjson
import pytest
from aiohttp import web

from services.engine.judge import judge
from services.engine.limits import Engine
from services.errors import EngineUnavailable
from tests.unit.services.engine.fake_engine import (
    MESSAGES,
    SAMPLING,
    Calls,
    FakeEngine,
    answer_canary,
    chat_bytes,
    delta,
    endless,
    fails,
    refused,
    reply,
)
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio


@with_settings(concurrency=1)
async def test_stopping_early_ends_the_engines_work_and_frees_the_slot(
    fake: FakeEngine, engine: Engine, calls: Calls
) -> None:
    ended = asyncio.Event()
    fake.chat = endless(b"data: " + orjson.dumps(delta(content="a")) + b"\n\n", ended)
    async with aclosing(engine.stream(MESSAGES, **SAMPLING)) as pieces:
        async for _ in pieces:
            break
    await asyncio.wait_for(ended.wait(), 5)
    fake.chat = reply("b")
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "b"
    assert [call.outcome for call in calls] == ["cancelled", "ok"]


@with_settings(concurrency=2)
async def test_no_more_calls_at_once_than_allowed(fake: FakeEngine, engine: Engine) -> None:
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


@with_settings(breaker_failures=1)
async def test_a_chat_left_early_is_no_mark_against_the_engine(fake: FakeEngine, engine: Engine, calls: Calls) -> None:
    fake.chat = reply(*"abc")
    async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme"):
        pass
    with pytest.raises(ZeroDivisionError):
        async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme"):
            raise ZeroDivisionError
    assert [call.outcome for call in calls] == ["cancelled", "cancelled"]
    await chat_bytes(engine, {"messages": MESSAGES, "stream": True})


@with_settings(breaker_failures=1, breaker_cooldown_s=0.05)
async def test_a_judgement_closes_the_breaker_once_the_engine_is_well(fake: FakeEngine, engine: Engine) -> None:
    fake.chat = fails(500)
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    fake.chat = answer_canary
    await asyncio.sleep(0.1)
    await refused(judge(engine, "q", ["a", "b"], "s", tenant="acme"), EngineUnavailable)  # one order goes out alone
    assert not engine.calls.breaker_open
    await judge(engine, "q", ["a", "b"], "s", tenant="acme")


@with_settings(breaker_failures=1)
async def test_what_is_under_way_can_be_looked_at(fake: FakeEngine, engine: Engine, calls: Calls) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        started.set()
        await finish.wait()
        return web.Response(status=503)

    started, finish = asyncio.Event(), asyncio.Event()
    fake.chat = slow
    assert (engine.calls.in_flight, engine.calls.breaker_open) == (0, False)
    call = asyncio.create_task(engine.complete(MESSAGES, **SAMPLING))
    await started.wait()
    assert (engine.calls.in_flight, engine.calls.breaker_open) == (1, False)
    finish.set()
    await asyncio.wait({call})
    assert isinstance(call.exception(), EngineUnavailable)
    assert (engine.calls.in_flight, engine.calls.breaker_open) == (0, True)
    assert [call.tenant for call in calls] == [SAMPLING["tenant"]]
