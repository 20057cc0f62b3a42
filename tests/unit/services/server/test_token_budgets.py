"""Token budgets on a real Redis, between calls and an engine made by hand."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from alignx.schemas.tenants import TenantSettings
from services.engine.client import open_session
from services.engine.guard import Progress
from services.engine.limits import Engine
from services.engine.spending import estimate_call
from services.errors import BudgetSpent, EngineRejected, EngineUnavailable
from services.server.token_budgets import LEFT, TokenBudgets, Window, budget_headers, count_refusals
from services.settings import EngineSettings
from services.storage.key_names import tokens_key
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.timed_cache import TimedCache
from tests.unit.services.engine.fake_engine import (
    MESSAGES,
    SAMPLING,
    FakeEngine,
    delta,
    fails,
    refused,
    reply,
    sse,
)
from tests.unit.services.preference.rig import opened

pytestmark = pytest.mark.anyio

TENANT = "acme"
NOON = datetime(2126, 11, 30, 12, tzinfo=UTC)
"""Not over yet, so that Redis keeps what is counted then."""
BODY = {"messages": MESSAGES, "max_tokens": 8}
COST = estimate_call(BODY).total
"""Estimated tokens of `BODY`, and of a call by SAMPLING."""
USED = 12
"""Tokens of an answer as the engine made by hand tells them."""


@dataclass
class Desk:
    """Budgets, their engine and their clock."""

    redis: Any
    budgets: TokenBudgets
    fake: FakeEngine
    engine: Engine
    registry: CollectorRegistry
    store: TenantSettingsStore
    now: datetime = NOON

    async def spent(self, month: str = "2126-11", tenant: str = TENANT) -> dict[str, str]:
        await self.budgets.settled()
        fields: dict[str, str] = await self.redis.hgetall(tokens_key(tenant, month))
        return fields

    def refusals(self, kind: str) -> float:
        return self.registry.get_sample_value("alignx_engine_budget_refusals_total", {"kind": kind}) or 0.0

    async def complete(self, tenant: str = TENANT) -> str:
        return (await self.engine.complete(MESSAGES, **{**SAMPLING, "tenant": tenant})).text


@asynccontextmanager
async def desk(url: str, *, concurrency: int = 64, **limits: int | None) -> AsyncIterator[Desk]:
    fake = FakeEngine()
    async with asyncio.timeout(20), opened(url) as rig, fake.serving(), open_session() as session:
        store = TenantSettingsStore(rig.redis, TenantSettings())
        if limits:
            await store.replace(TENANT, TenantSettings(**limits))
        registry = CollectorRegistry()
        made: list[Desk] = []
        budgets = TokenBudgets(rig.redis, TimedCache(store.read), count_refusals(registry), lambda: made[0].now)
        settings = EngineSettings(url=fake.url, concurrency=concurrency)
        made.append(Desk(rig.redis, budgets, fake, Engine(settings, session, None, budgets.reserve), registry, store))
        yield made[0]


# --- what fits ---------------------------------------------------------------------------------


async def test_a_call_is_settled_to_what_the_engine_says(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=10_000, tokens_per_month=100_000) as at:
        assert await at.complete() == "hello"
        assert await at.spent() == {"30": str(USED), "month": str(USED)}
        at.now += timedelta(hours=13)
        await at.complete()
        assert await at.spent() == {"30": str(USED), "month": str(USED)}
        assert await at.spent("2126-12") == {"01": str(USED), "month": str(USED)}
        for month, end in (
            ("2126-11", datetime(2126, 12, 3, tzinfo=UTC)),
            ("2126-12", datetime(2127, 1, 3, tzinfo=UTC)),
        ):
            left_s = (end - datetime.now(UTC)).total_seconds()
            assert abs(await at.redis.ttl(tokens_key(TENANT, month)) - left_s) < 60


async def test_beyond_the_day_or_the_month_no_call_goes_out(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=COST + USED) as at:
        await at.complete()
        await at.complete()
        sent = len(at.fake.bodies)
        error = await refused(at.complete(), BudgetSpent)
        assert (error.status, error.code, error.retry_after) == (429, "budget_spent", 3_600)
        assert error.extensions == {"limit": COST + USED, "left": COST - USED, "window": "day"}
        assert len(at.fake.bodies) == sent == 2
        assert at.refusals("complete") == 1
        assert await at.spent() == {"30": str(2 * USED), "month": str(2 * USED)}
        at.now = NOON.replace(hour=23, minute=59, second=30)
        assert (await refused(at.complete(), BudgetSpent)).retry_after == 30
        at.now += timedelta(minutes=1)
        await at.complete()


async def test_a_month_holds_over_its_days_and_other_tenants_are_free(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_month=COST) as at:
        at.now = NOON.replace(day=2)
        await at.complete()
        at.now = NOON
        error = await refused(at.complete(), BudgetSpent)
        assert error.extensions["window"] == "month"
        await at.complete("globex")
        assert await at.spent(tenant="globex") == {}
        await at.store.patch(TENANT, {"tokens_per_month": 10 * COST})
        at.budgets._tenants.drop(TENANT)
        await at.complete()


async def test_without_a_budget_redis_is_not_asked(redis_url: str) -> None:
    async with desk(redis_url) as at:
        await at.complete()  # reads the settings, which are kept for a second
        cached = at.budgets._tenants
        cached._values[TENANT] = (float("inf"), await cached.read(TENANT))
        commands = (await at.redis.info("stats"))["total_commands_processed"]
        for _ in range(5):
            await at.complete()
        assert (await at.redis.info("stats"))["total_commands_processed"] == commands + 1  # the question itself
        assert await at.redis.keys("pi:tokens:*") == []


async def test_calls_at_once_never_pass_the_limit_together(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=5 * COST) as at:
        gate = asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await reply("hello")(request)

        at.fake.chat = slow
        calls = [asyncio.create_task(at.complete()) for _ in range(20)]
        while sum(call.done() for call in calls) < 15:  # noqa: ASYNC110  # they end by themselves
            await asyncio.sleep(0.01)
        fields = await at.redis.hgetall(tokens_key(TENANT, "2126-11"))
        assert (fields["30"], len(fields)) == (str(5 * COST), 5 + 2)
        gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(answer == "hello" for answer in ended) == 5
        assert all(isinstance(answer, BudgetSpent) for answer in ended if answer != "hello")
        assert await at.spent() == {"30": str(5 * USED), "month": str(5 * USED)}


# --- how calls end -----------------------------------------------------------------------------


async def test_a_call_that_fails_gives_all_back(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=10_000) as at:
        for answer, kind in ((fails(500), EngineUnavailable), (fails(400), EngineRejected)):
            at.fake.chat = answer
            await refused(at.complete(), kind)
        assert await at.spent() == {"30": "0", "month": "0"}


async def test_a_stream_that_is_left_counts_what_was_written(redis_url: str) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b"data: " + orjson.dumps(delta(content="abcdef")) + b"\n\n")
            await asyncio.sleep(0.005)

    async with desk(redis_url, tokens_per_day=10_000) as at:
        at.fake.chat = endless
        texts = 0
        async with aclosing(at.engine.stream(MESSAGES, **SAMPLING)) as pieces:
            async for _ in pieces:
                texts += 1
                if texts == 3:
                    break
        assert (await at.spent())["30"] == str(COST - 8 + 3 * 2)
        async with at.engine.chat({**BODY, "stream": True}, tenant=TENANT) as raw:
            await anext(raw.chunks)
        left = int((await at.spent())["30"]) - (COST - 8 + 3 * 2)
        assert COST - 8 < left <= COST


async def test_a_whole_answer_that_nobody_waits_for_counts_with_its_estimate(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=10_000) as at:
        begun = asyncio.Event()

        async def silent(_: web.Request) -> web.StreamResponse:
            begun.set()
            await asyncio.sleep(30)
            raise AssertionError("unreachable")

        async def chat() -> None:
            async with at.engine.chat(BODY, tenant=TENANT):
                pass

        at.fake.chat = silent
        call = asyncio.create_task(chat())
        await begun.wait()
        assert len(await at.spent()) == 3
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        assert await at.spent() == {"30": str(COST), "month": str(COST)}


async def test_who_leaves_while_waiting_for_a_slot_pays_nothing(redis_url: str) -> None:
    async with desk(redis_url, concurrency=1, tokens_per_day=10_000) as at:
        gate, begun = asyncio.Event(), asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            begun.set()
            await gate.wait()
            return await reply("hello")(request)

        at.fake.chat = slow
        first = asyncio.create_task(at.complete())
        await begun.wait()
        second = asyncio.create_task(at.complete())
        while len(await at.redis.hgetall(tokens_key(TENANT, "2126-11"))) < 4:  # noqa: ASYNC110  # another task's work
            await asyncio.sleep(0.005)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        gate.set()
        await first
        assert await at.spent() == {"30": str(USED), "month": str(USED)}


async def test_a_stream_without_counts_is_asked_for_them(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=10_000) as at:
        async with at.engine.chat({**BODY, "stream": True}, tenant=TENANT) as raw:
            assert raw.is_counted
            assert b"prompt_tokens" in b"".join([chunk async for chunk in raw.chunks])
        assert at.fake.bodies[-1]["stream_options"] == {"include_usage": True}
        assert (await at.spent())["30"] == str(USED)
        own = {"stream_options": {"include_usage": False}}
        at.fake.chat = sse(delta(content="hello"), delta("stop"))
        async with at.engine.chat({**BODY, **own, "stream": True}, tenant=TENANT) as raw:
            assert not raw.is_counted
            _ = [chunk async for chunk in raw.chunks]
        assert (await at.spent())["30"] == str(USED + COST - 8 + 2)
        async with at.engine.chat({**BODY, "stream": True}, tenant="globex") as raw:
            assert not raw.is_counted
        assert "stream_options" not in at.fake.bodies[-1]


# --- faults ------------------------------------------------------------------------------------


async def test_a_call_is_settled_once(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=10_000) as at:
        progress = Progress()
        async with at.budgets.reserve("chat", TENANT, BODY, progress):
            (held,) = set(await at.redis.hgetall(tokens_key(TENANT, "2126-11"))) - {"30", "month"}
        assert await at.spent() == {"30": "0", "month": "0"}
        for used in (0, 5):
            again = await at.budgets._settle.run([tokens_key(TENANT, "2126-11")], id=held, used=used)
            assert again is None
        assert await at.spent() == {"30": "0", "month": "0"}


KILLED = """
import asyncio, sys
from tests.unit.services.server.test_token_budgets import BODY, TENANT, desk
from services.engine.guard import Progress

