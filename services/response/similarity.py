"""Embeddings of a user's latest choices and of the items to score, for `services.profile.word_vectors`.

Nothing is written: vectors stay in this process (`services.response.embeddings`). A user's items are scored
without them whenever the embeddings server is silent, slow or wrong.
"""

import asyncio
import logging
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from alignx.schemas.items import Item
from services.engine.limits import Engine
from services.errors import EngineError, EngineUnavailable
from services.profile.word_vectors import MAX_EVENTS, lessons, nearness, text_of
from services.response.embeddings import Vectors
from services.settings import Settings
from services.storage.users import Store

logger = logging.getLogger("alignx.meaning")


class SimilarityMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.scored = Counter(
            "alignx_meaning_scores",
            "Scorings with embeddings (used), and without because they came too late (late) or not (failed)",
            ("outcome",),
            registry=registry,
        )
        for outcome in ("used", "late", "failed"):
            self.scored.labels(outcome)


class Similarity:
    """Scores items by the similarity of their embeddings to the user's history."""

    def __init__(self, store: Store, engine: Engine, settings: Settings, metrics: SimilarityMetrics) -> None:
        self.enabled = settings.engine.embeddings_url is not None
        self._store = store
        self._longest_s = settings.response.embed_timeout_s
        self._vectors = Vectors(engine, keep_s=settings.response.embed_keep_s, longest_s=self._longest_s)
        self._scored = metrics.scored
        self._fails = False

    async def scores(self, tenant: str, user: str, items: Sequence[Item]) -> list[float]:
        """Log-odds to add to the profile's; all 0 without an embeddings server or without choices to learn from."""
        nothing = [0.0] * len(items)
        if not self.enabled:
            return nothing
        stored = await self._store.events_before(tenant, user, "+", MAX_EVENTS)
        history = lessons([entry.interaction for entry in stored])
        if not history:
            return nothing
        texts = [text_of(item) for item in items]
        try:
            async with asyncio.timeout(self._longest_s):
                vectors = await self._vectors.embed([*(lesson.text for lesson in history), *texts])
            history_vectors, item_vectors = vectors[: len(history)], vectors[len(history) :]
            # In a thread: it is work of milliseconds, in which the loop answers others.
            log_odds = await asyncio.to_thread(nearness, history, history_vectors, texts, item_vectors)
        except TimeoutError as error:
            return self._without("late", error, nothing)
        except (EngineUnavailable, EngineError, ValueError, OverflowError) as error:
            return self._without("failed", error, nothing)
        self._scored.labels("used").inc()
        if self._fails:
            self._fails = False
            logger.info("items are scored by their meaning again")
        return log_odds

    async def close(self) -> None:
        """Ends what is under way in the background."""
        await self._vectors.close()

    def _without(self, outcome: str, error: Exception, nothing: list[float]) -> list[float]:
        """Counts each failure and logs the first of a row."""
        self._scored.labels(outcome).inc()
        if not self._fails:
            self._fails = True
            extra = {"outcome": outcome, "error": type(error).__name__}
            logger.warning("items are scored without their meaning", extra=extra)
        return nothing
