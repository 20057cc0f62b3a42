"""What an engine is capable of, found with a canary: a fixed prompt that holds no user's text.

The record is assumed to be vLLM's until the first canary has passed. After a refusal (a status of 400 to 499 that is
no overload and no context length) the canary is sent too: if it passes, the refusal is the data's; if not, the
dialects are tried, and if none works the refusal is the engine's, which is then left alone but for a canary now and
then. Error texts are shown; nothing but the size of a window is read in them (refusals.py).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal, Protocol, Unpack

from services.engine.dialects import BASES, VLLM, Dialect, richer_dialects
from services.engine.judge import ChoiceProtocol
from services.engine.refusals import engine_status, error_text, is_away, is_retryable, says_too_long
from services.engine.shared_calls import SharedCalls
from services.engine.wire import LATE, Body, Completion, Sampling
from services.errors import ContextExceeded, EngineError, EngineRejected, EngineUnavailable

Letters = Literal["prefill", "next_token", "none"]
"""How the odds of letters are asked for: behind the start of an answer, as its first token, or not at all."""
CanaryOutcome = Literal["passed", "refused", "failed"]
CANARY: Final = "This is a test of the connection. Which letter comes first in the alphabet, A or B?"
_MESSAGES: Final = (
    {"role": "system", "content": "Answer with one letter."},
    {"role": "user", "content": "Hello."},  # two turns of one role: some chat templates refuse that
    {"role": "user", "content": CANARY},
)
_CHOICE: Final = (*_MESSAGES[::2], {"role": "assistant", "content": "The letter is"})
_SAMPLING: Final[Sampling] = {"max_tokens": 16, "temperature": 0.5, "top_p": 0.9, "top_k": 20, "thinking": False}
_MOST_CALLS = 8
"""Canaries of one walk over the dialects, letters among them."""
_PACE_S = 1.0
"""Least time between two canaries while the engine refuses them."""
_LONGEST_S = 60.0
"""Of one canary: an engine that keeps its connection open with pings would else be looked at no more."""
_WORDS = 200

logger = logging.getLogger("alignx.engine")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What is known of one engine and model."""

    model: str = ""
    context_tokens: int | None = None
    """The engine's window; None where it does not say."""
    dialect: Dialect = VLLM
    letters: Letters = "prefill"
    protocol: ChoiceProtocol = "letters"
    """How choices are made (choice/measure.py)."""
    accuracies: Mapping[ChoiceProtocol, float] = field(default_factory=dict)
    """Share of the shipped pairs foreseen, by protocol; empty where it was not measured."""
    reasons: bool = False
    """The canary's reply held reasoning."""
    refusal: str = ""
    """The engine's own words when it last refused a canary."""
    checked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the engine did not take."""

    error: EngineError | EngineUnavailable
    answer: bytes
    dialect: Dialect
    """In which it was sent."""
    asks_letters: bool


class Canaries(Protocol):
    """The part of a client that canaries need; it has no guard, and reports refusals to `note_refusal`."""

    capabilities: Capabilities

    async def ready(self) -> None: ...
    async def model(self) -> str: ...
    async def models(self) -> list[Body]: ...
    async def complete(
        self, messages: Sequence[Any], *, tenant: str, priority: int = 0, **sampling: Unpack[Sampling]
    ) -> Completion: ...
    async def choose(self, messages: Sequence[Any], letters: Sequence[str], *, tenant: str) -> list[float]: ...


Measure = Callable[[Capabilities], Awaitable[Capabilities]]
"""The record with the protocol of choices that suits the engine (choice/measure.py)."""


class Prober:
    """Keeps the record. `apply` gets each new one; `observe` each canary's outcome, and None for a new record."""

    def __init__(
        self,
        client: Canaries,
        cooldown_s: float,
        apply: Callable[[Capabilities], None],
        measure: Measure,
        hidden: str | None = None,
    ) -> None:
        self._client = client
        self._cooldown_s = cooldown_s
        self._apply = apply
        self._measure = measure
        self._measured: str | None = None
        """The model whose protocol of choices is known."""
        self._hidden = hidden
        """A secret that the engine's words must not show."""
        self.observe: Callable[[CanaryOutcome | None], None] = lambda _outcome: None
        self.record = Capabilities()
        self.fault = ""
        """Why the engine is left alone: it refuses canaries. Empty while it takes them."""
        self.outage = ""
        """Why it did not answer the latest look at it."""
        self._probes: SharedCalls[bool, EngineError | EngineUnavailable | None] = SharedCalls()
        self._lock = asyncio.Lock()
        self._words = ""
        self._reasons = False
        self._has_passed = False
        self._sent_at = 0.0
        self._calls = 0

    async def run(self) -> None:
        """Probes at start, after an outage and while the engine refuses canaries; in between it looks whether it
        answers."""
        while True:
            try:
                is_known = self.record.checked_at is not None and not self.fault
                if is_known:
                    await self._client.ready()
                if not is_known or self.outage:  # it may have another window now
                    error = await self._probe_shared(letters=True)
                    self.outage = error.detail if error else ""
                    self._measured = self._measured if self.record.accuracies else None
                if self.record.model != self._measured and not (self.outage or self.fault):
                    await self._measure_protocol()
            except (EngineUnavailable, EngineError) as error:
                self.outage = error.detail
            except Exception:  # an answer of an unknown form; else nobody would look any more
                logger.exception("the look at the engine failed")
            await asyncio.sleep(self._cooldown_s)

    async def _measure_protocol(self) -> None:
        model = self.record.model
        try:
            measured = await self._measure(self.record)
        except EngineUnavailable:  # it proves nothing: the next look measures again
            return
        self._set(replace(self.record, protocol=measured.protocol, accuracies=measured.accuracies))
        self._measured = model

    async def reconsider(self, refusal: Refusal) -> bool:
        """Whether the request is to be sent again, in another dialect. If not, the refusal is the data's.
        Raises EngineUnavailable where it is the engine's, ContextExceeded for a body that is too large."""
        if is_retryable(refusal.error):
            return False
        is_long = isinstance(refusal.error, ContextExceeded)
        if is_long and await self._learn_window(refusal):
            return False
        error = None
        if not self.fault and self.record.dialect == refusal.dialect:
            error = await self._probe_shared(letters=refusal.asks_letters)
        if self.fault or error:
            detail = self.fault or (error.detail if error else "")
            raise EngineUnavailable(detail, retry_after=self._cooldown_s) from refusal.error
        if not is_long and engine_status(refusal.error) == 413:
            raise ContextExceeded(engine_status=413) from refusal.error
        return not is_long and self.record.dialect != refusal.dialect

    async def answers(self) -> bool:
        """Whether a canary gets an answer, be it a refusal."""
        error = await self._probe_shared(letters=False)
        return error is None or isinstance(error, EngineError) or engine_status(error) is not None

    async def note_refusal(self, refusal: Refusal) -> bool:
        """The canaries' own refusals: keeps the engine's words."""
        words = error_text(refusal.answer)
        self._words = (words.replace(self._hidden, "…") if self._hidden else words)[:_WORDS]
        return False

    async def _probe_shared(self, *, letters: bool) -> EngineError | EngineUnavailable | None:
        return await self._probes.call(letters, partial(self._probe, letters=letters))

    async def _probe(self, *, letters: bool) -> EngineError | EngineUnavailable | None:
        """Finds a dialect that the engine takes, the present one first. The canary's error if none works."""
        async with self._lock:
            self._calls = 0
            present = self.record
            error = await self._send(present)
            dialect: Dialect | None = None if error else present.dialect
            if isinstance(error, EngineRejected):
                try:
                    dialect = await self._walk(present.dialect)
                except EngineUnavailable as gone:
                    return gone
            if dialect is None:
                assert error is not None
                self._hold(error)
                return error
            record = replace(present, dialect=dialect, reasons=self._reasons)
            if letters or dialect != present.dialect:
                try:
                    record = replace(record, letters=await self._find_letters(record))
                except (EngineUnavailable, EngineError) as refusal:
                    self._hold(refusal)
                    return refusal
            await self._update(record)
            return None

    async def _walk(self, present: Dialect) -> Dialect | None:
        """The richest dialect that the engine takes. Raises EngineUnavailable for one that goes away meanwhile: a
        poorer dialect than it takes would be kept."""
        # An engine that has refused all may be back since the walk began.
        again: tuple[Dialect, ...] = (present, VLLM) if self.fault else ()
        for base in (VLLM, *BASES):
            if base == present or not await self._takes(base):
                continue
            if base == VLLM:
                return base
            for dialect in (*again, *richer_dialects(base)):
                if (dialect == present and not again) or self._calls >= _MOST_CALLS - 1:
                    continue
                if await self._takes(dialect):
                    return dialect
            return base
        return None

    async def _takes(self, dialect: Dialect) -> bool:
        error = await self._send(replace(self.record, dialect=dialect))
        if error and is_away(error):
            raise error
        return error is None

    async def _find_letters(self, record: Capabilities) -> Letters:
        """An engine without vLLM's extensions cannot continue an answer that has begun. Raises the error of one that by
        now refuses all."""
        modes: tuple[Letters, ...] = ("next_token",) if "top_k" in record.dialect.dropped else ("prefill", "next_token")
        error: EngineError | EngineUnavailable | None = None
        for mode in modes[: _MOST_CALLS - self._calls]:
            error = await self._send(replace(record, letters=mode), letters=True)
            if error is None:
                return mode
            if isinstance(error, EngineUnavailable):  # it proves nothing
                return record.letters
        if isinstance(error, EngineRejected) and self._calls < _MOST_CALLS and (gone := await self._send(record)):
            raise gone
        return "none"

    async def _send(self, candidate: Capabilities, *, letters: bool = False) -> EngineError | EngineUnavailable | None:
        """Sends a canary; its error, if it fails."""
        if self.fault and not self._has_passed:
            await asyncio.sleep(max(0.0, self._sent_at + min(_PACE_S, self._cooldown_s) - time.monotonic()))
        self._sent_at, self._calls, self._has_passed = time.monotonic(), self._calls + 1, False
        self._client.capabilities = candidate
        try:
            async with asyncio.timeout(_LONGEST_S):
                if letters:
                    odds = await self._client.choose(_CHOICE, (" A", " B"), tenant="")
                    if len(set(odds)) == 1:
                        return EngineError("The engine lists no letter among its likeliest tokens")
                else:
                    completion = await self._client.complete(_MESSAGES, tenant="", priority=1, **_SAMPLING)
                    self._reasons = "<think>" in completion.text
        except TimeoutError:
            self.observe("failed")
            return EngineUnavailable(LATE)
        except (EngineUnavailable, EngineError) as error:
            self.observe("refused" if engine_status(error) else "failed")
            return error
        self.observe("passed")
        self._has_passed = True
        return None

    def _hold(self, error: EngineError | EngineUnavailable) -> None:
        """The engine refuses canaries: nothing else is sent. One that is away or overloaded is the circuit
        breaker's matter."""
        if engine_status(error) is None or is_away(error):
            return
        cause = f"The engine refuses a test that holds no user's data (status {engine_status(error)})"
        if not self.fault:
            fields = {"cause": cause, "refusal": self._words}
            logger.warning("the engine refuses all requests; events wait", extra=fields)
        self.fault = cause
        self.record = replace(self.record, refusal=self._words)
        self._apply(self.record)

    async def _update(self, record: Capabilities) -> None:
        if self.fault:
            logger.info("the engine serves again")
        if record.dialect != self.record.dialect:
            record = replace(record, refusal=self._words)
        model, window = await self._listed()
        self.fault = self.outage = self._words = ""  # what it is capable of is known first
        if model:  # a window that is not listed is forgotten
            record = replace(record, model=model, context_tokens=window)
        self._set(replace(record, checked_at=datetime.now(UTC)))

    async def _listed(self) -> tuple[str, int | None]:
        """The model and its window, as far as the server lists them."""
        try:
            model = await self._client.model()
            windows = [entry.get("max_model_len") for entry in await self._client.models() if entry["id"] == model]
        except (EngineUnavailable, EngineError):
            return "", None
        return model, windows[0] if windows and isinstance(windows[0], int) else None

    async def _learn_window(self, refusal: Refusal) -> bool:
        """Whether a refusal names a window; a smaller one than was known is kept. What the server lists counts
        before, and without it the code of the error: its message may quote a caller, whose words must not shrink the
        prompts of others."""
        limit: Any = refusal.error.extensions.get("limit")
        is_window = isinstance(limit, int) and limit >= 256
        if is_window and limit < (self.record.context_tokens or limit + 1):
            _, window = await self._listed()
            if window or says_too_long(refusal.answer):
                self._set(replace(self.record, context_tokens=window or limit))
        return is_window

    def _set(self, record: Capabilities) -> None:
        if replace(record, checked_at=None) != replace(self.record, checked_at=None) or not self.record.checked_at:
            fields: dict[str, Any] = {"model": record.model, "dialect": record.dialect.name, "letters": record.letters}
            more = {"context_tokens": record.context_tokens, "refusal": record.refusal, "protocol": record.protocol}
            logger.info("what the engine is capable of", extra=fields | more)
        self.record = record
        self._apply(record)
        self.observe(None)
