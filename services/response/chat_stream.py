"""Streams a chat to the caller: comments until it begins, `personalization` in its first event, no reasoning, and no
blank events or pings, which OpenAI's clients cannot read.

Once the text of the answer has begun, events pass as the engine wrote them.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import orjson

from alignx.schemas.requests import PersonalizationUsed
from services.engine.client import RawAnswer
from services.engine.refusals import member, parse_json
from services.engine.wire import is_ping
from services.errors import AlignXError, EngineError
from services.response.thinking import ThinkingFilter, hide_in_delta

KEEP_ALIVE = b": keep-alive\n\n"
_WHOLE_EVENTS = re.compile(rb".*\n\r?\n", re.DOTALL)
_EVENT = re.compile(rb".*?\n\r?\n", re.DOTALL)
_FIRST_OBJECT = re.compile(rb'^data:[ \t]*\{(?=\s*")', re.MULTILINE)
_UNUSUAL = re.compile(
    rb'"reasoning(?:_content|_details)?"\s*:\s*[^n\s]|^event:|^data:[ \t]*(?:\{\})?\r?$|^data:.*\ndata:', re.MULTILINE
)
"""What is rewritten also behind the start of the text."""


@asynccontextmanager
async def starting(
    call: AbstractAsyncContextManager[RawAnswer], wait_s: float
) -> AsyncIterator["asyncio.Task[RawAnswer]"]:
    """The start of the engine's answer, done unless it takes longer than `wait_s`. At the end the call is over."""
    async with AsyncExitStack() as stack:
        start = asyncio.create_task(stack.enter_async_context(call))
        try:
            await asyncio.wait({start}, timeout=wait_s)
            yield start
        finally:
            start.cancel()
            await asyncio.wait({start})
            if not start.cancelled():
                start.exception()  # counts as seen, also when the caller has gone


class AnswerEvents:
    """Rewrites the events of a stream of `choices` answers; with `reasoning` nothing is hidden."""

    def __init__(self, used: PersonalizationUsed, *, choices: int, reasoning: bool) -> None:
        self.used: PersonalizationUsed | None = used
        """What the first event says; None behind it."""
        self.hides_usage = False
        """Whether an event that holds token counts alone is left out."""
        self._reasoning = reasoning
        self._texts = [ThinkingFilter() for _ in range(choices)]
        self._buffer = b""

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that `chunk` completes: one that the engine cuts in the middle reaches nobody."""
        self._buffer += chunk
        whole_events = _WHOLE_EVENTS.match(self._buffer)
        if whole_events is None:
            return b""
        piece, self._buffer = whole_events[0], self._buffer[whole_events.end() :]
        has_begun = self._reasoning or all(text.is_over for text in self._texts)
        may_hide = self.hides_usage and b'"usage"' in piece
        if has_begun and not self.used and not may_hide and not _UNUSUAL.search(piece):
            return piece
        return b"".join(map(self._rewrite, _EVENT.findall(piece)))

    def end(self) -> bytes:
        """What the engine sent behind the last whole event."""
        return self._rewrite(self._buffer) if self._buffer else b""

    def _rewrite(self, event: bytes) -> bytes:
        lines = event.splitlines()
        data = [line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:")]
        if not data:
            return event
        if not any(data) or any(map(is_ping, lines)):
            return b""
        try:
            document = parse_json(b"\n".join(data))
        except EngineError:  # such as [DONE]
            return event
        if not isinstance(document, dict):
            return event
        if self.hides_usage and document.get("usage") and not document.get("choices"):
            return b""
        is_changed = len(data) > 1
        if not self._reasoning and self._hide(document):
            is_changed = True
            if not self.used and _is_empty(document):
                return b""
        if not document:
            return b""
        used = self.used.document() if self.used else None
        self.used = None
        if is_changed:
            return b"data: " + orjson.dumps(({"personalization": used} if used else {}) | document) + b"\n\n"
        return _FIRST_OBJECT.sub(lambda start: start[0] + _member(used), event, 1) if used else event

    def _hide(self, document: dict[str, Any]) -> bool:
        choices = document.get("choices")
        is_changed = False
        for choice in choices if isinstance(choices, list) else ():
            delta, index = (choice.get("delta"), choice.get("index", 0)) if isinstance(choice, dict) else (None, 0)
            if isinstance(delta, dict) and index in range(len(self._texts)):
                is_changed |= hide_in_delta(choice, delta, self._texts[index])
        return is_changed


def _is_empty(document: dict[str, Any]) -> bool:
    """Whether an event says nothing, now that its reasoning is hidden."""
    return not document.get("usage") and all(map(_says_nothing, document["choices"]))


def _says_nothing(choice: Any) -> bool:
    delta = member(choice, "delta")
    return isinstance(delta, dict) and not any(delta.values()) and not member(choice, "finish_reason")


def _member(personalization: dict[str, Any]) -> bytes:
    return b'"personalization":' + orjson.dumps(personalization) + b","


async def render_stream(
    start: "asyncio.Future[RawAnswer]", events: AnswerEvents, keep_alive_s: float
) -> AsyncGenerator[bytes, None]:
    """The events for the caller. A fault ends the stream with an error event and without [DONE], so that no
    client takes it for whole."""
    try:
        while not start.done():
            yield KEEP_ALIVE
            await asyncio.wait({start}, timeout=keep_alive_s)
        shown_at = time.monotonic()
        answer = start.result()
        events.hides_usage = answer.is_counted
        async for chunk in answer.chunks:
            piece = events.feed(chunk)
            if not piece and time.monotonic() - shown_at >= keep_alive_s:  # reasoning that is hidden
                piece = KEEP_ALIVE
            if piece:
                shown_at = time.monotonic()
                yield piece
        if piece := events.end():
            yield piece
    except AlignXError as error:
        yield b"data: " + orjson.dumps(error.openai()) + b"\n\n"