async def main():
    async with desk(sys.argv[1], tokens_per_day=10_000) as at:
        async with at.budgets.reserve("chat", TENANT, BODY, Progress(sent_at=0.0)):
            print("reserved", flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_a_killed_process_had_reserved_counts_in_full(redis_url: str) -> None:
    command = [sys.executable, "-c", KILLED, redis_url]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"reserved\n"
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    async with desk(redis_url, tokens_per_day=2 * COST) as at:
        before = await at.spent()
        assert (before["30"], before["month"]) == (str(COST), str(COST))
        await at.complete()
        after = await at.spent()
        assert after == before | {"30": str(COST + USED), "month": str(COST + USED)}
        await refused(at.complete(), BudgetSpent)


async def test_a_settlement_that_is_lost_leaves_the_estimate(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with desk(redis_url, tokens_per_day=10_000) as at:
        progress = Progress(sent_at=0.0)
        try:
            async with at.budgets.reserve("chat", TENANT, BODY, progress):
                await at.redis.config_set("maxmemory", "1")
            await at.budgets.settled()
            error = await refused(at.complete(), EngineUnavailable)
            assert "Redis is full" in error.detail
            assert at.fake.bodies == []
        finally:
            await at.redis.config_set("maxmemory", "0")
        spent = await at.spent()
        assert (spent["30"], len(spent)) == (str(COST), 3)
        assert "a call counts with its estimate" in caplog.text


@pytest.mark.parametrize("seed", range(4))
async def test_the_counters_are_what_was_used_and_what_is_open(redis_url: str, seed: int) -> None:
    """Reservations and settlements in any order, over two days, some of them lost and some told twice."""
    draw, day_limit, month_limit = Random(seed), 1_000, 1_600
    used, held = dict.fromkeys(("01", "02"), 0), dict[str, tuple[str, int]]()
    async with desk(redis_url) as at:
        key = tokens_key(TENANT, "2126-11")
        for number in range(300):
            counted = {day: used[day] + sum(size for at_day, size in held.values() if at_day == day) for day in used}
            if draw.random() < 0.5:
                day, size = draw.choice(("01", "02")), draw.randrange(0, 400)
                fits = counted[day] + size <= day_limit and sum(counted.values()) + size <= month_limit
                answer = await at.budgets._reserve.run(
                    [key], day=day, id=f"call-{number}", tokens=size, ends=int(NOON.timestamp()),
                    day_limit=day_limit, month_limit=month_limit,
                )  # fmt: skip
                assert answer[0] == fits
                if fits:
                    held[f"call-{number}"] = day, size
                    counted[day] += size
                assert answer[1:] == [counted[day], sum(counted.values())]
            else:
                name = draw.choice([*held, "call-0", "nobody"])
                told = await at.budgets._settle.run([key], id=name, used=(took := draw.randrange(0, 60)))
                assert (told is not None) == (name in held)
                if name in held:
                    used[held.pop(name)[0]] += took
        fields = await at.redis.hgetall(key)
        assert {name for name in fields if name.startswith("call-")} == set(held)
        still = {day: used[day] + sum(size for at_day, size in held.values() if at_day == day) for day in used}
        assert {day: int(fields.get(day, 0)) for day in used} == still
        assert int(fields["month"]) == sum(still.values())
        assert sum(used.values()) > 0


# --- what is told ------------------------------------------------------------------------------


async def test_what_is_left_is_told_of_each_limit_that_is_set(redis_url: str) -> None:
    async with desk(redis_url, tokens_per_day=10_000, tokens_per_month=20_000) as at:
        left: dict[str, Window] = {}
        LEFT.set(left)
        await at.complete()
        day, month = 12 * 3_600, 12 * 3_600
        assert budget_headers(left) == {
            "RateLimit-Policy": '"tokens-day";q=10000;w=86400, "tokens-month";q=20000;w=2592000',
            "RateLimit": f'"tokens-day";r={10_000 - USED};t={day}, "tokens-month";r={20_000 - USED};t={month}',
        }
        assert budget_headers({}) == {}


async def test_more_than_estimated_leaves_nothing_and_never_less(redis_url: str) -> None:
    usage = {"prompt_tokens": 9_000, "completion_tokens": 2_000}
    async with desk(redis_url, tokens_per_day=10_000) as at:
        left: dict[str, Window] = {}
        LEFT.set(left)
        at.fake.chat = sse(delta(content="hello"), delta("stop"), {"choices": [], "usage": usage})
        await at.complete()
        assert (await at.spent())["30"] == "11000"
        assert left["day"].left == 0
        error = await refused(at.complete(), BudgetSpent)
        assert error.headers["RateLimit"].startswith('"tokens-day";r=0;t=')


def test_all_keys_of_a_tenant_share_a_slot() -> None:
    keys = [tokens_key("a}b:c", month) for month in ("2126-11", "2126-12")]
    tags = {key[key.index("{") + 1 : key.index("}")] for key in keys}
    assert tags == {"a%7Db%3Ac"}
