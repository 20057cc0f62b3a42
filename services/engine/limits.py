"""Limits of the calls to an engine: concurrency, circuit breaker, and the metrics of each call.
What all callers need to know alike is asked once, however many of them wait for it (`Shared`)."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from alignx.schemas.summaries import TokenCounts
from services.errors import EngineError, EngineRejected, EngineUnavailable
from services.settings import LATENCY_BUCKETS_S, EngineSettings
from services.tracing import SPAN, Span

SILENT = "The engine does not answer"
Key = TypeVar("Key")
Value = TypeVar("Value")
CallKind = Literal["stream", "complete", "chat", "choose", "embed"]
CallOutcome = Literal["ok", "unavailable", "rejected", "error", "cancelled"]
Patience = aiohttp.ClientTimeout | None
"""How long an answer may take; None for as long as the session says."""


def silence(settings: EngineSettings, longest_s: float) -> aiohttp.ClientTimeout:
    """No total timeout: a long answer is fine as long as it keeps coming."""
    return aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s, sock_read=longest_s)


def _usage(tokens: TokenCounts) -> dict[str, int]:
    return {"gen_ai.usage.input_tokens": tokens.prompt, "gen_ai.usage.output_tokens": tokens.completion}


OTHER_TENANT = "other"
"""Label of every tenant that the settings do not list."""


# --- circuit breaker ---------------------------------------------------------------------------


class Breaker:
    """Refuses calls for `cooldown_s` after `failures` in a row, then lets a single one try."""

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._failures = 0
        self._opened_at = -math.inf
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether calls are held back, until one that may try succeeds."""
        return self._failures >= self._limit

    def check(self) -> None:
        """Raises EngineUnavailable, with the seconds to wait, unless a call may go out now."""
        if self._failures < self._limit:
            return
        left = self._opened_at + self._cooldown_s - self._clock()
        if left > 0 or self._probing:
            raise EngineUnavailable(SILENT, retry_after=max(left, 1.0))

    def admit(self) -> None:
        """As `check`, for a call that goes out; report its end by one of the methods below."""
        self.check()
        self._probing = self._failures >= self._limit

    def succeeded(self) -> None:
        self._failures, self._probing = 0, False

    def failed(self) -> None:
        self._failures, self._probing = self._failures + 1, False
        if self._failures >= self._limit:
            self._opened_at = self._clock()

    def released(self) -> None:
        """The call ended without telling anything about the engine."""
        self._probing = False


# --- calls -------------------------------------------------------------------------------------


def request_headers(settings: EngineSettings, for_embeddings: bool = False) -> dict[str, str]:
    """With the key of the server that is asked. The engine's goes to its own host alone."""
    key = settings.api_key
    if for_embeddings:
        here = urlsplit(settings.embeddings_url or "")[:2] == urlsplit(settings.url)[:2]
        key = settings.embeddings_api_key or (key if here else None)
    headers = {"Content-Type": "application/json"}
    return headers | ({"Authorization": f"Bearer {key.get_secret_value()}"} if key else {})


@dataclass(frozen=True)
class EngineCall:
    """One call to the engine, told to the observer when it is over."""

    kind: CallKind
    outcome: CallOutcome
    """`cancelled` when the caller went away first."""
    seconds: float
    """Waiting for a slot included."""
    ttft_s: float | None
    """Seconds to the first text; null when there was none."""
    tokens: TokenCounts
    tenant: str = ""
    """On whose behalf; empty for what all tenants share."""


@dataclass
class Progress:
    """What is known of a call under way."""

    started: float = field(default_factory=time.monotonic)
    first_text: float | None = None
    tokens: TokenCounts = field(default_factory=TokenCounts)
    finished: bool = False
    alive: bool = False
    """The engine refused, but it is there: no mark against it in the breaker."""
    overlong: bool = False
    """An answer that need not show life while it is made took too long: no sign that the engine is gone."""
    error: EngineError | EngineUnavailable | None = None

    def text_seen(self) -> None:
        self.first_text = self.first_text or time.monotonic()

    def finish(self, tokens: TokenCounts) -> None:
        self.tokens, self.finished = tokens, True

    @property
    def outcome(self) -> CallOutcome:
        match self.error:
            case EngineUnavailable():
                return "unavailable"
            case EngineRejected():
                return "rejected"
            case EngineError():
                return "error"
            case _:
                return "ok" if self.finished else "cancelled"


