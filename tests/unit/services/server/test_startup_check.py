"""A process that starts while Redis is away, on a real Redis that comes later."""

import asyncio
import logging
import traceback
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis

from services.errors import AlignXError
from services.preference.__main__ import create_preference_app
from services.preference.worker import create_worker_app
from services.response.__main__ import create_response_app
from services.server import startup_check
from services.server.app import TENANT_HEADER, TOKEN_HEADER
from services.server.startup_check import StartupCheck
from services.settings import PROFILE_ENGINE
from services.storage.users import Store
from tests.conftest import free_port
from tests.unit.services.preference.rig import Process, start_redis, stop_redis
from tests.unit.services.preference.working import settings_for, until

pytestmark = pytest.mark.anyio

APPS = [create_preference_app, create_response_app, create_worker_app]
HEADERS = {TOKEN_HEADER: "t" * 16, TENANT_HEADER: "acme"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup_check, "_RETRY_S", 0.05)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", headers=HEADERS)


@pytest.mark.parametrize("create", APPS, ids=["preference", "response", "worker"])
async def test_a_process_waits_for_redis_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, create: Any
) -> None:
    port, started = free_port(), list[Process]()

    try:
        app = create(settings_for(f"redis://127.0.0.1:{port}/0", PROFILE_ENGINE))
        async with asyncio.timeout(20), app.router.lifespan_context(app), client_of(app) as http:
            page = await http.get("/readyz")
            assert (page.status_code, page.json()["checks"]["redis"] == "ok") == (503, False)
            assert (await http.get("/livez")).status_code == 200
            started.append(await asyncio.to_thread(start_redis, tmp_path, port))

            async def ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            await until(ready)
        told = [record for record in caplog.records if record.message == "Redis cannot serve; trying again"]
        assert {(record.levelno, vars(record)["error"]) for record in told} == {(logging.WARNING, "ConnectionError")}
        with Redis(port=port) as redis:
            assert (redis.get("pi:schema"), redis.get("pi:shards")) == (b"2", b"1")
    finally:
        for process in started:
            stop_redis(process)


async def test_nothing_is_written_before_the_data_are_known_to_be_right(tmp_path: Path) -> None:
    port, started = free_port(), list[Process]()
    process = start_redis(tmp_path, port)
    with Redis(port=port) as redis:
        redis.set("pi:shards", 7)
    stop_redis(process)

    try:
        app = create_preference_app(settings_for(f"redis://127.0.0.1:{port}/0", PROFILE_ENGINE))
        event = {"events": [{"type": "statement", "text": "I like tea"}]}
        async with asyncio.timeout(20), app.router.lifespan_context(app), client_of(app) as http:
            answer = await http.post("/v1/users/ada/events", json=event)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            started.append(await asyncio.to_thread(start_redis, tmp_path, port))

            async def told() -> bool:
                return "this Redis holds 7 shards" in (await http.get("/readyz")).text

            await until(told)
            assert (await http.post("/v1/users/ada/events", json=event)).status_code == 500
        with Redis(port=port) as redis:
            assert set(redis.keys()) == {b"pi:shards", b"pi:schema"}  # type: ignore[arg-type]
    finally:
        for process in started:
            stop_redis(process)


def test_a_refusal_that_is_given_again_does_not_grow() -> None:
    startup = StartupCheck(cast("Store", None))
    startup._refusal = AlignXError()
    for _ in range(3):
        with pytest.raises(AlignXError) as caught:
            startup.check()
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 2  # here and where it is raised
