"""Calls to the engine under way: at most so many at once, each with the breaker's leave, each reported.
What all callers need to know alike is asked once, however many of them wait for it (`Shared`)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp

from services.core.breaker import Breaker
from services.core.errors import EngineError, EngineRejected, EngineUnavailable
from services.core.schemas import TokenCounts
from services.core.settings import EngineSettings
from services.core.tracing import SPAN, Span

Key = TypeVar("Key")
Value = TypeVar("Value")
CallKind = Literal["stream", "complete", "chat", "choose", "embed"]
CallOutcome = Literal["ok", "unavailable", "rejected", "error", "cancelled"]
Patience = aiohttp.ClientTimeout | None
"""How long an answer may take; None for as long as the session says."""


def silence(settings: EngineSettings, longest_s: float) -> aiohttp.ClientTimeout:
    """No total timeout: a long answer is fine as long as it keeps coming."""
    return aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s, sock_read=longest_s)


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


def _usage(tokens: TokenCounts) -> dict[str, int]:
    return {"gen_ai.usage.input_tokens": tokens.prompt, "gen_ai.usage.output_tokens": tokens.completion}


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
