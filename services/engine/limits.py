"""The engine of a deployment as its settings describe it: the client behind a concurrency limit and a circuit
breaker, and the metrics of its calls.

With `url = "profile"` there is no engine: only `models` and `ready` answer, the others raise `NoEngine`.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Self

import aiohttp
from opentelemetry.trace import Span, SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from alignx.schemas.status import EngineState
from services.engine.answers import SIGNS
from services.engine.breaker import Breaker
from services.engine.capabilities import CanaryOutcome, Capabilities, Prober
from services.engine.choice.choice_client import DEFAULT_WINDOW, ChoiceClient
from services.engine.choice.measure import measure_protocol
from services.engine.client import Server, open_session
from services.engine.conventions.gen_ai import GenAiMetrics, ModelNames, Operation, operation_name, request_attributes
from services.engine.guard import CallKind, CallOutcome, EngineCall, Observer, Progress
from services.engine.spending import Reserve, unbudgeted
from services.engine.wire import SILENT, Body
from services.errors import EngineError, EngineRejected, EngineUnavailable, NoEngine
from services.settings import LATENCY_BUCKETS_S, PROFILE_ENGINE, EngineSettings
from services.tracing import child_span

NO_ENGINE = (
    "This deployment runs without a language model; `make up` starts a small one where it can, and "
    "`make up ENGINE=<url>` names one that runs elsewhere"
)
_CANARY_S = 15.0
"""Longest silence of the engine within a canary's answer."""
_SHARED_CACHE = "The engine takes no cache_salt: tenants share its prefix cache"
OTHER_TENANT = "other"
"""Label of every tenant that the settings do not list."""

logger = logging.getLogger("alignx.engine")

# --- calls ---------------------------------------------------------------------------------------


class Calls:
    """The calls of one engine, with their limit and breaker."""

    def __init__(self, settings: EngineSettings, observe: Observer | None, reserve: Reserve = unbudgeted) -> None:
        self._enabled = settings.enabled
        self._observe = observe
        self._reserve = reserve
        self.in_flight = 0
        """Calls that hold a slot."""
        self.answered_at = -math.inf
        """When a call of the engine's last ended well."""
        self.models = ModelNames()
        self._url = settings.url
        self._slots = asyncio.Semaphore(settings.concurrency)
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s)

    @property
    def breaker_open(self) -> bool:
        return self.breaker.open

    @asynccontextmanager
    async def call(self, kind: CallKind, tenant: str, body: Body) -> AsyncIterator[Progress]:
        """The guard of the client: refuses while the breaker is open or the tenant's budget is spent, waits for a
        slot, records how the call ends."""
        if not self._enabled:
            raise NoEngine(NO_ENGINE)
        self.breaker.check()  # before the wait for a slot: an open breaker answers at once
        progress = Progress()
        async with self._reserve(kind, tenant, body, progress), self._slots:
            self.breaker.admit()
            self.in_flight += 1
            progress.sent_at = time.monotonic()
            with child_span(operation_name(body), SpanKind.CLIENT) as span:
                span.set_attributes(request_attributes(self._url, body))
                try:
                    yield progress
                except (EngineUnavailable, EngineError) as error:
                    progress.error = error
                    raise
                finally:
                    self.in_flight -= 1
                    self._record(kind, tenant, progress, span, body)

    def _record(self, kind: CallKind, tenant: str, progress: Progress, span: Span, body: Body) -> None:
        outcome = _outcome(progress)
        if outcome == "cancelled" or progress.overlong:
            self.breaker.release()
        elif outcome == "unavailable" and not progress.alive:
            self.breaker.record_failure()
        else:
            self.breaker.record_success()
            self.answered_at = time.monotonic()
        if outcome == "ok":
            self.models.add(body["model"])
        now, sent_at, first = time.monotonic(), progress.sent_at or progress.started, progress.first_text
        operation = Operation(
            name=operation_name(body),
            model=self.models.name(body["model"]),
            seconds=now - sent_at,
            first_chunk_s=first - sent_at if first is not None and body.get("stream") else None,
            tokens=progress.tokens,
            error="" if outcome == "ok" else outcome,
        )
        span.update_name(operation.title)
        span.set_attributes({"alignx.outcome": outcome, "alignx.call": kind, **operation.attributes()})
        if self._observe is not None:
            ttft_s, tokens = None if first is None else first - progress.started, progress.tokens
            self._observe(EngineCall(kind, outcome, now - progress.started, ttft_s, tokens, tenant, operation))


