"""The summary as it is written, as server-sent events.

A worker adds to the user's live stream in Redis; notices.py wakes the open connections of the user, and each reads
what is new for it. Events: `pending` (an update has begun: forget earlier deltas), `delta` (a piece of text),
`version` (the whole new summary), `changed` (the user's choices have turned), `error` (a problem; the update is
tried again). The id of an event is that of its entry in the live stream, so a client that reconnects with
Last-Event-ID misses nothing: if entries after that id are deleted, it gets the current summary as a new client does.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final, Self

import orjson
from fastapi.responses import StreamingResponse
from prometheus_client import Gauge
from starlette.types import Receive, Scope, Send

from services.errors import AlignXError, StoreUnavailable, UserUnknown
from services.preference.notices import Notices
from services.preference.queue import Queue
from services.preference.queue_records import Claim
from services.server.app import STORE_FAULTS, sse
from services.server.metrics import ENDLESS
from services.server.request_bodies import DisconnectWatch
from services.server.state import Drain
from services.storage.cluster import AWAY
from services.storage.users import Store

_KEEP_ALIVE_S: Final = 15.0
"""After so long a silence a comment is sent."""
_LOOK_S: Final = 45.0
"""So often is looked for what no notice told of: before it expires (`LIVE_MS`), and rarely, since ten thousand look."""
_READS: Final = 8
"""Under way at once in a shard, so that many streams that wake together leave connections to other requests."""
KEEP_ALIVE = b": keep-alive\n\n"

_RETRY_S: Final = 0.5

Entry = tuple[str, Mapping[str, str]]


class Listener:
    """Receives a summary while it is written; this one ignores it."""

    async def begin(self) -> None:
        """A text begins; it replaces one that came before."""

    def engine_answers(self) -> None:
        """The engine has accepted the prompt and writes, perhaps its reasoning first."""

    async def show(self, text: str) -> None:
        """A further piece of the text."""


class LiveText(Listener):
    """Writes an update to the user's live stream. `begun` is set once the engine answers."""

    def __init__(self, queue: Queue, claim: Claim) -> None:
        self.queue = queue
        self.claim = claim
        self.begun = asyncio.Event()

    async def begin(self) -> None:
        pending = {"pending": self.claim.pending, "version": self.claim.version}
        await self.queue.publish(self.claim, "pending", orjson.dumps(pending).decode())

    def engine_answers(self) -> None:
        self.begun.set()

    async def show(self, text: str) -> None:
        await self.queue.publish(self.claim, "delta", orjson.dumps({"text": text}).decode())


