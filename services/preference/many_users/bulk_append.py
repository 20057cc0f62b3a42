"""Appends for many users at once: a line of the body is what a call for one user holds.

The body is read whole, within the limit of any body, since the cost of the call stands in the answer's head; the
answer is streamed, a line for each line, in order. Several lines are under way at once. Those of one user stay in
their order: where one is to be sent again later, the user's lines behind it are too.
"""

import asyncio
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, NamedTuple

import orjson
from fastapi import Request

from alignx.schemas.many_users import LineOutcome, UserEvents
from alignx.schemas.requests import EventsAccepted, EventsRequest
from services.errors import (
    AlignXError,
    MalformedBody,
    PayloadTooLarge,
    RequestError,
    StoreUnavailable,
    UnsupportedEncoding,
)
from services.server.app import STORE_FAULTS
from services.server.body_lists import EVENTS_OF_ONE, FEW, find_lists, validate_document
from services.server.logging import ARRIVED
from services.server.request_bodies import parse_json
from services.slices import map_in_slices
from services.storage.connection import refusal_words

MAX_LINES: Final = 10_000
_AT_ONCE: Final = 8
"""Lines under way at once."""
_MOST_FAULTS: Final = 16
"""Lines that Redis did not answer, after which no further one is tried."""
_PIECE: Final = 1 << 18
"""Bytes after which the loop has a turn."""
_CHUNK: Final = 1 << 14
"""Bytes of answers that wait for the next one to be ready."""
_LISTS = find_lists(UserEvents)

Append = Callable[[str, str, EventsRequest, str, float], Awaitable[EventsAccepted]]
"""PreferenceService.append."""


class Line(NamedTuple):
    number: int
    content: bytes


async def read_body(request: Request, limit: int) -> bytes:
    """The body, unpacked. Raises PayloadTooLarge where it has more than `limit` bytes then, MalformedBody and
    UnsupportedEncoding."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return await request.body()
    if encoding not in ("gzip", "x-gzip"):
        raise UnsupportedEncoding("Content-Encoding may be gzip, or left out.")
    body, inflater = bytearray(), zlib.decompressobj(wbits=31)
    try:
        async for packed in request.stream():
            while packed:
                if inflater.eof:  # files packed one by one may stand behind each other
                    inflater = zlib.decompressobj(wbits=31)
                body += inflater.decompress(packed, _PIECE)
                packed = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                if len(body) > limit:
                    raise PayloadTooLarge(f"The unpacked body may have at most {limit:,} bytes.", limit_bytes=limit)
                await asyncio.sleep(0)
        body += inflater.flush()
    except zlib.error as error:
        raise MalformedBody("The body is not gzip.") from error
    if not inflater.eof:
        raise MalformedBody("The gzip of the body is cut off.")
    return bytes(body)


def split_lines(body: bytes) -> Iterator[Line]:
    """The lines that hold anything, one after another."""
    start, number = 0, 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        number += 1
        if content := body[start:end].strip():
            yield Line(number, content)
        start = end + 1


async def measure_cost(body: bytes) -> float:
    """As how many requests the lines count: each as a call of its own. Raises PayloadTooLarge."""
    costs = await map_in_slices(_cost, split_lines(body))
    if len(costs) > MAX_LINES:
        raise PayloadTooLarge(f"A body may have {MAX_LINES:,} lines; this one has {len(costs):,}.", limit=MAX_LINES)
    return sum(costs)


def _cost(line: Line) -> float:
    try:
        events = orjson.loads(line.content)["events"]
    except (ValueError, TypeError, KeyError):
        return 1.0
    return max(1.0, len(events) / EVENTS_OF_ONE) if isinstance(events, list) and len(events) > FEW else 1.0


class BulkAppend:
    """One object a call."""

    def __init__(self, append: Append, tenant: str) -> None:
        self._append = append
        self._tenant = tenant
        self._latest: dict[str, asyncio.Task[LineOutcome]] = {}
        """The latest line of each user that is under way."""
        self._blocked: dict[str, AlignXError] = {}
        """Why the further lines of a user are to be sent again."""
        self._faults = 0

    async def answer(self, body: bytes) -> AsyncIterator[bytes]:
        """The lines of the answer; those that are ready together come together."""
        under_way: deque[asyncio.Task[LineOutcome]] = deque()
        text = b""
        try:
            for line in split_lines(body):
                under_way.append(await self._start(line))
                if len(under_way) < _AT_ONCE:
                    continue
                text += _render(await under_way.popleft())
                if len(text) > _CHUNK or not under_way[0].done():
                    yield text
                    text = b""
            while under_way:
                text += _render(await under_way.popleft())
            if text:
                yield text
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _start(self, line: Line) -> "asyncio.Task[LineOutcome]":
        try:
            document = parse_json(line.content)
            entry, _ = await validate_document(UserEvents, document, _LISTS)
        except ValueError:
            return asyncio.create_task(_refuse(line, None, MalformedBody("The line is not valid JSON.")))
        except RequestError as error:
            return asyncio.create_task(_refuse(line, None, error))
        task = asyncio.create_task(self._store(line, entry, self._latest.get(entry.user)))
        self._latest[entry.user] = task
        task.add_done_callback(lambda done: self._end(entry.user, done))
        return task

    def _end(self, user: str, task: "asyncio.Task[LineOutcome]") -> None:
        if self._latest.get(user) is task:
            del self._latest[user]

    async def _store(self, line: Line, entry: UserEvents, before: "asyncio.Task[LineOutcome] | None") -> LineOutcome:
        if before:
            await asyncio.wait({before})
        ARRIVED.set(time.perf_counter())  # the task's own: lines that come before do not count
        error = self._blocked.get(entry.user)
        if error is None and self._faults >= _MOST_FAULTS:
            error = StoreUnavailable(retry_after=1.0)
        if error is None:
            try:
                accepted = await self._append(self._tenant, entry.user, entry, entry.idempotency_key or "", 0.0)
            except AlignXError as refusal:
                error = refusal
            except STORE_FAULTS as fault:
                self._faults += 1
                error = StoreUnavailable(refusal_words(fault), retry_after=1.0)
            else:
                return LineOutcome(line=line.number, status=202, user=entry.user, accepted=accepted)
            if error.retry_after is not None:
                self._blocked[entry.user] = error
        return await _refuse(line, entry.user, error)


async def _refuse(line: Line, user: str | None, error: AlignXError) -> LineOutcome:
    problem, wait = error.problem(), error.retry_after
    return LineOutcome(line=line.number, status=error.status, user=user, problem=problem, retry_after=wait)


def _render(outcome: LineOutcome) -> bytes:
    return outcome.model_dump_json(exclude_none=True).encode() + b"\n"
