"""What is left in Redis of an event, and what the engine was asked because of it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from redis import Redis

from services.profile.serialize import loads
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.preference.served import Served
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


async def settle(served: Served) -> None:
    async def idle() -> bool:
        fields = await served.bench.fields()
        return "rebuild" not in fields and "own" not in fields and int(fields.get("pend", 0)) == 0

    await until(idle)
