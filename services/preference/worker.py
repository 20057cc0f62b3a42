"""The worker process: the dispatcher with its connections, health and metrics.

    python -m services.preference.worker

Run as many workers as you like. Each serves /livez, /readyz and /metrics on port 8103.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from services.engine.limits import Engine, EngineMetrics
from services.errors import Unavailable
from services.preference.forgetting.expire_events import EventExpiry, ExpiryMetrics
from services.preference.queue import Queue
from services.preference.updates.dispatcher import Dispatcher
from services.preference.updates.update import Updater
from services.preference.updates.update_metrics import WorkerMetrics
from services.preference.webhooks.addresses import open_session
from services.preference.webhooks.deliveries import Deliveries
from services.preference.webhooks.endpoint_store import EndpointStore
from services.preference.webhooks.outbox import Outbox
from services.preference.webhooks.sender import WebhookMetrics, WebhookSender
from services.preference.webhooks.signing import WebhookSecrets
from services.profile.fold import load_tables
from services.server.app import create_app, serve
from services.server.health import Check
from services.server.metrics import create_registry
from services.server.startup_check import StartupCheck
from services.server.state import state_of
from services.server.token_budgets import TokenBudgets, count_refusals
from services.settings import Settings, load_settings
from services.storage.aof_rewrite import AofRewriter
from services.storage.connection import open_redis
from services.storage.redis_metrics import RedisMetrics
from services.storage.timed_cache import open_tenants
from services.storage.users import Store
from services.traffic.consumer import Consumer, TrafficMetrics

PORT = 8103
Part = Dispatcher | Consumer | WebhookSender | EventExpiry
_STOPPED = {
    "work": "The worker has stopped taking work",
    "items": "The worker has stopped counting items",
    "webhooks": "The worker has stopped sending webhooks",
    "expiry": "The worker has stopped forgetting old events",
    "look": "The worker has stopped measuring the queue",
}
"""What a readiness check says of a task that has ended."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What the process's lifespan opens."""

    checks: Mapping[str, Check]
    dispatcher: Dispatcher


async def _run(part: Part, startup: StartupCheck) -> None:
    await startup.wait()
    await part.run()


async def _check_running(task: "asyncio.Task[None]", fault: str) -> None:
    if task.done():
        raise Unavailable(fault)


def create_worker_app(settings: Settings) -> FastAPI:
    """The worker with its health and metrics; the work itself runs in the lifespan."""
    registry: CollectorRegistry = create_registry("worker")
    metrics = WorkerMetrics(registry)
    engine_metrics = EngineMetrics(registry, settings.metrics.tenants)
    redis_metrics = RedisMetrics(registry)
    traffic_metrics, refusals = TrafficMetrics(registry), count_refusals(registry)
    expiry_metrics = ExpiryMetrics(registry)
    webhook_metrics, secrets = WebhookMetrics(registry), WebhookSecrets(settings.internal_token.get_secret_value())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[WorkerState]:
        async with (
            open_redis(settings.redis) as redis,
            TokenBudgets.open(redis, tenants := open_tenants(redis, settings), refusals) as budgets,
            Engine.open(settings.engine, engine_metrics.observe, budgets.reserve) as engine,
            StartupCheck.open(store := Store(redis, settings.queue.shards, tenants)) as startup,
            open_session(allow_private=settings.webhooks.allow_private) as session,
            AofRewriter.open(redis, settings.redis.rewrite_after_erase_s) as rewriter,
        ):
            await asyncio.to_thread(load_tables)  # before a request needs it
            endpoints = EndpointStore(redis, allow_private=settings.webhooks.allow_private)
            queue = Queue(redis, settings.queue, settings.summary, Outbox(endpoints, store.keys))
            updater = Updater(store, queue, engine, settings, metrics)
            dispatcher = Dispatcher(queue, updater, settings, metrics)
            deliveries = Deliveries(redis, store.keys)
            parts: dict[str, Part] = {
                "work": dispatcher,
                "items": Consumer(redis, store.keys, tenants, traffic_metrics),
                "webhooks": WebhookSender(deliveries, endpoints, secrets, session, settings.webhooks, webhook_metrics),
                "expiry": EventExpiry(store, queue, tenants, rewriter, settings, expiry_metrics),
            }
            engine_metrics.watch(engine.calls, lambda: dispatcher.backoff.is_paused)
            engine_metrics.watch_canaries(engine.prober)
            tasks = {name: asyncio.create_task(_run(part, startup)) for name, part in parts.items()}
            tasks["look"] = asyncio.create_task(dispatcher.measure(redis_metrics))
            running = {name: partial(_check_running, task, _STOPPED[name]) for name, task in tasks.items()}
            checks: dict[str, Check] = {"redis": startup.ready, **running, "engine": dispatcher.backoff.check}
            yield WorkerState(checks, dispatcher)
            for name, part in parts.items():
                part.stop(tasks[name])
            tasks["look"].cancel()
            for task in tasks.values():
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await dispatcher.close(settings.server.shutdown_s)

    return create_app(
        service="worker",
        title="AlignX worker",
        settings=settings,
        registry=registry,
        checks=lambda app: state_of(app, WorkerState).checks,
        advisory=("engine",),  # meanwhile the profile serves
        engine=lambda app: state_of(app, WorkerState).dispatcher.engine_state(),
        lifespan=lifespan,
    )


def main() -> None:
    settings = load_settings()
    serve(create_worker_app(settings), settings, "worker", port=PORT)


if __name__ == "__main__":
    main()