def _outcome(progress: Progress) -> CallOutcome:
    match progress.error:
        case EngineUnavailable():
            return "unavailable"
        case EngineRejected():
            return "rejected"
        case EngineError():
            return "error"
        case _:
            return "ok" if progress.finished else "cancelled"


# --- the engine --------------------------------------------------------------------------------


class Engine(ChoiceClient):
    """The language model; open it once per process with `Engine.open`."""

    def __init__(
        self,
        settings: EngineSettings,
        session: aiohttp.ClientSession,
        observe: Observer | None = None,
        reserve: Reserve = unbudgeted,
    ) -> None:
        self.enabled = settings.enabled
        self.calls = Calls(settings, observe, reserve)
        self._context_tokens, self._cooldown_s = settings.context_tokens, settings.breaker_cooldown_s
        self._first_token_timeout_s = settings.first_token_timeout_s
        self._has_salt = settings.cache_salt_secret is not None
        server = _server(settings)
        canaries = ChoiceClient(session, replace(server, read_timeout_s=min(_CANARY_S, server.read_timeout_s)))
        measure = partial(measure_protocol, partial(ChoiceClient, session, server), settings.choose)
        self.prober = Prober(canaries, settings.breaker_cooldown_s, self._adopt, measure, hidden=server.api_key)
        canaries.reconsider = self.prober.note_refusal
        super().__init__(session, server, self.calls.call, self.prober.reconsider)
        self.calls.breaker.fault = lambda: self.prober.fault

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: EngineSettings, observe: Observer | None = None, reserve: Reserve = unbudgeted
    ) -> AsyncIterator[Self]:
        """An engine with its own connections, closed at the end. `observe` gets every call that has ended; `reserve`
        takes each from its tenant's budget."""
        async with open_session() as session:
            engine = cls(settings, session, observe, reserve)
            probing = asyncio.create_task(engine.prober.run()) if settings.enabled else None
            try:
                yield engine
            finally:
                if probing is not None:
                    probing.cancel()

    def _adopt(self, capabilities: Capabilities) -> None:
        self.forget_letters()
        if replace(capabilities, checked_at=None) != replace(self.capabilities, checked_at=None):
            self._likelihoods.clear()  # another model may answer now
        had_warning, self.capabilities = self._cache_warning, capabilities
        if self._cache_warning and not had_warning:
            logger.warning(self._cache_warning)

    @property
    def _cache_warning(self) -> str:
        """What is wrong with the tenants' caches, if anything is."""
        return _SHARED_CACHE if self._has_salt and "cache_salt" in self.capabilities.dialect.dropped else ""

    @property
    def context_tokens(self) -> int:
        """The window that prompt and answer share: the smaller of the setting and what the engine says."""
        return min(filter(None, (self._context_tokens, self.capabilities.context_tokens)), default=DEFAULT_WINDOW)

    @property
    def fault(self) -> str:
        """What is wrong with the engine, if anything is; empty without one."""
        return self.prober.fault or self.prober.outage or (SILENT if self.calls.breaker_open else "")

    async def last_sign(self) -> float | None:
        if (age_s := time.monotonic() - self.calls.answered_at) < self._first_token_timeout_s / SIGNS:
            return age_s
        if not await self.prober.answers():
            return None
        self.calls.answered_at = time.monotonic()
        return 0.0

    async def check(self) -> None:
        """A readiness check. Raises EngineUnavailable where it is degraded."""
        if self.fault:
            raise EngineUnavailable(f"degraded: {self.fault}")

    def state(self) -> EngineState | None:
        """What /readyz shows of it; None without an engine."""
        if not self.enabled:
            return None
        known = self.capabilities
        return EngineState(
            model=known.model or None,
            dialect=known.dialect.name,
            context_tokens=self.context_tokens,
            letters=known.letters != "none",
            protocol=known.protocol,
            accuracies=dict(known.accuracies),
            reasons=known.reasons,
            checked_at=known.checked_at,
            state="degraded" if self.fault else "ok",
            detail=self.fault or self._cache_warning or None,
            words=known.refusal or None,
        )

    async def ready(self) -> None:
        """As `Client.ready`; asks even when the breaker is open."""
        if self.enabled:
            await super().ready()

    async def models(self) -> list[Body]:
        if self.enabled:
            return await super().models()
        return [{"id": PROFILE_ENGINE, "object": "model", "created": 0, "owned_by": "alignx"}]

    async def model(self) -> str:
        if not self.enabled:
            raise NoEngine(NO_ENGINE)
        if self.prober.fault:
            raise EngineUnavailable(self.prober.fault, retry_after=self._cooldown_s)
        self.calls.models.add(model := await super().model())
        return model


