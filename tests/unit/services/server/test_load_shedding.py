"""Requests are refused while the event loop's delay stands, and only then."""

import asyncio
import time

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Scope

from services.server.load_shedding import TARGET_S, TURNS, LoadShedding, LoopDelay

pytestmark = pytest.mark.anyio


def test_the_least_delay_of_the_last_turns_counts() -> None:
    delay = LoopDelay(CollectorRegistry())
    assert delay.standing_s() == 0
    for late in (0.05, 0.09, 0.3):
        delay.note(late)
    assert delay.standing_s() == 0  # a few late turns are work
    delay.note(0.07)
    assert delay.standing_s() == 0.05
    delay.note(0.001)
    assert delay.standing_s() == 0.001


async def test_requests_are_refused_while_the_loop_is_late_and_health_is_not() -> None:
    app = FastAPI()

    @app.get("/v1/work")
    @app.get("/livez")
    async def work() -> str:
        return "done"

    def refuse(_scope: Scope) -> ASGIApp:
        return PlainTextResponse("later", 503)

    delay = LoopDelay(CollectorRegistry())
    app.add_middleware(LoadShedding, delay=delay, refuse=refuse)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        delay.start()
        assert (await client.get("/v1/work")).status_code == 200
        for _ in range(2 * TURNS):
            time.sleep(2 * TARGET_S)  # noqa: ASYNC251  # what keeps the loop
            await asyncio.sleep(0)
        assert (await client.get("/v1/work")).status_code == 503
        assert (await client.get("/livez")).status_code == 200
        await asyncio.sleep(0.05)
        assert (await client.get("/v1/work")).status_code == 200
        delay.stop()
