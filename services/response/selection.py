"""Which of a few items would the user choose?

Three methods: the fast profile (free), the engine's letter probabilities given the text summary, and
both fused: their log-odds averaged, each as one expert's opinion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.core import profile as fast_profile
from services.core.engine import Engine
from services.core.errors import EngineError, EngineUnavailable, UserUnknown
from services.core.judge import fuse, judge
from services.core.profile import Profile
from services.core.schemas import (
    Item,
    Method,
    ScoredItem,
    SelectRequest,
    SelectResponse,
    item_text,
)
from services.core.settings import ResponseSettings
from services.core.store import NO_STAMP, Store


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

    def __init__(self, store: Store, engine: Engine, settings: ResponseSettings) -> None:
        self.store = store
        self.engine = engine
        self.settings = settings

    async def select(self, tenant: str, user: str, request: SelectRequest) -> SelectResponse:
        profile = await self.profile(tenant, user)
        choice = await self.choose(tenant, user, profile, request.query, request.items, request.method)
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

    async def choose(
        self, tenant: str, user: str, profile: Profile, query: str, items: Sequence[Item], method: Method | None
    ) -> Choice:
        """Probabilities of 2 to 26 items by `method`, or by the best there is when it is None."""
        by_profile = fast_profile.probabilities(profile, query, items)
        if method == "profile" or (method is None and not self.engine.enabled):
            return Choice(tuple(by_profile), "profile")
        try:
            by_engine = await self._ask(tenant, user, query, items)
        except (EngineUnavailable, EngineError):
            if method is not None:
                raise
            return Choice(tuple(by_profile), "profile")
        if method == "engine":
            return by_engine
        fused = fuse(by_engine.probabilities, by_profile, self.settings.fuse_engine)
        return Choice(tuple(fused), "fused", by_engine.version, by_engine.position_bias)

    async def _ask(self, tenant: str, user: str, query: str, items: Sequence[Item]) -> Choice:
        summary = await self.store.preferences(tenant, user)
        texts = [item_text(item) for item in items]
        judgement = await judge(self.engine, query, texts, summary.text, tenant=tenant, orders=self.settings.rotations)
        bias = round(judgement.position_bias, 6)
        return Choice(judgement.probabilities, "engine", summary.version, bias)


def item_id(item: Item) -> str | None:
    return None if isinstance(item, str) else item.id
