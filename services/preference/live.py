"""The summary as it is written, as server-sent events.

A worker adds to the user's live stream in Redis; every open connection follows it by its own blocking
read. Events: `pending` (an update has begun: forget earlier deltas), `delta` (a piece of text),
`version` (the whole new summary), `changed` (the user's choices have turned), `error` (a problem; the update is
tried again). The id of an event is that of its entry in the live stream, so a client that reconnects with
Last-Event-ID misses nothing: if entries after that id are deleted, it gets the current summary as a new client does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import orjson

from services.errors import AlignXError, StoreUnavailable
from services.preference.queue import Queue
from services.preference.queue_records import Claim
from services.server.app import STORE_FAULTS, sse
from services.server.state import Drain
from services.storage.connection import read_stream
from services.storage.users import Store

_BLOCK_MS = 2_000
_KEEP_ALIVE_S = 15.0
KEEP_ALIVE = b": keep-alive\n\n"

Entry = tuple[str, Mapping[str, str]]


class LiveText:
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


async def follow(store: Store, tenant: str, user: str, last_event_id: str | None, drain: Drain) -> AsyncIterator[bytes]:
    """Encoded events until the client disconnects, the user is erased or the service drains."""
    try:
        async for chunk in _follow(store, tenant, user, last_event_id, drain):
            yield chunk
    except AlignXError as error:
        yield sse(orjson.dumps(error.problem()), event="error")
    except STORE_FAULTS:
        yield sse(orjson.dumps(StoreUnavailable().problem()), event="error")


async def _follow(
    store: Store, tenant: str, user: str, last_event_id: str | None, drain: Drain
) -> AsyncIterator[bytes]:
    live = store.keys.user(tenant, user).live
    spoke = time.monotonic()
    whole, entries = await _entries(store, live, last_event_id)
    position = last_event_id if whole and last_event_id else entries[-1][0] if entries else "0-0"
    if not whole:
        async for chunk in _snapshot(store, tenant, user, position):
            yield chunk
        entries = _running_update(entries)
    while not drain.over:
        for position, fields in entries:
            yield await _encode(store, tenant, user, position, fields)
            spoke = time.monotonic()
        if time.monotonic() - spoke > _KEEP_ALIVE_S:
            await store.state(tenant, user)
            yield KEEP_ALIVE
            spoke = time.monotonic()
        entries = _parse_entries(await read_stream(store.redis, live, position, _BLOCK_MS))


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


def _parse_entries(answer: object) -> list[Entry]:
    """The entries of an XREAD of one stream, in either form redis-py gives it (RESP2 or RESP3)."""
    if not answer:
        return []
    if isinstance(answer, Mapping):
        return [(position, fields) for batch in next(iter(answer.values())) for position, fields in batch]
    assert isinstance(answer, list)
    return list(answer[0][1])
