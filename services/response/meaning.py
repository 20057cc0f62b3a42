"""Embeddings of what a user took lately and of the items on offer, for `services.core.meaning`.

Nothing is written: vectors stay in this process under the hash of their text, for `embed_keep_s` at most.
A user's items are scored without them whenever the embeddings server is silent, slow or wrong.
"""

import asyncio
import hashlib
import time
from array import array
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from services.core.engine import Engine
from services.core.errors import EngineError, EngineUnavailable
from services.core.meaning import MAX_EVENTS, lessons, nearness, text_of
from services.core.schemas import Item
from services.core.settings import Settings
from services.core.store import Store

MAX_KEPT = 8_192
"""Vectors in memory; of 384 dimensions they take 12 MiB."""
MAX_ASKED = 128
"""Texts of one call; more make several."""


class MeaningMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.scored = Counter(
            "alignx_meaning_scores",
            "Scorings with embeddings (used), and without because they came too late (late) or not (failed)",
            ("outcome",),
            registry=registry,
        )
        for outcome in ("used", "late", "failed"):
            self.scored.labels(outcome)


class Meaning:
    """Scores by meaning, or none."""

    def __init__(self, store: Store, engine: Engine, settings: Settings, metrics: MeaningMetrics) -> None:
        self.enabled = settings.engine.embeddings_url is not None
        self._store = store
        self._engine = engine
        self._settings = settings.response
        self._scored = metrics.scored
        self._kept = _Kept(settings.response.embed_keep_s)

    async def scores(self, tenant: str, user: str, items: Sequence[Item]) -> list[float]:
        """Log-odds to add to the profile's; all 0 without an embeddings server or without choices to learn from."""
        nothing = [0.0] * len(items)
        if not self.enabled:
            return nothing
        stored = await self._store.events_before(tenant, user, "+", MAX_EVENTS)
        taught = lessons([entry.interaction for entry in stored])
        if not taught:
            return nothing
        offered = [text_of(item) for item in items]
        try:
            async with asyncio.timeout(self._settings.embed_timeout_s):
                vectors = await self._vectors([*(lesson.text for lesson in taught), *offered])
            found = nearness(taught, vectors[: len(taught)], offered, vectors[len(taught) :])
        except TimeoutError:
            self._scored.labels("late").inc()
            return nothing
        except (EngineUnavailable, EngineError, ValueError):
            self._scored.labels("failed").inc()
            return nothing
        self._scored.labels("used").inc()
        return found

    async def _vectors(self, texts: Sequence[str]) -> list[Sequence[float]]:
        known = {text: self._kept.get(text) for text in dict.fromkeys(texts)}
        unknown = [text for text, vector in known.items() if vector is None]
        for start in range(0, len(unknown), MAX_ASKED):
            asked = unknown[start : start + MAX_ASKED]
            found = await self._engine.embed(asked)
            known |= {text: self._kept.put(text, vector) for text, vector in zip(asked, found, strict=True)}
        return [vector for text in texts if (vector := known[text]) is not None]


class _Kept:
    """Vectors by the hash of their text, the oldest first; none is given out or held past its time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: dict[bytes, tuple[float, array[float]]] = {}

    def get(self, text: str) -> Sequence[float] | None:
        self._forget()
        entry = self._entries.get(_key(text))
        return entry[1] if entry else None

    def put(self, text: str, vector: Sequence[float]) -> Sequence[float]:
        packed = array("f", vector)
        self._entries.pop(_key(text), None)  # so that the newest stand last
        self._entries[_key(text)] = (time.monotonic(), packed)
        if len(self._entries) > MAX_KEPT:
            del self._entries[next(iter(self._entries))]
        return packed

    def _forget(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._entries and next(iter(self._entries.values()))[0] <= oldest:
            del self._entries[next(iter(self._entries))]


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