class Calls:
    """The calls of one engine and of the embeddings server, each with a limit and a breaker of its own."""

    def __init__(self, settings: EngineSettings, observe: Callable[[EngineCall], None] | None) -> None:
        self._observe = observe
        self.in_flight = 0
        """Calls that hold a slot."""
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._embeddings_slots = asyncio.Semaphore(settings.embeddings_concurrency)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s)
        self._embeddings_breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s)

    @property
    def breaker_open(self) -> bool:
        """Whether the engine's breaker holds calls back; the one of the embeddings server is not asked."""
        return self._breaker.open

    @asynccontextmanager
    async def call(self, kind: CallKind, tenant: str = "") -> AsyncIterator[Progress]:
        """A slot, the breaker's leave, and the report of how the call ended."""
        embeds = kind == "embed"
        breaker = self._embeddings_breaker if embeds else self._breaker
        breaker.check()  # before the wait for a slot: an open breaker answers at once
        progress = Progress()
        async with self._embeddings_slots if embeds else self._slots:
            breaker.admit()
            self.in_flight += 1
            with SPAN.get().child(f"engine {kind}", "client") as span:
                try:
                    yield progress
                except (EngineUnavailable, EngineError) as error:
                    progress.error = error
                    raise
                finally:
                    self.in_flight -= 1
                    self._settle(kind, tenant, breaker, progress, span)

    def _settle(self, kind: CallKind, tenant: str, breaker: Breaker, progress: Progress, span: Span) -> None:
        if progress.outcome == "cancelled" or progress.overlong:
            breaker.released()
        elif progress.outcome == "unavailable" and not progress.alive:
            breaker.failed()
        else:
            breaker.succeeded()
        span.note({"alignx.outcome": progress.outcome, **_usage(progress.tokens)})
        if self._observe is not None:
            seen = progress.first_text
            ttft_s = None if seen is None else seen - progress.started
            seconds = time.monotonic() - progress.started
            self._observe(EngineCall(kind, progress.outcome, seconds, ttft_s, progress.tokens, tenant))


class Shared(Generic[Key, Value]):
    """One answer for all who ask the same at the same time.

    Without it, the first selection after a start would ask for each letter once per order: hundreds
    of connections at once, more than the engine's listen queue need hold.
    """

    def __init__(self) -> None:
        self._asking: dict[Key, asyncio.Task[Value]] = {}

    async def ask(self, key: Key, question: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """The outcome of `question()`, asked anew unless one with this key is under way. It goes on for
        the others when one who waits is cancelled."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(question())
            asking.add_done_callback(partial(self._answered, key))
        return await asyncio.shield(asking)

    def _answered(self, key: Key, asking: asyncio.Task[Value]) -> None:
        del self._asking[key]
        if not asking.cancelled():
            asking.exception()  # counts as seen, also when all who asked have gone


# --- metrics -----------------------------------------------------------------------------------


class EngineMetrics:
    """Calls to the engine from one process. `tenants` are those whose tokens are counted by name."""

    def __init__(self, registry: CollectorRegistry, tenants: Iterable[str] = ()) -> None:
        self._tenants = frozenset(tenants)
        self.calls = Counter("alignx_engine_calls", "Calls to the engine", ("kind", "outcome"), registry=registry)
        self.seconds = Histogram(
            "alignx_engine_call_duration_seconds",
            "Seconds of a call to the engine, the wait for a free slot included",
            ("kind",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "alignx_engine_time_to_first_token_seconds",
            "Seconds from a call to its first text",
            ("kind",),
            buckets=LATENCY_BUCKETS_S,
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

    def watch(self, calls: Calls, held_back: Callable[[], bool] = lambda: False) -> None:
        """Reads the state of `calls` at every scrape; `held_back` tells of what waits before it comes to a call."""
        self.in_flight.set_function(lambda: calls.in_flight)
        self.breaker.set_function(lambda: float(calls.breaker_open or held_back()))

    def observe(self, call: EngineCall) -> None:
        self.calls.labels(call.kind, call.outcome).inc()
        self.seconds.labels(call.kind).observe(call.seconds)
        if call.ttft_s is not None:
            self.first_token.labels(call.kind).observe(call.ttft_s)
        for name, count in call.tokens:
            self.tokens.labels(call.kind, name).inc(count)
            self.tenant_tokens.labels(call.tenant if call.tenant in self._tenants else OTHER_TENANT, name).inc(count)
