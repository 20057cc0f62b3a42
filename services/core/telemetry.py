"""What a process says of itself: JSON logs, HTTP metrics, and the request id that joins them.

`RequestTelemetry` is a pure ASGI middleware: it gives every request an id (or keeps the caller's),
puts it into logs and answers, times the request, opens its span (tracing.py), and turns an
unforeseen exception into a logged 500 problem. Log lines and metric labels never hold a user's id or
text; routes are logged as templates.
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol
from uuid import uuid4

import orjson
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import error_tree
from services.core.schemas import TokenCounts
from services.core.tracing import NO_SPAN, SPAN, Span, Tracer

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
ARRIVED: ContextVar[float] = ContextVar("arrived", default=0.0)
"""When the request under way came (`time.perf_counter`); 0 outside of one."""
OTHER_TENANT = "other"
"""Label of every tenant that the settings do not list."""

_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_UNTRACED = frozenset(("/livez", "/readyz", "/metrics"))
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


# --- logs --------------------------------------------------------------------------------------


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, logger, message, request_id, trace_id, and `extra`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self.service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        if trace_id := SPAN.get().trace_id:
            line["trace_id"] = trace_id
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
        if record.exc_info and record.exc_info[1]:
            line |= _exception_fields(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


def _exception_fields(error: BaseException) -> dict[str, Any]:
    # Frames and the class only: the message of an exception can quote what a user wrote.
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "exception": type(error).__name__,
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }


def configure_logging(service: str, level: str = "INFO") -> None:
    """Sends every logger of the process, uvicorn's too, to stdout as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # RequestTelemetry writes the access line


# --- metrics -----------------------------------------------------------------------------------


