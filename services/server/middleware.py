"""`RequestTelemetry`, a pure ASGI middleware: it gives every request an id (or keeps the caller's),
puts it into logs and answers, times the request, opens its span (services/tracing.py), and turns an
unforeseen exception into a logged 500 problem.
"""

import logging
import re
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignx import __version__
from services.server.logging import ARRIVED, REQUEST_ID
from services.server.metrics import HttpMetrics
from services.tracing import NO_SPAN, SPAN, Span, Tracer

_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_UNTRACED = frozenset(("/livez", "/readyz", "/metrics"))


def open_tracer(service: str, endpoint: str | None, sample: float, *, trusting: bool = True) -> Tracer:
    """The tracer of a process; one that records nothing without an endpoint to send to. One that trusts
    records what a caller records."""
    if endpoint is None:
        return Tracer()
    from services.server.spans import RecordingTracer  # needs an extra, which most do without

    return RecordingTracer(service, __version__, endpoint, sample, trusting=trusting)


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
