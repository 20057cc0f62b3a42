"""What every HTTP process of the suite shares: the app, its error handlers, the server that runs it.

`create_app` gives a FastAPI app with problem+json errors, /livez, /readyz and /metrics; `serve`
runs it until SIGTERM and then drains it. Services sit behind the gateway and know it by a shared
token; `tenant_of` is the dependency that checks the token and names the tenant.
"""

import asyncio
import gc
import hmac
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Annotated
from urllib.parse import unquote

import orjson
import uvicorn
from fastapi import FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from pydantic import BeforeValidator
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Scope

from alignx import __version__
from alignx.schemas.items import UserId
from services.errors import (
    ANTHROPIC_PATHS,
    OPENAI_PATHS,
    AlignXError,
    Draining,
    MethodNotAllowed,
    RequestError,
    RouteUnknown,
    StoreUnavailable,
    Unauthenticated,
)
from services.server.bounds import CrossOrigin, bounded_protocol, raise_file_limit, same_origin
from services.server.health import Check, EngineView, Guard, add_health, add_metrics, open_to_all
from services.server.load_shedding import LoadShedding
from services.server.logging import configure_logging
from services.server.metrics import HttpMetrics, RequestTelemetry, ids_of, matched_route, recorded_spans
from services.server.request_bodies import JsonRoute, invalid_request
from services.server.state import Drain, Process, add_state, state_of
from services.settings import Settings
from services.storage.cluster import AWAY
from services.storage.connection import REFUSED, refusal_words

TENANT_HEADER = "X-AlignX-Tenant"
_TENANT_FIELD = TENANT_HEADER.lower().encode()
USER_HEADER = "X-AlignX-User"
"""The one user whom the caller may name, percent-encoded: from the gateway, for a user token."""
APPEND_HEADER = "X-AlignX-May-Append"
"""There where the caller of a chat has the scope events:write: from the gateway."""
_SWITCH_S = 0.0002
"""So long a thread keeps the loop waiting at each of its system calls."""
TOKEN_HEADER = "X-AlignX-Internal"  # noqa: S105  # the name of the header, not a secret
COST_HEADER = "X-AlignX-Cost"
"""On an answer to the gateway: as how many requests this one counts, if more than one."""
DRAINING_HEADER = "X-AlignX-Draining"
"""On an answer of an instance that shuts down and has done nothing: another instance should get the request."""
PROBLEM_JSON = "application/problem+json"
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
STORE_FAULTS = (*AWAY, *REFUSED)
"""Faults that pass: Redis is away, slow, full, a replica that was not promoted yet, cannot save, or a cluster
that does not serve these slots now. Any other error of Redis is a bug of ours and stays a 500."""
_STORE_RETRY_S = 1.0
_YOUNG = 20_000
"""Objects after which the garbage collector looks through new ones: more than one large request brings."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[object]]
"""Yields the service's own record for `state_of` (state.py)."""


# --- errors ------------------------------------------------------------------------------------


def problem_response(scope: Scope, error: AlignXError) -> Response:
    """The error as problem+json, or in the shape of OpenAI or Anthropic where their clients call."""
    headers: dict[str, str] = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allow
    if isinstance(error, Draining):
        headers[DRAINING_HEADER] = "true"
    headers |= {**error.headers, **cost_header(scope)}
    request_id = scope.get("state", {}).get("request_id")
    if scope["path"].startswith(ANTHROPIC_PATHS) and request_id:
        headers["Request-Id"] = request_id  # by this name Anthropic's clients read it
    document = error.document(scope["path"], request_id=request_id)
    is_problem = not scope["path"].startswith((*OPENAI_PATHS, *ANTHROPIC_PATHS))
    return Response(orjson.dumps(document), error.status, headers, PROBLEM_JSON if is_problem else "application/json")


def cost_header(scope: Scope) -> dict[str, str]:
    """The field that tells the gateway what the request has cost, if more than one usually does."""
    cost: float = scope.get("state", {}).get("cost", 0.0)
    return {COST_HEADER: f"{cost:.3f}"} if cost else {}


