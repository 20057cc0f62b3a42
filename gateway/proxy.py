"""The proxy: passes requests to a service, and answers back.

A raw ASGI app, mounted at /v1: it finds the route, asks who calls, reads the body, calls the
service, and passes the answer on, byte by byte and chunk by chunk as it comes. The answer's field
`Server-Timing: gateway;dur=0.41, service;dur=12.3` gives the milliseconds from the request's
arrival (its body included) to the call of the service, and from there to the answer's first byte.
"""

import asyncio
import io
import logging
import time
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial

import aiohttp
import orjson
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Receive, Scope, Send
from yarl import URL

from gateway import headers, routing
from gateway.auth import AuthState, Caller
from gateway.liveness import Hung
from gateway.routing import CHATS, SERVICES, Route, RoutingTable, is_for_user, needed_scope, user_of
from gateway.shares import Shares, kind_of
from gateway.upstreams import NOT_SENT, SEVERED, Replica, Upstreams, silence_timeout
from services.errors import AlignXError, Draining, UpstreamUnavailable
from services.server.app import COST_HEADER, DRAINING_HEADER, TOKEN_HEADER, sse
from services.server.metrics import ENDLESS
from services.server.request_bodies import ClientDisconnected, DisconnectWatch, read_body
from services.server.state import Drain, state_of
from services.settings import Settings
from services.tracing import child_span, traceparent_of

_STREAMED_BODY = 1 << 20
"""Bytes from which a request body is sent in pieces, so that it does not hold up the event loop."""
_BYTES_OF_ONE = 1 << 16
"""Bytes of a body that take the time of one request."""
_REPEATABLE = ("GET", "HEAD")
_OVERHEAD_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)


class ProxyMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.overhead = Histogram(
            "alignx_gateway_overhead_seconds",
            "Seconds from a request's arrival to the call of its service",
            buckets=_OVERHEAD_BUCKETS,
            registry=registry,
        )
        upstream = Histogram(
            "alignx_gateway_upstream_seconds",
            "Seconds from the call of a service to the first byte of its answer",
            ("service",),
            registry=registry,
        )
        failures = Counter(
            "alignx_gateway_upstream_failures",
            "Calls that a service did not answer, or not to the end",
            ("service", "stage"),
            registry=registry,
        )
        self.upstream = {service: upstream.labels(service) for service in SERVICES}
        self.failures = {
            (service, stage): failures.labels(service, stage) for service in SERVICES for stage in ("answer", "body")
        }


@dataclass(frozen=True, slots=True)
class ProxyState(AuthState):
    """The part of the gateway's state that requests to the services need."""

    session: aiohttp.ClientSession
    upstreams: Upstreams


@dataclass(slots=True)
class Call:
    """A request that is being forwarded."""

    route: Route
    scope: Scope
    send: Send
    state: ProxyState
    watch: DisconnectWatch
    started: float
    caller: Caller
    ended: bool = False
    """The caller's key or token has ended."""

    @property
    def is_heard_to_the_end(self) -> bool:
        return self.route.is_heard_to_the_end(self.scope["method"])


