"""A cache of embeddings in front of the embeddings server.

A call goes on in the background when its caller goes away, so that the next caller finds the vectors. They are
cached in memory alone, under the hash of their text, until they expire or newer ones need the room.
"""

import asyncio
import hashlib
import time
from array import array
from collections.abc import Mapping, Sequence

from services.engine.limits import Engine
from services.errors import EngineUnavailable

MAX_CACHE_BYTES = 64 * 2**20
"""Bytes of vectors in memory; of 384 dimensions there are 40,000."""
TEXTS_PER_CALL = 16
"""Few, so that each call is short and its vectors are cached soon."""
MAX_PENDING = 4_096
"""Texts requested or waiting; more are refused, so that a slow server cannot build up an endless queue."""
_OVERHEAD = 256
"""Bytes of an entry beside its numbers."""

Vector = Sequence[float]


class Vectors:
    """Requests each text once, however many need it. Open one per process, and close it at the end."""

    def __init__(self, engine: Engine, *, keep_s: float, longest_s: float) -> None:
        self.cache = VectorCache(keep_s)
        self._engine = engine
        self._longest_s = longest_s
        self._pending: dict[str, asyncio.Task[Mapping[str, Vector]]] = {}

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One for each text. Raises what the embeddings server raises."""
        known = {text: self.cache.get(text) for text in dict.fromkeys(texts)}
        unknown = [text for text, vector in known.items() if vector is None]
        self._request([text for text in unknown if text not in self._pending])
        tasks = {self._pending[text] for text in unknown}
        vectors = {text: vector for text, vector in known.items() if vector is not None}
        for answer in await asyncio.gather(*map(asyncio.shield, tasks)):
            vectors |= answer
        return [vectors[text] for text in texts]

    async def close(self) -> None:
        tasks = {*self._pending.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.cache.clear()

    def _request(self, texts: Sequence[str]) -> None:
        if len(self._pending) + len(texts) > MAX_PENDING:
            raise EngineUnavailable("Too many texts wait for their embeddings")
        for start in range(0, len(texts), TEXTS_PER_CALL):
            batch = texts[start : start + TEXTS_PER_CALL]
            task = asyncio.create_task(self._embed(batch))
            self._pending |= dict.fromkeys(batch, task)

    async def _embed(self, texts: Sequence[str]) -> Mapping[str, Vector]:
        try:
            vectors = await self._engine.embed(texts, self._longest_s)
            return {text: self.cache.put(text, vector) for text, vector in zip(texts, vectors, strict=True)}
        finally:
            for text in texts:
                del self._pending[text]


class VectorCache:
    """Vectors by the hash of their text, oldest first. A timer drops expired ones, also when nobody asks."""

    def __init__(self, seconds: float, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self.bytes = 0
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._entries: dict[bytes, tuple[float, array[float]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def get(self, text: str) -> Vector | None:
        entry = self._entries.get(_key(text))
        return entry[1] if entry and entry[0] > time.monotonic() else None

    def put(self, text: str, vector: Vector) -> Vector:
        packed = array("f", vector)
        if self._seconds > 0:
            self._drop(_key(text))  # so that the newest stand last
            self._entries[_key(text)] = (time.monotonic() + self._seconds, packed)
            self.bytes += _size(packed)
            while self.bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))
            self._wake()
        return packed

    def clear(self) -> None:
        self._entries.clear()
        self.bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        """Sets the timer to the end of the oldest."""
        if self._timer is None and self._entries:
            left = next(iter(self._entries.values()))[0] - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(left, 0.0), self._forget)

    def _forget(self) -> None:
        self._timer, now = None, time.monotonic()
        while self._entries and next(iter(self._entries.values()))[0] <= now:
            self._drop(next(iter(self._entries)))
        self._wake()

    def _drop(self, key: bytes) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self.bytes -= _size(entry[1])


def _size(packed: "array[float]") -> int:
    return len(packed) * packed.itemsize + _OVERHEAD


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
