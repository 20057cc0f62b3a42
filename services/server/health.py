"""/livez (the process runs), /readyz (what it needs answers too) and /metrics of every process."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from alignx.schemas.status import EngineState, Readiness
from services.errors import AlignXError
from services.server.state import Process, state_of

Check = Callable[[], Awaitable[object]]
"""A readiness check: raises AlignXError while its resource does not answer."""
EngineView = Callable[[FastAPI], EngineState | None]
"""What /readyz shows of a process's engine."""
Guard = Callable[[Request], Awaitable[object]]
"""Raises AlignXError unless the request may go on."""


_CREDENTIALS = frozenset(("authorization", "x-api-key"))


async def open_to_all(_request: Request) -> None:
    """The guard of the services' metrics: they listen on the inner network."""


def add_health(
    app: FastAPI,
    checks: Callable[[FastAPI], Mapping[str, Check]],
    one_of: Collection[str] = (),
    advisory: Collection[str] = (),
    engine: EngineView = lambda _app: None,
    guard: Guard = open_to_all,
) -> None:
    """`checks` and `engine` are called at each /readyz, when the lifespan has yielded its record. Of the checks in
    `one_of` a single one that passes is enough; those in `advisory` are shown and decide nothing. The engine's own
    words are for whom `guard` lets pass."""

    @app.get("/livez", tags=["health"], summary="The process runs")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    async def engine_for(request: Request) -> EngineState | None:
        state = engine(app)
        if state and state.words and not await _passes(guard, request):
            return state.model_copy(update={"words": None})
        return state

    @app.get(
        "/readyz",
        operation_id="ready",
        tags=["health"],
        summary="The process and what it needs answer",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "What is wrong stands in `checks`"}},
    )
    async def readyz(request: Request) -> Response:
        outcome: dict[str, str] = {}
        for name, check in {"drain": state_of(app, Process).drain.check, **checks(app)}.items():
            try:
                await check()
                outcome[name] = "ok"
            except AlignXError as error:
                outcome[name] = error.detail
        wrong = {name for name, state in outcome.items() if state != "ok"}.difference(advisory)
        ready = not wrong or wrong < set(one_of)
        answer = Readiness(status="ready" if ready else "not_ready", checks=outcome, engine=await engine_for(request))
        return Response(answer.model_dump_json(exclude_none=True), 200 if ready else 503, media_type="application/json")


async def _passes(guard: Guard, request: Request) -> bool:
    if guard is open_to_all or _CREDENTIALS.isdisjoint(request.headers):
        return guard is open_to_all  # who asks for readiness without a key makes no mistake
    try:
        await guard(request)
    except AlignXError:
        return False
    return True


def add_metrics(app: FastAPI, registry: CollectorRegistry, guard: Guard) -> None:
    """The metrics of `registry`, for whom `guard` lets pass."""

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        await guard(request)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
