"""Which of a few items would the user choose?

Three methods: the fast profile (free), the engine's letter probabilities given the text summary, and
both fused: their log-odds averaged, each as one expert's opinion. Where an embeddings server is
configured, the profile's word includes what the items mean.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from alignx.schemas.items import Item, item_text
from alignx.schemas.requests import Method, ScoredItem, SelectRequest, SelectResponse
from services.engine.client import Engine
from services.engine.judge import fuse, judge
from services.errors import EngineError, EngineUnavailable, UserUnknown
from services.profile.scoring import scores, softmax
from services.profile.statistics import Profile
from services.response.similarity import Meaning
from services.settings import ResponseSettings
from services.storage.users import NO_STAMP, Store


@dataclass(frozen=True, slots=True)
class Known:
    """What the fast profile says of items."""

    probabilities: list[float]
    meaning: list[float]
    """Log-odds that what they mean has added; 0 where it was not asked."""

    def of(self, places: Sequence[int]) -> "Known":
        """Of some of the items alone."""
        mass = sum(self.probabilities[place] for place in places)
        return Known([self.probabilities[place] / mass for place in places], [self.meaning[place] for place in places])


@dataclass(frozen=True, slots=True)
class Choice:
    """Probabilities of items, and how they came about."""

    probabilities: tuple[float, ...]
    method: Method
    version: int = 0
    position_bias: float | None = None


class Selector:
    """Scores items for a user. Raises UserUnknown; EngineUnavailable and EngineError only if the caller
    insisted on the engine, else the profile answers alone."""

    def __init__(self, store: Store, engine: Engine, meaning: Meaning, settings: ResponseSettings) -> None:
        self.store = store
        self.engine = engine
        self.meaning = meaning
        self.settings = settings

    async def select(self, tenant: str, user: str, request: SelectRequest) -> SelectResponse:
        profile = await self.profile(tenant, user)
        query, items, method = request.query, request.items, request.method
        if method == "engine":
            choice = await self._ask(tenant, user, query, items)
        else:  # at once: neither server waits for the other
            known, by_engine = await asyncio.gather(
                self.by_profile(tenant, user, profile, query, items), self.by_engine(tenant, user, query, items, method)
            )
            choice = self.combined(by_engine, known, method)
        scored = tuple(
            ScoredItem(index=index, id=item_id(item), probability=round(probability, 6))
            for index, (item, probability) in enumerate(zip(request.items, choice.probabilities, strict=True))
        )
        best = max(scored, key=lambda item: item.probability)
        return SelectResponse(
            choice=best.index,
            items=scored,
            method=choice.method,
            version=choice.version,
            position_bias=choice.position_bias,
        )

    async def profile(self, tenant: str, user: str) -> Profile:
        stamp, profile = await self.store.profile(tenant, user)
        if stamp == NO_STAMP:
            raise UserUnknown
        return profile

    async def by_engine(
        self, tenant: str, user: str, query: str, items: Sequence[Item], method: Method | None
    ) -> Choice | None:
        """What the engine says of 2 to 26 items; None where `method` does without it, or can."""
        if method == "profile" or (method is None and not self.engine.enabled):
            return None
        try:
            return await self._ask(tenant, user, query, items)
        except (EngineUnavailable, EngineError):
            if method is not None:
                raise
            return None

    def combined(self, by_engine: Choice | None, known: Known, method: Method | None) -> Choice:
        if by_engine is None:
            return Choice(tuple(known.probabilities), "profile")
        if method == "engine":
            return by_engine
        fused = fuse(by_engine.probabilities, known.probabilities, self.settings.fuse_engine)
        return Choice(tuple(fused), "fused", by_engine.version, by_engine.position_bias)

    async def by_profile(self, tenant: str, user: str, profile: Profile, query: str, items: Sequence[Item]) -> Known:
        """Probabilities by the fast profile, and by meaning for its best `embed_items`."""
        values = scores(profile, query, items)
        meaning = [0.0] * len(values)
        if self.meaning.enabled:
            best = sorted(range(len(values)), key=lambda index: -values[index])[: self.settings.embed_items]
            found = await self.meaning.scores(tenant, user, [items[index] for index in best])
            for index, value in zip(best, found, strict=True):
                values[index] += value
                meaning[index] = value
        return Known(softmax(values), meaning)

    async def _ask(self, tenant: str, user: str, query: str, items: Sequence[Item]) -> Choice:
        summary = await self.store.preferences(tenant, user)
        texts = [item_text(item) for item in items]
        judgement = await judge(self.engine, query, texts, summary.text, tenant=tenant, orders=self.settings.rotations)
        bias = round(judgement.position_bias, 6)
        return Choice(judgement.probabilities, "engine", summary.version, bias)


def item_id(item: Item) -> str | None:
    return None if isinstance(item, str) else item.id
