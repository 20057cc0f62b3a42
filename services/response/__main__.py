"""The response service: personalized chat, selection and recommendation.

python -m services.response        (port 8102; needs Redis; chat needs an engine)
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Depends, FastAPI

from services.engine.limits import Engine, EngineMetrics
from services.errors import EngineUnavailable
from services.outcomes.served import OutcomeMetrics, Outcomes
from services.profile.fold import load_tables
from services.response.axis_choice import AxisChooser, count_axes
from services.response.chat import Chat
from services.response.doors.door_routes import door_router
from services.response.routes import ResponseState, router
from services.response.selection import SelectionMetrics, Selector
from services.server.app import create_app, serve
from services.server.health import Check
from services.server.metrics import create_registry
from services.server.startup_check import StartupCheck, require_store
from services.server.state import state_of
from services.server.token_budgets import TokenBudgets, count_refusals
from services.settings import Settings, load_settings
from services.storage.connection import open_redis
from services.storage.timed_cache import open_tenants
from services.storage.users import Store
from services.traffic.signals import Signals

PORT = 8102


def create_response_app(settings: Settings) -> FastAPI:
    registry = create_registry("response")
    engine_metrics = EngineMetrics(registry, settings.metrics.tenants)
    outcome_metrics = OutcomeMetrics(registry, settings.metrics.tenants)
    selection_metrics, refusals = SelectionMetrics(registry), count_refusals(registry)
    axis_chats = count_axes(registry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[ResponseState]:
        async with (
            open_redis(settings.redis) as redis,
            TokenBudgets.open(redis, tenants := open_tenants(redis, settings), refusals) as budgets,
            Engine.open(settings.engine, engine_metrics.observe, budgets.reserve) as engine,
            StartupCheck.open(store := Store(redis, settings.queue.shards, tenants)) as startup,
        ):
            await asyncio.to_thread(load_tables)  # before a request needs it
            engine_metrics.watch(engine.calls)
            engine_metrics.watch_canaries(engine.prober)
            signals = Signals(redis, store.keys, tenants)
            outcomes = Outcomes(redis, store.keys, tenants, outcome_metrics)
            selector = Selector(store, engine, signals, outcomes, settings, selection_metrics)
            axes = AxisChooser.read(settings.axes, tenants, axis_chats)
            yield ResponseState(startup, Chat(store, engine, outcomes, settings, axes), selector)

    def checks(app: FastAPI) -> Mapping[str, Check]:
        state = state_of(app, ResponseState)
        return {"redis": state.startup.ready, "engine": partial(_check_engine, state)}

    app = create_app(
        service="response",
        title="AlignX response service",
        settings=settings,
        registry=registry,
        checks=checks,
        advisory=("engine",),  # selection and ranking go on without it
        engine=lambda app: state_of(app, ResponseState).chat.engine.state(),
        lifespan=lifespan,
    )
    for routes in (router, door_router):
        app.include_router(routes, dependencies=[Depends(require_store)])
    return app


async def _check_engine(state: ResponseState) -> None:
    await state.chat.engine.check()
    if state.selector.breaker.open:
        raise EngineUnavailable("The engine is too slow for selections; the profile answers them")


def main() -> None:
    settings = load_settings()
    serve(create_response_app(settings), settings, "response", port=PORT)


if __name__ == "__main__":
    main()
