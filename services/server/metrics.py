"""Telemetry of an HTTP process: metrics, request ids, access lines, and the spans of its requests.

No label of a metric holds a user's id. `RequestTelemetry` is a pure ASGI middleware.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from opentelemetry.context import attach, detach
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, set_span_in_context
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignx import __version__
from services.errors import error_tree
from services.server.logging import ARRIVED, REQUEST_ID
from services.settings import LATENCY_BUCKETS_S, TracingSettings
from services.tracing import record_with, start_span


def create_registry(service: str) -> CollectorRegistry:
    """A registry with the process's own figures (memory, CPU, open files) and what it is."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    about = ("service", "version")
    build = Gauge(
        "alignx_build_info", "Always 1; the labels say which service runs in which version", about, registry=registry
    )
    build.labels(service, __version__).set(1)
    return registry


class HttpMetrics:
    """Requests of one process, by method, route template and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route")
        self.requests = Counter("alignx_http_requests", "Requests answered", (*labels, "status"), registry=registry)
        self.seconds = Histogram(
            "alignx_http_request_duration_seconds",
            "Seconds from the request to the last byte of its answer",
            labels,
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge("alignx_http_requests_in_flight", "Requests being answered now", registry=registry)
        self.problems = Counter("alignx_problems", "Errors answered, by problem code", ("code",), registry=registry)
        for error in error_tree():
            self.problems.labels(error.code)  # from 0 on: a rate does not see the step from nothing to 1


_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_UNTRACED = frozenset(("/livez", "/readyz", "/metrics"))


@asynccontextmanager
async def recorded_spans(service: str, settings: TracingSettings) -> AsyncIterator[None]:
    """Records and sends the spans of the process, where there is an endpoint to send them to."""
    if settings.endpoint is None:
        yield
        return
    from services.server.spans import create_provider  # needs an extra, which most do without

    # Behind the gateway the caller is the gateway, which has decided.
    trusting = settings.trust_callers or service != "gateway"
    provider = create_provider(service, settings.endpoint, settings.sample, trusting=trusting)
    record_with(provider.get_tracer("alignx", __version__))
    try:
        yield
    finally:
        await asyncio.to_thread(provider.shutdown)  # sends the last ones


ENDLESS = "endless_body"
"""In a request's state: what sends the rest of an answer that has begun and never ends by itself. `RequestTelemetry`
awaits it when all that has led to the answer has returned: an open stream then costs half the memory."""


def matched_route(scope: Scope) -> str:
    """The path template that served the request; "unmatched" keeps stray paths out of labels."""
    return getattr(scope.get("route"), "path", "unmatched")


class RequestTelemetry:
    """Gives every request an id (or keeps the caller's), counts, times and logs it, opens its span, and turns an
    unforeseen exception into a logged 500.

    `on_crash(scope)` returns the ASGI app that answers when the wrapped one raises before it has
    started its answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: HttpMetrics,
        on_crash: Callable[[Scope, Exception], ASGIApp],
        access_log: bool = True,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.on_crash = on_crash
        self.access_log = access_log
        self.logger = logging.getLogger("alignx.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, traceparent = ids_of(scope)
        token = REQUEST_ID.set(request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started = time.perf_counter()
        arrived = ARRIVED.set(started)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        self.metrics.in_flight.inc()
        untraced = scope["path"] in _UNTRACED
        span = INVALID_SPAN if untraced else start_span(scope["method"], SpanKind.SERVER, traceparent)
        within = attach(set_span_in_context(span))
        try:
            await self.app(scope, receive, send_with_id)
            if rest := scope["state"].pop(ENDLESS, None):
                _free(scope)
                await rest(receive, send_with_id)
        except Exception as error:
            self.logger.exception("request failed")
            span.set_status(StatusCode.ERROR, type(error).__name__)
            if status:
                raise  # the answer has begun: only a broken connection can tell the caller now
            await self.on_crash(scope, error)(scope, receive, send_with_id)
        finally:
            self.metrics.in_flight.dec()
            self._observe(scope, span, status or 499, time.perf_counter() - started)
            detach(within)
            ARRIVED.reset(arrived)
            REQUEST_ID.reset(token)

    def _observe(self, scope: Scope, span: Span, status: int, seconds: float) -> None:
        method, route = scope["method"], matched_route(scope)
        if span.is_recording():
            about = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            span.set_attributes(about | {"alignx.request_id": REQUEST_ID.get()})
            span.update_name(f"{method} {route}")
            if status >= 500:
                span.set_status(StatusCode.ERROR, str(status))
            span.end()
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)
        if self.access_log:
            fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 2)}
            self.logger.info("request", extra=fields)


def _free(scope: Scope) -> None:
    """Lets go of what the rest of an endless answer does not read of its request."""
    scope["headers"].clear()
    for name in [name for name in scope if name.startswith("fastapi")]:
        del scope[name]


def ids_of(scope: Scope) -> tuple[str, str]:
    """The request's id, the caller's or a new one, and the `traceparent` that came with it."""
    request_id = traceparent = ""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and not request_id and _VALID_ID.fullmatch(value):
            request_id = str(value, "ascii")
        elif name == b"traceparent":
            traceparent = value.decode("latin-1")
    return request_id or uuid4().hex, traceparent