def _http_error(request: Request, error: HTTPException) -> AlignXError:
    if isinstance(error.__cause__, AlignXError):
        return error.__cause__  # FastAPI wraps whatever stops it from reading a body
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return RouteUnknown()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return MethodNotAllowed(allow=", ".join(_allowed(request)))
        case _:
            return RequestError(error.detail)


def _allowed(request: Request) -> list[str]:
    """The methods of all routes with this path; the exception knows those of one route only."""
    routes = request.app.router.routes
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return [
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


def _install_error_handlers(app: FastAPI, metrics: HttpMetrics) -> None:
    async def answer(request: Request, error: Exception) -> Response:
        problem = await _to_problem(request, error)
        metrics.problems.labels(problem.code).inc()
        return problem_response(request.scope, problem)

    for kind in (AlignXError, RequestValidationError, HTTPException, *STORE_FAULTS):
        app.add_exception_handler(kind, answer)


async def _to_problem(request: Request, error: Exception) -> AlignXError:
    match error:
        case AlignXError():
            return error
        case RequestValidationError():
            await asyncio.sleep(0)  # a thousand problems took their time
            return invalid_request(error)
        case HTTPException():
            return _http_error(request, error)
        case _:
            logging.getLogger("alignx.http").warning("redis cannot serve", extra={"error": type(error).__name__})
            return StoreUnavailable(refusal_words(error), retry_after=_STORE_RETRY_S)


# --- the app -----------------------------------------------------------------------------------


def create_app(
    *,
    service: str,
    title: str,
    settings: Settings,
    registry: CollectorRegistry,
    checks: Callable[[FastAPI], Mapping[str, Check]],
    lifespan: Lifespan,
    description: str = "",
    openapi_url: str | None = "/openapi.json",
    operator_guard: Guard = open_to_all,
    one_of: Collection[str] = (),
    advisory: Collection[str] = (),
    engine: EngineView = lambda _app: None,
    holder_of: Callable[[Scope], str] | None = None,
    known_refusal: Callable[[Scope], AlignXError | None] = lambda _scope: None,
) -> FastAPI:
    """A FastAPI app with the suite's errors, telemetry, health and metrics.

    `checks` is called at each /readyz, when the lifespan has yielded its record; for `one_of`, `advisory` and
    `engine` see health.py. `operator_guard` lets those pass who may read metrics and the engine's own words.
    There is no docs page here: the gateway serves one for all services, from their /openapi.json. `holder_of` says who
    calls, as far as that is known at once; a service reads it from the gateway's header. `known_refusal` is what a call
    gets that is sure to be refused, before it has a task.
    """
    metrics = HttpMetrics(registry)
    shedding = LoadShedding(
        registry, holder_of=holder_of or _told_tenant, known_refusal=known_refusal, refuse=_early_answers(metrics)
    )

    @asynccontextmanager
    async def with_state(app: FastAPI) -> AsyncIterator[None]:
        async with recorded_spans(service, settings.tracing), lifespan(app) as record:
            add_state(app, record)
            shedding.start()
            try:
                yield
            finally:
                shedding.stop()

    app = FastAPI(
        title=title,
        version=__version__,
        description=description,
        lifespan=with_state,
        docs_url=None,
        openapi_url=openapi_url,
        generate_unique_id_function=lambda route: route.name,  # what names no other operationId has its function's
    )
    app.router.route_class = JsonRoute
    drain = Drain()
    add_state(app, Process(settings, drain, registry, shedding))
    _install_error_handlers(app, metrics)

    _add_middleware(app, metrics, access_log=settings.log.access)
    add_health(app, checks, one_of, advisory, engine, operator_guard)
    add_metrics(app, registry, operator_guard)
    return app


def _told_tenant(scope: Scope) -> str:
    return next((str(value, "latin-1") for name, value in scope["headers"] if name == _TENANT_FIELD), "")


def _early_answers(metrics: HttpMetrics) -> Callable[[Scope, AlignXError], ASGIApp]:
    def refuse(scope: Scope, error: AlignXError) -> ASGIApp:
        metrics.problems.labels(error.code).inc()
        metrics.requests.labels(scope["method"], matched_route(scope), str(error.status)).inc()
        request_id, _ = ids_of(scope)
        scope["state"]["request_id"] = request_id
        response = problem_response(scope, error)
        response.headers["X-Request-Id"] = request_id
        return response

    return refuse


def _add_middleware(app: FastAPI, metrics: HttpMetrics, *, access_log: bool) -> None:
    def on_crash(scope: Scope, _error: Exception) -> ASGIApp:
        metrics.problems.labels(AlignXError.code).inc()
        return problem_response(scope, AlignXError())

    app.add_middleware(RequestTelemetry, metrics=metrics, on_crash=on_crash, access_log=access_log)


async def tenant_of(request: Request) -> str:
    """Dependency: the tenant the gateway vouches for. Raises Unauthenticated without its token."""
    settings = state_of(request.app, Process).settings
    token = request.headers.get(TOKEN_HEADER, "")
    if not hmac.compare_digest(token.encode(), settings.internal_token.get_secret_value().encode()):
        raise Unauthenticated("This service answers the gateway only; call the gateway with an API key.")
    tenant = request.headers.get(TENANT_HEADER, "")
    if not tenant:
        raise Unauthenticated(f"The header {TENANT_HEADER} is missing.")
    return tenant


def only_user_of(request: Request) -> str | None:
    """Dependency beside `tenant_of`: the one user whom the caller may name; None for a caller with an API key."""
    user = request.headers.get(USER_HEADER)
    return None if user is None else unquote(user)


def as_utf8(header: str | None) -> str | None:
    """Header fields arrive as Latin-1, whatever they are. An empty one says nothing."""
    return header.encode("latin-1").decode(errors="replace") if header else None


HeaderUser = Annotated[
    UserId | None, BeforeValidator(as_utf8), Header(description="The user, where the body names none.")
]
"""The header X-User-Id; name the argument `x_user_id`."""


def sse(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """One server-sent event; `data` is a single line, as JSON always is."""
    head = (f"id: {event_id}\n" if event_id else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + data + b"\n\n"


# --- the process -------------------------------------------------------------------------------


class GracefulServer(uvicorn.Server):
    """Begins the drain when a signal arrives, and closes the listener `drain_s` later. Its loop waits little for
    threads and for the garbage collector."""

    def __init__(self, config: uvicorn.Config, drain: Drain, drain_s: float) -> None:
        super().__init__(config)
        self.drain = drain
        self.drain_s = drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.setswitchinterval(_SWITCH_S)
        gc.freeze()  # what the process holds for good: each full collection would look through it
        gc.set_threshold(_YOUNG, 10, 10)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.drain.begin()
        # Each answer from now on closes its connection, so that no caller sends a request into a closed one.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await asyncio.sleep(self.drain_s)
        self.drain.end()
        await super().shutdown(sockets)


def create_server(
    app: FastAPI, settings: Settings, *, port: int, streams: int = 0, cross_origin: CrossOrigin = same_origin
) -> GracefulServer:
    """The server of `app`; `port` is the service's own, unless the settings name another. One address, the gateway's,
    may hold `streams` connections beside the others."""
    config = uvicorn.Config(
        app,
        host=settings.server.host,
        port=port if settings.server.port is None else settings.server.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        http=bounded_protocol(
            settings.server.connections_per_address + streams, state_of(app, Process).shedding, cross_origin
        ),
        timeout_keep_alive=settings.server.keep_alive_s,
        timeout_graceful_shutdown=settings.server.shutdown_s,
    )
    return GracefulServer(config, state_of(app, Process).drain, settings.server.drain_s)


def serve(
    app: FastAPI,
    settings: Settings,
    service: str,
    *,
    port: int,
    streams: int = 0,
    cross_origin: CrossOrigin = same_origin,
) -> None:
    """Logs as `service` and answers requests until SIGTERM or Ctrl-C."""
    configure_logging(service, settings.log.level)
    raise_file_limit()
    with suppress(KeyboardInterrupt):
        create_server(app, settings, port=port, streams=streams, cross_origin=cross_origin).run()