class LiveStreams:
    """What the open connections of this process share."""

    def __init__(self, store: Store, notices: Notices, drain: Drain, timeout_s: float, gauge: Gauge) -> None:
        self._store = store
        self._notices = notices
        self._drain = drain
        self._timeout_s = timeout_s
        self._gauge = gauge
        self.streams = 0
        """That are open."""
        self._reads: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_READS))
        """By shard: a server that hangs holds up its own readers alone."""

    @classmethod
    @asynccontextmanager
    async def open(cls, store: Store, drain: Drain, timeout_s: float, gauge: Gauge) -> AsyncIterator[Self]:
        """`timeout_s` is the longest that Redis may be silent; `gauge` shows how many streams are open."""

        async def end_on_drain(notices: Notices) -> None:
            await drain.wait()
            notices.tell_all()

        async with Notices.open(store.redis, timeout_s) as notices:
            ending = asyncio.create_task(end_on_drain(notices))
            try:
                yield cls(store, notices, drain, timeout_s, gauge)
            finally:
                ending.cancel()

    async def follow(self, tenant: str, user: str, last_event_id: str | None) -> AsyncGenerator[bytes]:
        """Encoded events until the client disconnects, the user is erased or the service drains."""
        self._count(1)
        try:
            async for chunk in self._follow(tenant, user, last_event_id):
                yield chunk
                del chunk  # an idle stream keeps no text
        except AlignXError as error:
            yield sse(orjson.dumps(error.problem()), event="error")
        except STORE_FAULTS:
            yield sse(orjson.dumps(StoreUnavailable().problem()), event="error")
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self.streams += change
        self._gauge.set(self.streams)

    async def _follow(self, tenant: str, user: str, last_event_id: str | None) -> AsyncIterator[bytes]:
        store, live = self._store, self._store.keys.user(tenant, user).live
        with self._notices.follow(live) as topic:
            turn, spoke, looked = topic.turn, time.monotonic(), time.monotonic()
            whole, entries = await _entries(store, live, last_event_id)
            position = last_event_id if whole and last_event_id else entries[-1][0] if entries else "0-0"
            if not whole:
                async for chunk in _snapshot(store, tenant, user, position):
                    yield chunk
                    del chunk
                entries = _running_update(entries)
            while not self._drain.over:
                for position, fields in entries:
                    async with self._reading(live):
                        event = await _encode(store, tenant, user, position, fields)
                    yield event
                    del event, fields
                    spoke = time.monotonic()
                entries = []
                await topic.wait(turn, spoke + _KEEP_ALIVE_S - time.monotonic())
                if topic.turn != turn or time.monotonic() - looked >= _LOOK_S:
                    turn, looked = topic.turn, time.monotonic()
                    entries = await self._read(tenant, user, position)
                if not entries and time.monotonic() - spoke >= _KEEP_ALIVE_S:
                    yield KEEP_ALIVE
                    spoke = time.monotonic()

    async def _read(self, tenant: str, user: str, position: str) -> list[Entry]:
        """The entries after `position`; a Redis that restarts has time to come back. Raises UserUnknown once the user
        is erased, StoreUnavailable and the faults of a store that stays away."""
        keys, deadline = self._store.keys.user(tenant, user), time.monotonic() + self._timeout_s
        while not self._drain.over:
            pipe = self._store.redis.pipeline(transaction=False)
            pipe.exists(keys.state)
            pipe.xrange(keys.live, f"({position}", "+")
            try:
                async with self._reading(keys.live):
                    is_known, entries = await pipe.execute()
            except AWAY:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_RETRY_S)
                continue
            if not is_known:
                raise UserUnknown
            return list(entries)
        return []

    @asynccontextmanager
    async def _reading(self, live: str) -> AsyncIterator[None]:
        reads = self._reads[live.partition("}")[0]]
        try:
            async with asyncio.timeout(self._timeout_s):
                await reads.acquire()
        except TimeoutError as error:
            raise StoreUnavailable from error
        try:
            yield
        finally:
            reads.release()


class EndlessResponse(StreamingResponse):
    """Sends the encoded events as they come, until they end or the caller disconnects. By then all that has led to the
    answer, the route's frames and dependencies among it, has returned (`ENDLESS`), so that it costs little while idle.
    """

    def __init__(self, events: AsyncGenerator[bytes], status_code: int = 200) -> None:
        """FastAPI reads the status for its document from the signature."""
        super().__init__(events, status_code, {"Cache-Control": "no-store"}, "text/event-stream")
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        scope["state"][ENDLESS] = partial(_send_events, self.events)


async def _send_events(events: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
    with DisconnectWatch(receive):
        async with aclosing(events):
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
                del event
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _snapshot(store: Store, tenant: str, user: str, position: str) -> AsyncIterator[bytes]:
    current = await store.preferences(tenant, user)
    yield sse(current.model_dump_json().encode(), event="version", event_id=position)
    if current.pending:
        data = orjson.dumps({"pending": current.pending, "version": current.version})
        yield sse(data, event="pending", event_id=position)


async def _entries(store: Store, live: str, after: str | None) -> tuple[bool, list[Entry]]:
    """(whether nothing that followed `after` can be lost, the entries behind it). Nothing can if an
    entry at or before it is still kept once they are read: the oldest go first."""
    pipe = store.redis.pipeline(transaction=False)
    pipe.xrange(live, f"({after}" if after else "-", "+")
    pipe.xrange(live, "-", after or "0-0", count=1)
    entries, before = await pipe.execute()
    return bool(before), entries


def _running_update(entries: list[Entry]) -> list[Entry]:
    """The entries of the update under way."""
    for index in range(len(entries) - 1, -1, -1):
        match entries[index][1]["e"]:
            case "version":
                return []
            case "pending":
                return entries[index:]
    return []


async def _encode(store: Store, tenant: str, user: str, position: str, fields: Mapping[str, str]) -> bytes:
    if fields["e"] != "version":
        return sse(fields["d"].encode(), event=fields["e"], event_id=position)
    current = await store.preferences(tenant, user)
    return sse(current.model_dump_json().encode(), event="version", event_id=position)
