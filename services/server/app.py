"""What every HTTP process of the suite shares: the app, its errors, its health and its streams.

`create_app` gives a FastAPI app with problem+json errors, /livez, /readyz and /metrics; `serve`
runs it until SIGTERM and then drains it. Services sit behind the gateway and know it by a shared
token; `tenant_of` is the dependency that checks the token and names the tenant.
"""

import asyncio
import hmac
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Scope

from alignx import __version__
from alignx.schemas.interactions import INTERACTION_TYPES
from services.errors import (
    AlignXError,
    Draining,
    InvalidRequest,
    MalformedBody,
    MethodNotAllowed,
    PayloadTooLarge,
    RequestError,
    RouteUnknown,
    StoreUnavailable,
    Unauthenticated,
)
from services.server.health import Check, Guard, add_health, add_metrics, open_to_all
from services.server.logging import configure_logging
from services.server.metrics import HttpMetrics
from services.server.middleware import RequestTelemetry, open_tracer
from services.server.shutdown import Drain
from services.settings import Settings
from services.storage.cluster import AWAY
from services.storage.connection import REFUSED

TENANT_HEADER = "X-AlignX-Tenant"
TOKEN_HEADER = "X-AlignX-Internal"  # noqa: S105  # the name of the header, not a secret
DRAINING_HEADER = "X-AlignX-Draining"
"""On an answer of an instance that shuts down and has done nothing: the request belongs elsewhere."""
PROBLEM_JSON = "application/problem+json"
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
OPENAI_PATHS = ("/v1/chat/", "/v1/models")
"""Paths on which OpenAI's clients call and expect its error shape."""
STORE_FAULTS = (*AWAY, *REFUSED)
"""What a caller can wait out: Redis is away, slow, full, a replica that was not promoted yet, cannot save,
or a cluster that does not serve these slots now. Any other error of Redis is a mistake of ours and stays a
500."""
_STORE_RETRY_S = 1.0

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class JsonRequest(Request):
    """Reads JSON with a parser that refuses endless nesting instead of exhausting the stack, and no
    more bytes than a body may have."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        settings: Settings = self.app.state.settings
        limit, size = settings.limits.body_bytes, 0
        async for chunk in super().stream():
            size += len(chunk)
            if size > limit:
                raise PayloadTooLarge(f"The body may have at most {limit:,} bytes.", limit_bytes=limit)
            yield chunk

    async def json(self) -> Any:
        return orjson.loads(await self.body())


class JsonRoute(APIRoute):
    """Route class of every router here: bodies go through JsonRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_json_request(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return with_json_request


# --- errors ------------------------------------------------------------------------------------


def problem_response(scope: Scope, error: AlignXError) -> Response:
    """The error as problem+json, or in OpenAI's shape where OpenAI's clients call."""
    headers: dict[str, str] = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allow
    if isinstance(error, Draining):
        headers[DRAINING_HEADER] = "true"
    if scope["path"].startswith(OPENAI_PATHS):
        return Response(orjson.dumps(error.openai()), error.status, headers, "application/json")
    request_id = scope.get("state", {}).get("request_id")
    document = error.problem(instance=scope["path"], request_id=request_id)
    return Response(orjson.dumps(document), error.status, headers, PROBLEM_JSON)


def _invalid_request(error: RequestValidationError) -> RequestError:
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return MalformedBody("The body is not valid JSON, or is nested too deeply.")
    inner = [problem["loc"][:-1] for problem in problems]
    problems = [problem for problem in problems if not _told_by_entries(problem, inner)]
    fields = [
        {"field": _field(problem["loc"]), "message": problem["msg"].removeprefix("Value error, ")}
        for problem in problems[:20]
    ]
    first = fields[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"{first['field']}: {first['message']}{more}", errors=fields)


def _told_by_entries(problem: Mapping[str, Any], inner: Sequence[tuple[str | int, ...]]) -> bool:
    """A list whose entries are all bad is also called too short; its entries say what is wrong."""
    place = problem["loc"]
    return problem["type"] == "too_short" and any(loc[: len(place)] == place for loc in inner)


def _field(place: Sequence[str | int]) -> str:
    """The dotted path of a field as the caller wrote it; the discriminator that pydantic adds to the
    path of a union is left out."""
    parts = [str(part) for part in place if part not in INTERACTION_TYPES]
    if parts[0] in ("body", "query", "path", "header"):
        parts = parts[1:]
    return ".".join(parts) or "body"


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
    """The methods that the path takes. The exception itself knows those of one route only, and a path
    may have several."""
    routes = request.app.router.routes
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return [method for method, scope in scopes.items() if any(one.matches(scope)[0] is Match.FULL for one in routes)]


def _install_error_handlers(app: FastAPI, metrics: HttpMetrics) -> None:
    def answer(request: Request, error: AlignXError) -> Response:
        metrics.problems.labels(error.code).inc()
        return problem_response(request.scope, error)

    async def on_alignx(request: Request, error: Exception) -> Response:
        assert isinstance(error, AlignXError)
        return answer(request, error)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, _invalid_request(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request, _http_error(request, error))

    async def on_store(request: Request, error: Exception) -> Response:
        logging.getLogger("alignx.http").warning("redis cannot serve", extra={"error": type(error).__name__})
        return answer(request, StoreUnavailable(retry_after=_STORE_RETRY_S))

    for fault in STORE_FAULTS:
        app.add_exception_handler(fault, on_store)
    app.add_exception_handler(AlignXError, on_alignx)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


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
    metrics_guard: Guard = open_to_all,
    one_of: Collection[str] = (),
    advisory: Collection[str] = (),
) -> FastAPI:
    """A FastAPI app with the suite's errors, telemetry, health and metrics.

    `checks` is read at each /readyz, when the lifespan has filled `app.state`; for `one_of` and `advisory`
    see health.py. There is no docs page here: the gateway serves one for all services, from their /openapi.json.
    """
    app = FastAPI(
        title=title,
        version=__version__,
        description=description,
        lifespan=_traced(lifespan),
        docs_url=None,
        openapi_url=openapi_url,
    )
    app.router.route_class = JsonRoute
    app.state.settings = settings
    app.state.drain = Drain()
    app.state.registry = registry
    tracing = settings.tracing
    # Behind the gateway the caller is the gateway, which has decided.
    trusting = tracing.trust_callers or service != "gateway"
    tracer = app.state.tracer = open_tracer(service, tracing.endpoint, tracing.sample, trusting=trusting)
    metrics = HttpMetrics(registry)
    _install_error_handlers(app, metrics)

    def on_crash(scope: Scope, _error: Exception) -> ASGIApp:
        metrics.problems.labels(AlignXError.code).inc()
        return problem_response(scope, AlignXError())

    access = settings.log.access
    app.add_middleware(RequestTelemetry, metrics=metrics, on_crash=on_crash, access_log=access, tracer=tracer)
    add_health(app, checks, one_of, advisory)
    add_metrics(app, registry, metrics_guard)
    return app


