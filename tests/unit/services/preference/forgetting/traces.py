"""What is left in Redis of an event, and what the engine was asked because of it."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis import Redis

from services.profile.serialize import loads
from tests.redis_cluster import ClusterServers
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.preference.served import Served, serving
from tests.unit.services.preference.working import until

MARK = "u7n1"
"""The mock engine repeats such words in its summaries."""
SAID = f"I adore zephyrine pottery {MARK}."


@contextmanager
def raw(url: str) -> Iterator[Any]:
    """A client of bytes, to whom Redis dumps values as they lie in memory."""
    client: Any = Redis.from_url(url)
    client.config_set("rdbcompression", "no")
    try:
        yield client
    finally:
        client.config_set("rdbcompression", "yes")
        client.close()


def places(url: str, *words: str) -> set[str]:
    """The keys that hold any of the words in their names or bytes, the profile's sentences read too."""
    found = set()
    with raw(url) as client:
        for key in client.scan_iter("*"):
            held = key + (client.dump(key) or b"")
            if key.endswith((b":profile", b":base")):
                dump = client.get(key)
                held += repr(loads(dump[dump.index(b"{") :])).encode()
                held += _unpack(loads(dump[dump.index(b"{") :]).memory)
            if any(word.encode() in held for word in words):
                found.add(key.decode().rpartition(":")[2])
    return found


def _unpack(memory: bytes) -> bytes:
    return zlib.decompress(memory) if memory else b""


def count_calls(served: Served) -> int:
    return len(served.bench.mock.prompts) + len(served.bench.mock.choices)


async def is_as_folded(served: Served) -> bool:
    """The profile is that of the checkpoint and the log, but for the second in which an event came."""
    store = served.bench.store
    folded, stored = await store.fold_history(TENANT, "ada"), (await store.profile(TENANT, "ada"))[1]
    return replace(folded, latest=0) == replace(stored, latest=0)


async def trimmed(served: Served, events: int) -> None:
    """Returns once the log holds so many events."""

    async def is_short() -> bool:
        return int(await served.bench.redis.xlen(served.bench.keys().log)) == events

    await until(is_short)


@asynccontextmanager
async def serving_a_cluster(folder: Path, **more: Any) -> AsyncIterator[Served]:
    """No node holds a mark in the end."""
    servers = ClusterServers(folder)
    try:
        await asyncio.to_thread(servers.up)
        redis = {"url": servers.url, "cluster": True}
        async with serving(servers.url, redis=redis, queue={"shards": 8, "poll_ms": 2}, **more) as served:
            yield served
        for url in servers.node_urls:
            address = url if "://" in url else f"redis://{url}"
            assert not await asyncio.to_thread(places, address, MARK, "zephyrine")
    finally:
        servers.down()


async def settle(served: Served) -> None:
    async def idle() -> bool:
        fields = await served.bench.fields()
        return "rebuild" not in fields and "own" not in fields and int(fields.get("pend", 0)) == 0

    await until(idle)
