"""An updater and a worker between the tests' Redis and an engine that keeps count."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError

from services.engine.limits import Engine
from services.errors import EngineUnavailable
from services.preference.queue import Queue
from services.preference.updates.dispatcher import Dispatcher
from services.preference.updates.update import Updater
from services.preference.updates.update_metrics import WorkerMetrics
from services.preference.worker import create_worker_app
from services.server.token_budgets import TokenBudgets, count_refusals
from services.settings import PROFILE_ENGINE, Settings
from services.storage.connection import open_redis
from services.storage.timed_cache import open_tenants
from services.storage.users import Store
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.rig import AT_ONCE, Rig


def settings_for(url: str, engine_url: str, **blocks: dict[str, Any]) -> Settings:
    return Settings.model_validate(
        {
            "internal_token": "t" * 16,
            "redis": {"url": url} | blocks.get("redis", {}),
            "queue": AT_ONCE | blocks.get("queue", {}),
            "engine": {"url": engine_url, "breaker_failures": 1_000} | blocks.get("engine", {}),
            "summary": blocks.get("summary", {}),
            "server": blocks.get("server", {}),
            "limits": blocks.get("limits", {}),
        }
    )


@dataclass(frozen=True)
class Bench(Rig):
    mock: MockEngine
    settings: Settings
    updater: Updater
    dispatcher: Dispatcher
    registry: CollectorRegistry

    async def update(self, **names: str) -> str:
        """One update of the user who waits, whatever it waits for."""
        await self.make_due()
        claim = await self.take(**names)
        ended = await self.updater.run(claim)
        await self.updater.tests.record(claim, ended.test, ended.tested_source)
        return ended.outcome

    async def try_update(self) -> str:
        """As `update`; also "engine" where the engine is at fault."""
        try:
            return await self.update()
        except EngineUnavailable:
            return "engine"

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def ended(self, outcome: str) -> bool:
        """An update has ended so."""
        return self.count("alignx_updates_total", outcome=outcome) > 0

    def is_asked(self) -> bool:
        """The engine has a request that it lets wait."""
        return self.mock.met["silent"] > 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """The worker runs."""
        work = asyncio.create_task(self.dispatcher.run())
        try:
            yield
        finally:
            self.dispatcher.stop(work)
            await asyncio.gather(work, return_exceptions=True)
            await self.dispatcher.close(0.05)


@asynccontextmanager
async def benched(url: str, mock: MockEngine | None = None, **blocks: dict[str, Any]) -> AsyncIterator[Bench]:
    """`mock=None` is a deployment without an engine."""
    mock, engine_used = mock or MockEngine(), mock is not None
    async with asyncio.timeout(120), mock.serving() as engine_url:
        settings = settings_for(url, engine_url if engine_used else PROFILE_ENGINE, **blocks)
        registry = CollectorRegistry()
        metrics = WorkerMetrics(registry)
        async with (
            open_redis(settings.redis) as redis,
            TokenBudgets.open(redis, tenants := open_tenants(redis, settings), count_refusals(registry)) as budgets,
            Engine.open(settings.engine, None, budgets.reserve) as engine,
        ):
            store = Store(redis, settings.queue.shards, tenants)
            queue = Queue(redis, settings.queue, settings.summary)
            updater = Updater(store, queue, engine, settings, metrics)
            dispatcher = Dispatcher(queue, updater, settings, metrics)
            yield Bench(redis, store, queue, mock, settings, updater, dispatcher, registry)


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A worker's process, to be asked by HTTP."""
    app = create_worker_app(settings)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker")
    async with app.router.lifespan_context(app), client:
        yield client


async def until(true: Callable[[], Awaitable[bool] | bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not await _holds(true):  # noqa: ASYNC110  # what is waited for happens elsewhere
            await asyncio.sleep(0.01)


async def _holds(true: Callable[[], Awaitable[bool] | bool]) -> bool:
    try:
        found = true()
        return found if isinstance(found, bool) else await found
    except RedisConnectionError:  # a connection from before a restart
        return False