class Proxy:
    """The ASGI app of everything under /v1."""

    def __init__(self, settings: Settings, registry: CollectorRegistry, drain: Drain) -> None:
        self._drain = drain
        self._table = RoutingTable()
        self._metrics = ProxyMetrics(registry)
        self._limits = settings.limits
        self._shares = Shares(settings.gateway)
        self._quick = silence_timeout(settings.gateway, settings.gateway.quick_timeout_s)
        self._patient = silence_timeout(settings.gateway, settings.gateway.read_timeout_s)
        self._body_timeout_s = settings.gateway.body_timeout_s
        self._token = settings.internal_token.get_secret_value()
        self._inward = headers.inward_names(settings.response.user_headers)
        self._endless: set[asyncio.Task[object]] = set()
        self._logger = logging.getLogger("alignx.gateway")

    async def end_streams_on_drain(self) -> None:
        """Waits for shutdown, then ends the streams that would not end by themselves."""
        await self._drain.wait()
        for task in tuple(self._endless):  # one that joins later ends itself
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send, caller: Caller | None = None) -> None:
        """Passes a request on; for a `caller` who has been admitted, or else for whom its headers name."""
        started = time.perf_counter()
        route = self._table.find(scope["raw_path"])
        scope["route"] = route
        needed = needed_scope(route.path, scope["method"])
        if route.endless:
            self._drain.refuse()
        state = state_of(scope["app"], ProxyState)
        caller = caller or await state.authenticator.admit(scope)
        state.authenticator.require(caller, needed)
        if caller.user is not None and not _concerns(route, scope["raw_path"], caller.user):
            raise state.authenticator.other_user()
        with self._shares.take(kind_of(route, scope["headers"]), caller.tenant, caller.key_id, route.service):
            try:
                body = await read_body(scope, receive, limit=self._limits.body_bytes, timeout_s=self._body_timeout_s)
            except ClientDisconnected:
                return
            watch = DisconnectWatch(receive)
            call = Call(route, scope, send, state, watch, started, caller)
            called = child_span(f"call {route.service}", SpanKind.CLIENT)
            with nullcontext() if call.is_heard_to_the_end else watch, called as span:
                if answer := await self._forward(call, body, traceparent_of(span)):
                    scope["state"][ENDLESS] = partial(self._relay_endless, call, answer)

    async def _relay_endless(self, call: Call, answer: aiohttp.ClientResponse, receive: Receive, send: Send) -> None:
        """Takes the place again that was given back a moment ago: nobody else has had a turn."""
        place = self._shares.take("stream", call.caller.tenant, call.caller.key_id, call.route.service)
        with closing(answer), place, DisconnectWatch(receive) as call.watch:
            call.send = send
            await self._relay_events(call, answer.content)

    async def _forward(self, call: Call, body: bytes | None, traceparent: str) -> aiohttp.ClientResponse | None:
        """The answer whose events are still to be relayed, if they are endless."""
        service = call.route.service
        fields = self._headers(call, traceparent)
        sent_at = time.perf_counter()
        self._metrics.overhead.observe(sent_at - call.started)
        try:
            answer = await self._ask(call, body, fields)
            if call.is_heard_to_the_end:
                await answer.read()
        except (aiohttp.ClientError, OSError, Hung) as error:
            await self._log(call, None)
            raise self._broken(call, "answer", error) from error
        self._charge(call, body, answer)
        answered_at = time.perf_counter()
        self._metrics.upstream[service].observe(answered_at - sent_at)
        timing = b"gateway;dur=%.3f, service;dur=%.3f" % ((sent_at - call.started) * 1e3, (answered_at - sent_at) * 1e3)
        with ExitStack() as at_end:
            # To the end of its answer the connection went back to the pool; otherwise this closes it.
            at_end.callback(answer.close)
            await self._log(call, answer)
            if await self._relay(call, answer, timing):
                return None
            at_end.pop_all()
            return answer

    async def _ask(self, call: Call, body: bytes | None, fields: list[tuple[str, str]]) -> aiohttp.ClientResponse:
        """The answer of the first replica that accepts the request; the last replica's in any case."""
        *others, last = call.state.upstreams.order(call.route.service)
        for replica in others:
            if replica.is_hung:
                continue
            try:
                answer = await self._request(call, replica, body, fields)
            except NOT_SENT:
                replica.is_healthy = False
                continue
            except SEVERED:
                if call.scope["method"] not in _REPEATABLE:
                    raise
                continue
            if DRAINING_HEADER not in answer.headers:
                return answer
            replica.is_healthy = False
            answer.close()
        return await self._request(call, last, body, fields)

    async def _request(
        self, call: Call, replica: Replica, body: bytes | None, fields: list[tuple[str, str]]
    ) -> aiohttp.ClientResponse:
        with replica.wait():
            return await call.state.session.request(
                call.scope["method"],
                self._url(call, replica.url),
                headers=fields,
                data=io.BytesIO(body) if body and len(body) > _STREAMED_BODY else body,
                allow_redirects=False,
                timeout=self._patient if call.route.path in CHATS else self._quick,
            )

    def _charge(self, call: Call, body: bytes | None, answer: aiohttp.ClientResponse) -> None:
        """A request that takes as much as several others counts as many."""
        cost = len(body or b"") / _BYTES_OF_ONE
        if told := answer.headers.get(COST_HEADER):
            cost = max(cost, float(told))
        if cost >= 1:
            call.state.authenticator.charge(call.caller, cost)

    def _url(self, call: Call, base: str) -> URL:
        query: bytes = call.scope["query_string"]
        target = base + call.scope["raw_path"].decode("ascii")
        return URL(f"{target}?{query.decode('ascii')}" if query else target, encoded=True)

    def _headers(self, call: Call, traceparent: str) -> list[tuple[str, str]]:
        fields = headers.inward(call.scope["headers"], self._inward)
        fields.append((TOKEN_HEADER, self._token))
        may_append = call.route.path in CHATS and "events:write" in call.caller.scopes
        fields += headers.caller_fields(call.caller.tenant, call.caller.user, may_append=may_append)
        fields.append(("X-Request-Id", call.scope["state"]["request_id"]))
        if traceparent:
            fields.append(("Traceparent", traceparent))
        return fields

    async def _log(self, call: Call, answer: aiohttp.ClientResponse | None) -> None:
        """Adds what must be known later to the audit log, before the answer is passed on. Without an answer the
        service may have done it all the same."""
        operation, path = call.route.operations.get(call.scope["method"]), call.scope["raw_path"]
        action = operation.audited if operation else ""
        if not action or (answer is not None and answer.status >= 300):
            return
        if answer and call.route.path == routing.FORGET and orjson.loads(await answer.read()).get("dry_run"):
            return
        tenant, key_id, hashed = call.caller.tenant, call.caller.key_id, call.state.tokens.hash_user
        if call.route.names_user:
            targets = [hashed(tenant, user_of(path))]
        elif action.startswith("webhook."):
            targets = [b"".join(path.split(b"/")[3:4]).decode() or "new"]
        elif answer is None:
            targets = ["many"]
        else:
            targets = [hashed(tenant, user) for user in orjson.loads(await answer.read()).get("erased", ())]
        await call.state.log_call(tenant, key_id, f"{action}.unanswered" if answer is None else action, *targets)

    async def _relay(self, call: Call, answer: aiohttp.ClientResponse, timing: bytes) -> bool:
        """Whether the answer is whole; endless events are left."""
        fields = headers.outward(answer.raw_headers, bodiless=answer.status in (204, 304))
        fields.append((b"server-timing", timing))
        await call.send({"type": "http.response.start", "status": answer.status, "headers": fields})
        if answer.content_type != "text/event-stream":
            if call.is_heard_to_the_end:
                await call.send({"type": "http.response.body", "body": await answer.read(), "more_body": False})
            else:
                await self._relay_body(call, answer.content)
        elif call.route.endless:
            return False
        else:
            await self._relay_events(call, answer.content)
        return True

    async def _relay_body(self, call: Call, content: aiohttp.StreamReader) -> None:
        more = True
        while more:
            try:
                chunk = await content.readany()
            except (aiohttp.ClientError, OSError) as error:
                # The answer stays without its end, so the server closes the connection: a cut
                # answer must not look complete.
                self._broken(call, "body", error)
                return
            more = not content.at_eof()
            await call.send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _relay_events(self, call: Call, content: aiohttp.StreamReader) -> None:
        """Passes events on; if they break off, the last one says why."""
        task = asyncio.current_task()
        assert task is not None
        watch: AbstractContextManager[None] = nullcontext()
        if call.route.endless:
            self._endless.add(task)
            watch = call.state.authenticator.watch(call.caller, partial(_end, call, task))
            if self._drain.over:
                task.cancel()
        tail = b"\n\n"
        failure: AlignXError | None = None
        try:
            with watch:
                while chunk := await content.readany():
                    tail = (tail + chunk)[-4:] if len(chunk) < 4 else chunk[-4:]
                    await call.send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (aiohttp.ClientError, OSError) as error:
            failure = self._broken(call, "body", error)
        except asyncio.CancelledError:
            if call.watch.disconnected or not (self._drain.over or call.ended):
                raise
            task.uncancel()
            failure = None if call.route.endless else Draining("The gateway shut down before the answer ended.")
        finally:
            self._endless.discard(task)
        last = _last_event(call, failure, tail) if failure else b""
        await call.send({"type": "http.response.body", "body": last, "more_body": False})

    def _broken(self, call: Call, stage: str, error: Exception) -> UpstreamUnavailable:
        service = call.route.service
        self._metrics.failures[service, stage].inc()
        fields = {"target": service, "stage": stage, "error": type(error).__name__}
        self._logger.warning("a service did not answer to the end", extra=fields)
        what = "does not answer" if stage == "answer" else "broke off its answer"
        return UpstreamUnavailable(f"The {service} service {what}.", retry_after=1.0)


def _end(call: Call, task: "asyncio.Task[object]") -> None:
    """Ends a stream whose caller would be refused by now; who reads it asks anew, and is."""
    call.ended = True
    task.cancel()


def _concerns(route: Route, raw_path: bytes, user: str) -> bool:
    """Whether a user token may make the call; of a chat the service looks at the user that the body names."""
    return user_of(raw_path) == user if route.names_user else is_for_user(route.path)


def _last_event(call: Call, failure: AlignXError, tail: bytes) -> bytes:
    """The error as the event its readers know; an event cut in the middle is closed first."""
    name, document = failure.event(call.route.path, request_id=call.scope["state"]["request_id"])
    event = sse(orjson.dumps(document), event=name)
    return event if tail.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n" + event
