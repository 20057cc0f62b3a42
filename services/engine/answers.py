"""The bytes of an answer under way: read as text, or passed through with an eye on how they end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

from services.engine.guard import Progress
from services.engine.refusals import member, parse_json, reported_error
from services.engine.wire import LATE, NO_EVENTS, AnswerTail, Reply, first_event
from services.errors import EngineError, EngineUnavailable

LastSign = Callable[[], Awaitable[float | None]]
"""Seconds since the engine last showed that it answers anyone; None if it does not."""
SIGNS = 3  # looks for one within the longest wait


async def read_texts(response: aiohttp.ClientResponse, reply: Reply) -> AsyncIterator[str]:
    """The texts of a streamed answer as `reply` parses it."""
    try:
        async for chunk in response.content.iter_any():
            for text in reply.feed(chunk):
                yield text
            if reply.done:
                break
    except aiohttp.ClientError:
        reply.done = reply.is_whole
        if not reply.done:
            raise
    for text in reply.end():
        yield text


async def pass_through(
    first: bytes, rest: AsyncIterator[bytes], tail: AnswerTail, progress: Progress
) -> AsyncGenerator[bytes, None]:
    """Passes an answer through and notes how it ended, also for a caller that handles the error
    inside the call. A stream that ends behind its finish reason gets the `[DONE]` it lacks."""
    broken: Exception | None = None
    tail.feed(first)
    progress.note_events(first)
    yield first
    try:
        async for chunk in rest:
            tail.feed(chunk)
            progress.note_events(chunk)
            yield chunk
    except aiohttp.ClientError as error:
        broken = error
    try:
        missing = tail.end(broken)
    except EngineUnavailable as error:
        progress.error = error
        raise
    if missing:
        yield missing
    progress.finish(tail.tokens())


async def read_start(chunks: AsyncIterator[bytes], content_type: str) -> bytes:
    """A stream up to its first event, which comments may precede; all of one without events. Raises EngineError where
    it is another kind of document."""
    start = b""
    while not first_event(start) and (chunk := await anext(chunks, b"")):
        start += chunk
    if start and not first_event(start) and content_type != "text/event-stream":
        raise EngineError(NO_EVENTS)
    return start


def check_start(start: bytes, *, streamed: bool) -> None:
    """Raises the error that an engine reports in place of an answer, though the status is 200. One that is not streamed
    may be cut here: then its reader looks."""
    if b'"error"' not in (document := first_event(start) if streamed else start):
        return
    try:
        body = parse_json(document)
    except EngineError:
        if streamed:
            raise
        return
    if member(body, "error"):
        raise reported_error(body)


@asynccontextmanager
async def bounded_start(longest_s: float, last_sign: LastSign | None) -> AsyncIterator[None]:
    """Bounds the wait for the start of an answer. One that is not streamed starts at its end: for it `last_sign` tells
    whether the engine still works. Raises EngineUnavailable."""
    try:
        async with asyncio.timeout(longest_s) as limit:
            watch = asyncio.create_task(_extend(limit, longest_s, last_sign)) if last_sign else None
            try:
                yield
            finally:
                if watch:
                    watch.cancel()
    except TimeoutError as error:
        raise EngineUnavailable(f"{LATE} ({longest_s:g} s)") from error


async def _extend(limit: asyncio.Timeout, longest_s: float, last_sign: LastSign) -> None:
    """Puts the limit off to `longest_s` after the engine's last sign of life."""
    age_s: float | None = 0.0
    while age_s is not None and not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time() + longest_s - age_s)
        await asyncio.sleep(longest_s / SIGNS)
        age_s = await last_sign()
