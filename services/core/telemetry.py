"""What a process says of itself: JSON logs, HTTP metrics, and the request id that joins them.

`RequestTelemetry` is a pure ASGI middleware: it gives every request an id (or keeps the caller's),
puts it into logs and answers, times the request, and turns an unforeseen exception into a logged
500 problem. Log lines and metric labels never hold a user's id or text; routes are logged as
templates.
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
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

from services.core.schemas import TokenCounts

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


# --- logs --------------------------------------------------------------------------------------


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, logger, message, request_id, and `extra`."""

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


def create_registry() -> CollectorRegistry:
    """A registry with the process's own figures (memory, CPU, open files)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
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
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("alignx_http_requests_in_flight", "Requests being answered now", registry=registry)
        self.problems = Counter("alignx_problems", "Errors answered, by problem code", ("code",), registry=registry)


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


class EngineMetrics:
    """Calls to the engine from one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
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

    def observe(self, call: EngineCallRecord) -> None:
        self.calls.labels(call.kind, call.outcome).inc()
        self.seconds.labels(call.kind).observe(call.seconds)
        if call.ttft_s is not None:
            self.first_token.labels(call.kind).observe(call.ttft_s)
        for name, count in call.tokens:
            self.tokens.labels(call.kind, name).inc(count)


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
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.on_crash = on_crash
        self.route_name = route_name
        self.access_log = access_log
        self.logger = logging.getLogger("alignx.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        token = REQUEST_ID.set(request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            self.logger.exception("request failed")
            if status:
                raise  # the answer has begun: only a broken connection can tell the caller now
            await self.on_crash(scope, error)(scope, receive, send_with_id)
        finally:
            self.metrics.in_flight.dec()
            self._observe(scope, status or 499, time.perf_counter() - started)
            REQUEST_ID.reset(token)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], self.route_name(scope)
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)
        if self.access_log:
            fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 2)}
            self.logger.info("request", extra=fields)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _VALID_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid4().hex