def create_registry(service: str) -> CollectorRegistry:
    """A registry with the process's own figures (memory, CPU, open files) and what it is."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    about = ("service", "version")
    build = Gauge(
        "alignx_build_info", "Always 1; the labels say which service runs in which version", about, registry=registry
    )
    build.labels(service, version("alignx-serve")).set(1)
    return registry


def open_tracer(service: str, endpoint: str | None, sample: float, *, trusting: bool = True) -> Tracer:
    """The tracer of a process; one that records nothing without an endpoint to send to. One that trusts
    records what a caller records."""
    if endpoint is None:
        return Tracer()
    from services.core.spans import RecordingTracer  # needs an extra, which most do without

    return RecordingTracer(service, version("alignx-serve"), endpoint, sample, trusting=trusting)


class HttpMetrics:
    """Requests of one process, by method, route template and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route")
        self.requests = Counter("alignx_http_requests", "Requests answered", (*labels, "status"), registry=registry)
        self.seconds = Histogram(
            "alignx_http_request_duration_seconds",
            "Seconds from the request to the last byte of its answer",
            labels,
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("alignx_http_requests_in_flight", "Requests being answered now", registry=registry)
        self.problems = Counter("alignx_problems", "Errors answered, by problem code", ("code",), registry=registry)
        for error in error_tree():
            self.problems.labels(error.code)  # from 0 on: a rate does not see the step from nothing to 1


class EngineCallRecord(Protocol):
    """What is measured of a call to the engine; `services.core.calls.EngineCall` is one."""

    @property
    def kind(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def ttft_s(self) -> float | None: ...
    @property
    def tokens(self) -> TokenCounts: ...
    @property
    def tenant(self) -> str: ...


class CallsUnderWay(Protocol):
    """What is looked at of the calls as they are now; `services.core.calls.Calls` is one."""

    in_flight: int

    @property
    def breaker_open(self) -> bool: ...


class EngineMetrics:
    """Calls to the engine from one process. `tenants` are those whose tokens are counted by name."""

    def __init__(self, registry: CollectorRegistry, tenants: Iterable[str] = ()) -> None:
        self._tenants = frozenset(tenants)
        self.calls = Counter("alignx_engine_calls", "Calls to the engine", ("kind", "outcome"), registry=registry)
        self.seconds = Histogram(
            "alignx_engine_call_duration_seconds",
            "Seconds of a call to the engine, the wait for a free slot included",
            ("kind",),
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.first_token = Histogram(
            "alignx_engine_time_to_first_token_seconds",
            "Seconds from a call to its first text",
            ("kind",),
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.tokens = Counter(
            "alignx_engine_tokens",
            "Tokens read (prompt, cached among them) and written",
            ("kind", "token"),
            registry=registry,
        )
        self.tenant_tokens = Counter(
            "alignx_tenant_tokens",
            "Tokens by the tenant they were spent on: one of ALIGNX_METRICS__TENANTS, or other",
            ("tenant", "token"),
            registry=registry,
        )
        self.in_flight = Gauge("alignx_engine_calls_in_flight", "Calls at the engine now", registry=registry)
        self.breaker = Gauge(
            "alignx_engine_breaker_open", "1 while calls or updates wait because the engine fails", registry=registry
        )

    def watch(self, calls: CallsUnderWay, held_back: Callable[[], bool] = lambda: False) -> None:
        """Reads the state of `calls` at every scrape; `held_back` tells of what waits before it comes to a call."""
        self.in_flight.set_function(lambda: calls.in_flight)
        self.breaker.set_function(lambda: float(calls.breaker_open or held_back()))

    def observe(self, call: EngineCallRecord) -> None:
        self.calls.labels(call.kind, call.outcome).inc()
        self.seconds.labels(call.kind).observe(call.seconds)
        if call.ttft_s is not None:
            self.first_token.labels(call.kind).observe(call.ttft_s)
        for name, count in call.tokens:
            self.tokens.labels(call.kind, name).inc(count)
            self.tenant_tokens.labels(call.tenant if call.tenant in self._tenants else OTHER_TENANT, name).inc(count)


# --- the middleware ----------------------------------------------------------------------------

RouteName = Callable[[Scope], str]


def matched_route(scope: Scope) -> str:
    """The path template that served the request; "unmatched" keeps stray paths out of labels."""
    return getattr(scope.get("route"), "path", "unmatched")


class RequestTelemetry:
    """Request id, access line, metrics, and the last line of defence against an exception.

    `on_crash(scope)` returns the ASGI app that answers when the wrapped one raises before it has
    started its answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: HttpMetrics,
        on_crash: Callable[[Scope, Exception], ASGIApp],
        route_name: RouteName = matched_route,
        access_log: bool = True,
        tracer: Tracer | None = None,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.on_crash = on_crash
        self.route_name = route_name
        self.access_log = access_log
        self.tracer = tracer or Tracer()
        self.logger = logging.getLogger("alignx.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, traceparent = _joined_by(scope)
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
        span = NO_SPAN if scope["path"] in _UNTRACED else self.tracer.span(scope["method"], "server", traceparent)
        within = SPAN.set(span)
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            self.logger.exception("request failed")
            span.fail(type(error).__name__)
            if status:
                raise  # the answer has begun: only a broken connection can tell the caller now
            await self.on_crash(scope, error)(scope, receive, send_with_id)
        finally:
            self.metrics.in_flight.dec()
            self._observe(scope, span, status or 499, time.perf_counter() - started)
            SPAN.reset(within)
            ARRIVED.reset(arrived)
            REQUEST_ID.reset(token)

    def _observe(self, scope: Scope, span: Span, status: int, seconds: float) -> None:
        method, route = scope["method"], self.route_name(scope)
        if span is not NO_SPAN:
            about = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            span.note(about | {"alignx.request_id": REQUEST_ID.get()}, f"{method} {route}")
            if status >= 500:
                span.fail(str(status))
            span.end()
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)
        if self.access_log:
            fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 2)}
            self.logger.info("request", extra=fields)


def _joined_by(scope: Scope) -> tuple[str, str]:
    """The request's id, the caller's or a new one, and the `traceparent` that came with it."""
    request_id = traceparent = ""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and not request_id and _VALID_ID.fullmatch(value):
            request_id = str(value, "ascii")
        elif name == b"traceparent":
            traceparent = value.decode("latin-1")
    return request_id or uuid4().hex, traceparent