def _server(settings: EngineSettings) -> Server:
    key, salt, session = settings.api_key, settings.cache_salt_secret, settings.session_secret
    return Server(
        settings.url,
        settings.model,
        key.get_secret_value() if key else None,
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        first_token_timeout_s=settings.first_token_timeout_s,
        answer_timeout_s=settings.answer_timeout_s,
        cache_salt_secret=salt.get_secret_value() if salt else None,
        session_secret=session.get_secret_value() if session else None,
    )


# --- metrics -----------------------------------------------------------------------------------


class EngineMetrics:
    """Calls to the engine from one process. `tenants` are those whose tokens are counted by name."""

    def __init__(self, registry: CollectorRegistry, tenants: Iterable[str] = ()) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, labelnames=("kind",), buckets=LATENCY_BUCKETS_S, registry=registry)
        self._tenants = frozenset(tenants)
        self.gen_ai = GenAiMetrics(registry)
        self.calls = counter("alignx_engine_calls", "Calls to the engine", ("kind", "outcome"))
        self.seconds = seconds(
            "alignx_engine_call_duration_seconds",
            "Seconds of a call to the engine, the wait for a free slot included",
        )
        self.first_token = seconds("alignx_engine_time_to_first_token_seconds", "Seconds from a call to its first text")
        self.tokens = counter(
            "alignx_engine_tokens", "Tokens read (prompt, cached among them) and written", ("kind", "token")
        )
        self.tenant_tokens = counter(
            "alignx_tenant_tokens",
            "Tokens by the tenant they were spent on: one of ALIGNX_METRICS__TENANTS, or other",
            ("tenant", "token"),
        )
        self.info = gauge("alignx_engine_info", "1 for the engine's model and dialect", ("model", "dialect"))
        self.accuracy = gauge(
            "alignx_engine_choice_accuracy", "Share of the shipped pairs foreseen", ("protocol", "used")
        )
        self.canaries = counter(
            "alignx_engine_canaries", "Test requests to the engine, by outcome (passed, refused, failed)", ("outcome",)
        )
        self.in_flight = gauge("alignx_engine_calls_in_flight", "Calls at the engine now")
        self.breaker = gauge("alignx_engine_breaker_open", "1 while calls or updates wait because the engine fails")

    def watch(self, calls: Calls, held_back: Callable[[], bool] = lambda: False) -> None:
        """Reads the state of `calls` at every scrape; `held_back` says whether work waits before it makes a call."""
        self.in_flight.set_function(lambda: calls.in_flight)
        self.breaker.set_function(lambda: float(calls.breaker_open or held_back()))

    def watch_canaries(self, prober: Prober) -> None:
        """Counts canaries, and shows the record that they lead to."""

        def observe(outcome: CanaryOutcome | None) -> None:
            if outcome is not None:
                self.canaries.labels(outcome).inc()
            self.info.clear()
            self.info.labels(prober.record.model, prober.record.dialect.name).set(1)
            self.accuracy.clear()
            for protocol, accuracy in prober.record.accuracies.items():
                self.accuracy.labels(protocol, str(protocol == prober.record.protocol).lower()).set(accuracy)

        prober.observe = observe
        if prober.record.checked_at:  # the canaries at start can be over before anyone watches
            observe(None)

    def observe(self, call: EngineCall) -> None:
        if call.operation is not None:
            self.gen_ai.observe(call.operation)
        self.calls.labels(call.kind, call.outcome).inc()
        self.seconds.labels(call.kind).observe(call.seconds)
        if call.ttft_s is not None:
            self.first_token.labels(call.kind).observe(call.ttft_s)
        for name, count in call.tokens:
            self.tokens.labels(call.kind, name).inc(count)
            self.tenant_tokens.labels(call.tenant if call.tenant in self._tenants else OTHER_TENANT, name).inc(count)