def _traced(lifespan: Lifespan) -> Lifespan:
    """The lifespan, and behind it the last spans are sent."""

    @asynccontextmanager
    async def traced(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with lifespan(app):
                yield
        finally:
            await asyncio.to_thread(app.state.tracer.close)

    return traced


def tenant_of(request: Request) -> str:
    """Dependency: the tenant the gateway vouches for. Raises Unauthenticated without its token."""
    settings: Settings = request.app.state.settings
    token = request.headers.get(TOKEN_HEADER, "")
    if not hmac.compare_digest(token.encode(), settings.internal_token.get_secret_value().encode()):
        raise Unauthenticated("This service answers the gateway only; call the gateway with an API key.")
    tenant = request.headers.get(TENANT_HEADER, "")
    if not tenant:
        raise Unauthenticated(f"The header {TENANT_HEADER} is missing.")
    return tenant


def sse(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """One server-sent event; `data` is a single line, as JSON always is."""
    head = (f"id: {event_id}\n" if event_id else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + data + b"\n\n"


# --- the process -------------------------------------------------------------------------------


class DrainingServer(uvicorn.Server):
    """Begins the drain when a signal arrives, and only `drain_s` later closes the door."""

    def __init__(self, config: uvicorn.Config, drain: Drain, drain_s: float) -> None:
        super().__init__(config)
        self.drain = drain
        self.drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.drain.begin()
        # Each answer from now on closes its connection: no caller finds it closed in its hands.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await asyncio.sleep(self.drain_s)
        self.drain.end()
        await super().shutdown(sockets)


def create_server(app: FastAPI, settings: Settings, *, port: int) -> DrainingServer:
    """The server of `app`; `port` is the service's own, unless the settings name another."""
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
        http="httptools",
        timeout_keep_alive=settings.server.keep_alive_s,
        timeout_graceful_shutdown=settings.server.shutdown_s,
    )
    return DrainingServer(config, app.state.drain, settings.server.drain_s)


def serve(app: FastAPI, settings: Settings, service: str, *, port: int) -> None:
    """Logs as `service` and answers requests until SIGTERM or Ctrl-C."""
    configure_logging(service, settings.log.level)
    with suppress(KeyboardInterrupt):
        create_server(app, settings, port=port).run()
