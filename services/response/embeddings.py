"""The vectors of texts, asked of the embeddings server once and kept for a while.

A caller may go away; what is under way for it goes on in the background, and what comes is kept, so that
the next caller finds it. Vectors stay in memory alone, under the hash of their text: until their time is
over or newer ones need the room.
"""

import asyncio
import hashlib
import time
from array import array
from collections.abc import Mapping, Sequence

from services.engine.limits import Engine
from services.errors import EngineUnavailable

MAX_KEPT = 64 * 2**20
"""Bytes of vectors in memory; of 384 dimensions there are 40,000."""
MAX_ASKED = 16
"""Texts of one call: few, so that each call is short and what came is kept."""
MAX_UNDER_WAY = 4_096
"""Texts that are asked for or wait; more are refused, so that a slow server leaves no endless line."""
_OVERHEAD = 256
"""Bytes of an entry beside its numbers."""

Vector = Sequence[float]


class Vectors:
    """Asks for each text once, whoever needs it. Open one per process, and close it at the end."""

    def __init__(self, engine: Engine, *, keep_s: float, longest_s: float) -> None:
        self.kept = Kept(keep_s)
        self._engine = engine
        self._longest_s = longest_s
        self._under_way: dict[str, asyncio.Task[Mapping[str, Vector]]] = {}

    async def of(self, texts: Sequence[str]) -> list[Vector]:
        """One for each text. Raises what the embeddings server raises."""
        known = {text: self.kept.get(text) for text in dict.fromkeys(texts)}
        unknown = [text for text, vector in known.items() if vector is None]
        self._ask([text for text in unknown if text not in self._under_way])
        tasks = {self._under_way[text] for text in unknown}
        found = {text: vector for text, vector in known.items() if vector is not None}
        for answer in await asyncio.gather(*map(asyncio.shield, tasks)):
            found |= answer
        return [found[text] for text in texts]

    async def close(self) -> None:
        tasks = {*self._under_way.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.kept.clear()

    def _ask(self, texts: Sequence[str]) -> None:
        if len(self._under_way) + len(texts) > MAX_UNDER_WAY:
            raise EngineUnavailable("Too many texts wait for their embeddings")
        for start in range(0, len(texts), MAX_ASKED):
            asked = texts[start : start + MAX_ASKED]
            task = asyncio.create_task(self._embedded(asked))
            self._under_way |= dict.fromkeys(asked, task)

    async def _embedded(self, texts: Sequence[str]) -> Mapping[str, Vector]:
        try:
            found = await self._engine.embed(texts, self._longest_s)
            return {text: self.kept.put(text, vector) for text, vector in zip(texts, found, strict=True)}
        finally:
            for text in texts:
                del self._under_way[text]


class Kept:
    """Vectors by the hash of their text, the oldest first; none is given out or held past its time."""

    def __init__(self, seconds: float, most: int = MAX_KEPT) -> None:
        self.bytes = 0
        self._seconds = seconds
        self._most = most
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
            while self.bytes > self._most:
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
