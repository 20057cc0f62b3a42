"""The preference service: a user's history in, a text summary kept.

python -m services.preference        (port 8101; needs Redis; a worker writes the summaries)
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from services.outcomes.served import OutcomeMetrics, Outcomes
from services.preference.forgetting.forget_routes import router as forget_router
from services.preference.live import LiveStreams
from services.preference.many_users.user_routes import router as user_router
from services.preference.quality_routes import router as quality_router
from services.preference.queue import Queue
from services.preference.routes import PreferenceState, router
from services.preference.service import PreferenceService
from services.preference.updates.update_metrics import IngestMetrics
from services.preference.webhooks.deliveries import Deliveries
from services.preference.webhooks.endpoint_store import EndpointStore
from services.preference.webhooks.outbox import Outbox
from services.preference.webhooks.signing import WebhookSecrets
from services.preference.webhooks.webhook_routes import router as webhook_router
from services.preference.webhooks.webhook_service import WebhookService
from services.profile.fold import load_tables
from services.server.app import create_app, serve
from services.server.health import Check
from services.server.metrics import create_registry
from services.server.startup_check import StartupCheck, require_store
from services.server.state import Process, state_of
from services.settings import Settings, load_settings
from services.storage.aof_rewrite import AofRewriter
from services.storage.connection import open_redis
from services.storage.timed_cache import open_tenants
from services.storage.users import Store

PORT = 8101


def create_preference_app(settings: Settings) -> FastAPI:
    registry = create_registry("preference")
    metrics, outcome_metrics = IngestMetrics(registry), OutcomeMetrics(registry, settings.metrics.tenants)
    secrets = WebhookSecrets(settings.internal_token.get_secret_value())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[PreferenceState]:
        async with (
            open_redis(settings.redis) as redis,
            AofRewriter.open(redis, settings.redis.rewrite_after_erase_s) as rewriter,
            StartupCheck.open(
                store := Store(redis, settings.queue.shards, tenants := open_tenants(redis, settings))
            ) as startup,
            LiveStreams.open(
                store, drain := state_of(app, Process).drain, settings.redis.timeout_s, metrics.streams
            ) as live,
        ):
            await asyncio.to_thread(load_tables)  # before a request needs it
            endpoints = EndpointStore(redis, allow_private=settings.webhooks.allow_private)
            queue = Queue(redis, settings.queue, settings.summary, Outbox(endpoints, store.keys))
            outcomes = Outcomes(redis, store.keys, tenants, outcome_metrics)
            service = PreferenceService(store, queue, settings, metrics, rewriter, live, drain, tenants, outcomes)
            learning = asyncio.create_task(service.learner.run(startup))
            yield PreferenceState(startup, service, WebhookService(endpoints, Deliveries(redis, store.keys), secrets))
            service.learner.stop(learning)
            with contextlib.suppress(asyncio.CancelledError):
                await learning

    def checks(app: FastAPI) -> Mapping[str, Check]:
        return {"redis": state_of(app, PreferenceState).startup.ready}

    app = create_app(
        service="preference",
        title="AlignX preference service",
        settings=settings,
        registry=registry,
        checks=checks,
        lifespan=lifespan,
    )
    for routes in (router, user_router, forget_router, quality_router, webhook_router):
        app.include_router(routes, dependencies=[Depends(require_store)])
    return app


def main() -> None:
    settings = load_settings()
    serve(create_preference_app(settings), settings, "preference", port=PORT, streams=settings.limits.streams)


if __name__ == "__main__":
    main()
