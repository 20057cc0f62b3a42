"""What surrounds a call to an engine: a `Guard` may hold the call back, and learns from its `Progress` how it ended.

`unguarded` is for offline use; services/engine/limits.py has the guard of the services.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from alignx.schemas.summaries import TokenCounts
from services.engine.conventions.gen_ai import Operation
from services.engine.wire import Body
from services.errors import EngineError, EngineUnavailable

CallKind = Literal["stream", "complete", "chat", "choose"]
CallOutcome = Literal["ok", "unavailable", "rejected", "error", "cancelled"]


class WrittenText:
    """Counts what an answer holds so far: its texts, or those of the events that pass through."""

    def __init__(self) -> None:
        self._bytes = 0
        self._events = 0
        self._buffer = b""

    @property
    def tokens(self) -> int:
        """Estimated; at least one an event, as most engines send."""
        return max(self._events, -(-self._bytes // 3))

    def add_text(self, text: str) -> None:
        self._bytes += len(text.encode("utf-8", "surrogatepass"))

    def add_events(self, chunk: bytes) -> None:
        """Bytes of a stream of events, cut anywhere."""
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (texts := _delta_texts(line.removeprefix(b"data:"))):
                self._events += 1
                self.add_text("".join(texts))


def _delta_texts(event: bytes) -> list[str]:
    """All that the deltas of an event add: text, reasoning, names and arguments of tools."""
    try:
        choices = orjson.loads(event)["choices"]
        return [text for choice in choices for text in _strings({**choice["delta"], "role": ""})]
    except (orjson.JSONDecodeError, LookupError, TypeError, RecursionError):
        return []


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for member in inner for text in _strings(member)]


@dataclass
class Progress:
    """The state of a call under way."""

    started: float = field(default_factory=time.monotonic)
    first_text: float | None = None
    tokens: TokenCounts = field(default_factory=TokenCounts)
    sent_at: float | None = None
    """When the call has gone out."""
    finished: bool = False
    alive: bool = False
    """The server refused, so it is there: no failure for a circuit breaker."""
    overlong: bool = False
    """An answer without signs of life took too long: no evidence that the server is gone."""
    error: EngineError | EngineUnavailable | None = None
    written: WrittenText | None = None
    """Where the call is counted before it ends."""

    def note_text(self, text: str = "") -> None:
        self.first_text = self.first_text or time.monotonic()
        if self.written:
            self.written.add_text(text)

    def note_events(self, chunk: bytes) -> None:
        """Bytes of an answer that passes through."""
        if self.written:
            self.written.add_events(chunk)

    def finish(self, tokens: TokenCounts) -> None:
        self.tokens, self.finished = tokens, True


Guard = Callable[[CallKind, str, Body], AbstractAsyncContextManager[Progress]]
"""Surrounds each call, of this kind, on behalf of this tenant and with this body; it may wait or raise before the call
goes out."""


@asynccontextmanager
async def unguarded(_kind: CallKind, _tenant: str, _body: Body) -> AsyncIterator[Progress]:
    """Lets every call pass."""
    yield Progress()


@dataclass(frozen=True)
class EngineCall:
    """A call that has ended, as the observer gets it."""

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
    operation: Operation | None = None
    """The call as OpenTelemetry names it."""


Observer = Callable[[EngineCall], None]
