"""Which of a few items would the user choose?

Three methods: the fast profile (free), the engine's judgement given the text summary, and
both fused by the weights that the tenant's choices have earned them (services/engine/choice/fusion.py).

Where the caller names no method, an engine that has earned no weight is not asked. Else the wait for it is short, and
the profile answers after it. After several late answers in a row a breaker of its own holds selections back from the
engine; chats, for which the engine may be fast enough, do not see it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter

from alignx.schemas.interactions import Pair
from alignx.schemas.items import Item
from alignx.schemas.requests import Basis, Fallback, Method, ScoredItem, Scorer, SelectRequest, SelectResponse
from services.engine.breaker import Breaker
from services.engine.choice.fusion import PROFILE_ALONE, Weights, fuse, kind_of, learned_weights
from services.engine.conventions.sessions import session_of
from services.engine.judge import CONTRAST_PAIRS, RecentChoices, fit_choice, judge
from services.engine.limits import Engine
from services.errors import (
    BudgetSpent,
    EngineError,
    EngineRejected,
    EngineUnavailable,
    EngineUnsupported,
    UserUnknown,
)
from services.outcomes.served import Outcomes
from services.profile.scoring import scores, softmax
from services.profile.statistics import EMPTY, Profile
from services.prompts.profiles import load_profile
from services.settings import Settings
from services.slices import call_in_thread
from services.storage.users import NO_STAMP, Store
from services.traffic.catalogue import Catalogue
from services.traffic.signals import Mixed, Signals

BY_TEXT = Weights(text=1.0)
FEW_ITEMS = 32
"""Items that the profile scores within a few milliseconds."""
_CONTRAST_SHARE = 0.8
"""Of the wait for the engine, after which the contrast is late."""


class Question(NamedTuple):
    """Which of the items, for this user?"""

    tenant: str
    user: str
    query: str
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class ProfileScores:
    """The fast profile's probabilities of items, with what other users took mixed in."""

    probabilities: tuple[float, ...]
    mixed: Mixed
    is_cold: bool = False
    """Whether nothing is known of the user."""

    def subset(self, indices: Sequence[int]) -> "ProfileScores":
        """Those of some of the items, which then add up to 1."""
        mass = sum(self.probabilities[index] for index in indices)
        return replace(self, probabilities=tuple(self.probabilities[index] / mass for index in indices))


@dataclass(frozen=True, slots=True)
class Selection:
    """Probabilities of items, and how they came about."""

    probabilities: tuple[float, ...]
    method: Method
    version: int = 0
    position_bias: float | None = None
    fallback: Fallback | None = None
    contrast: tuple[float, ...] | None = None
    weights: Weights = PROFILE_ALONE
    by_profile: ProfileScores | None = None
    """None where the engine alone decided."""

    @property
    def basis(self) -> tuple[Basis, ...]:
        """What took part."""
        if self.by_profile and self.by_profile.is_cold:
            return ("popular",)
        scorers = [scorer for scorer in get_args(Scorer) if getattr(self.weights, scorer)]
        has_traffic = self.by_profile is not None and self.by_profile.mixed.is_known and self.weights.profile
        return (*scorers, "traffic") if has_traffic else tuple(scorers)

    def describe(self) -> dict[str, Any]:
        """What an answer says of how it came about: `mixture` is what each feature counted in the profile's scores."""
        features = self.by_profile.mixed.weights._asdict() if self.by_profile else {}
        return {
            "method": self.method,
            "version": self.version,
            "fallback": self.fallback,
            "basis": self.basis,
            "weights": {scorer: round(getattr(self.weights, scorer), 4) for scorer in get_args(Scorer)},
            "mixture": {name: round(weight, 4) for name, weight in features.items()},
        }


class SelectionMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.fallbacks = Counter(
            "alignx_select_fallbacks",
            "Selections and recommendations that the profile answered in the engine's place",
            ("reason",),
            registry=registry,
        )
        for reason in get_args(Fallback):
            self.fallbacks.labels(reason)
        self.basis = Counter(
            "alignx_select_basis",
            "Selections and recommendations by method fused or profile, by the scorers that took part",
            ("scorers",),
            registry=registry,
        )


class Selector:
    """Scores items for a user; of one who is unknown, by what is popular. Raises EngineUnavailable, EngineError, and
    UserUnknown only if the caller insisted on the engine, else the profile answers alone."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        signals: Signals,
        outcomes: Outcomes,
        settings: Settings,
        metrics: SelectionMetrics,
    ) -> None:
        self.store = store
        self.engine = engine
        self.signals = signals
        self.outcomes = outcomes
        self.catalogue = Catalogue(store.redis)
        self.settings = settings.response
        self.breaker = Breaker(settings.engine.breaker_failures, settings.engine.breaker_cooldown_s)
        """Opens when the engine is late for selections; calls that insist on the engine pass."""
        self._metrics = metrics
        self.prompts = load_profile(settings.response.selection_prompts)

    async def select(self, tenant: str, user: str, request: SelectRequest) -> SelectResponse:
        method = request.method
        items = await self.catalogue.resolve(tenant, request.items, "items")
        serving = await self.outcomes.open(tenant, user, "selection")
        if serving.arm == "control":
            user, method = serving.known_user, "profile"
        profile = await self.profile(tenant, user, method)
        question = Question(tenant, user, request.query, items)
        if method == "engine":
            selection = await self._ask_patiently(question)
        else:  # at once: the engine does not wait for the profile
            by_profile, by_engine = await asyncio.gather(
                self.by_profile(question, profile), self.by_engine(question, method if profile else "profile")
            )
            selection = self.combine(by_engine, by_profile, method)
        likes = await self.signals.estimate_likes(tenant, user, items)
        rows = zip(items, selection.probabilities, likes, strict=True)
        scored = tuple(
            ScoredItem(
                index=index,
                id=item_id(item),
                probability=round(probability, 6),
                like=None if like is None else round(like, 6),
            )
            for index, (item, probability, like) in enumerate(rows)
        )
        best = max(scored, key=lambda item: item.probability)
        served = await self.outcomes.record(serving, dict(enumerate(items)), choice=best.index)
        return SelectResponse(
            **served,
            choice=best.index,
            items=scored,
            position_bias=selection.position_bias,
            **selection.describe(),
        )

    async def profile(self, tenant: str, user: str, method: Method | None) -> Profile | None:
        """None for a user of whom nothing is known. Raises UserUnknown where the engine, by `method`, is to read of
        them."""
        stamp, profile = await self.store.profile(tenant, user)
        if stamp != NO_STAMP:
            return profile
        if method == "engine":
            raise UserUnknown
        return None

    async def by_engine(self, question: Question, method: Method | None) -> Selection | Fallback | None:
        """What the engine says of 2 to 26 items, or why it says nothing; None where `method` does without it."""
        if method == "profile" or (method is None and not self.engine.enabled):
            return None
        if method == "engine":
            return await self._ask_patiently(question)
        sums, kind = await self.store.weight_sums(question.tenant), kind_of(question.items)
        weights, pairs = learned_weights(sums, kind), list[Pair]()
        if weights.contrast and self.engine.protocol == "likelihood":
            pairs = await self.store.choices_before(question.tenant, question.user, "+", CONTRAST_PAIRS)
        by_text = learned_weights(sums, kind, ("text",))
        weights = weights if pairs else by_text
        if method is None and not weights.text and not weights.contrast:
            return None
        ask = self._ask_patiently if method else self._ask_in_time
        try:
            selection = await ask(question, weights, pairs)
        except (EngineUnavailable, EngineError, TimeoutError) as error:
            if method and not isinstance(error, BudgetSpent):
                raise
            reason = _fallback_reason(error)
            self._metrics.fallbacks.labels(reason).inc()
            return reason
        if pairs and selection.contrast is None:
            selection = replace(selection, weights=by_text)
        return selection

    def combine(
        self, by_engine: Selection | Fallback | None, by_profile: ProfileScores, method: Method | None
    ) -> Selection:
        if method == "engine" and isinstance(by_engine, Selection):
            return by_engine
        if isinstance(by_engine, Selection):
            fused = fuse(by_engine.weights, by_profile.probabilities, by_engine.probabilities, by_engine.contrast)
            selection = replace(by_engine, probabilities=tuple(fused), method="fused", by_profile=by_profile)
        else:
            selection = Selection(by_profile.probabilities, "profile", fallback=by_engine, by_profile=by_profile)
        self._metrics.basis.labels("+".join(selection.basis)).inc()
        return selection

    async def by_profile(self, question: Question, profile: Profile | None) -> ProfileScores:
        """Probabilities by the fast profile, and by what other users took; of many items in a thread, while the loop
        answers others."""
        tenant, user, query, items = question
        is_many = len(items) > FEW_ITEMS
        score = partial(scores, profile or EMPTY, query, items)
        values = await call_in_thread(tenant, score) if is_many else score()
        mixed = await self.signals.mix(tenant, user, items, values, is_cold=profile is None)
        return ProfileScores(tuple(softmax(mixed.values)), mixed, profile is None)

    async def _ask_patiently(
        self, question: Question, weights: Weights = BY_TEXT, pairs: Sequence[Pair] = ()
    ) -> Selection:
        """For a caller that insists on the engine."""
        wait_s = self.settings.select_engine_timeout_s
        try:
            async with asyncio.timeout(wait_s):
                return await self._ask(question, weights, _within(pairs, wait_s))
        except TimeoutError as error:
            raise EngineUnavailable(f"The engine took longer than {wait_s:g} s") from error

    async def _ask_in_time(self, question: Question, weights: Weights, pairs: Sequence[Pair]) -> Selection:
        """Raises TimeoutError when the engine is late, and at once after that has happened several times."""
        self.breaker.admit()
        report, wait_s = self.breaker.release, self.settings.select_timeout_s
        try:  # the engine's own breaker counts its failures
            async with asyncio.timeout(wait_s):
                selection = await self._ask(question, weights, _within(pairs, wait_s))
            report = self.breaker.record_success
        except TimeoutError:
            report = self.breaker.record_failure
            raise
        finally:
            report()
        return selection

    async def _ask(self, question: Question, weights: Weights, recent: RecentChoices) -> Selection:
        tenant, user, query, items = question
        summary = await self.store.preferences(tenant, user)
        text = summary.text if weights.text or not recent.pairs else ""
        fitted = fit_choice(query, items, text, self.engine.context_tokens)
        with session_of(tenant, user):
            judgement = await judge(
                self.engine,
                *fitted,
                tenant=tenant,
                recent=recent,
                orders=self.settings.rotations,
                prompts=self.prompts,
            )
        bias = round(judgement.position_bias, 6)
        return Selection(
            judgement.probabilities,
            "engine",
            summary.version,
            bias,
            contrast=judgement.contrast,
            weights=weights,
        )


def _within(pairs: Sequence[Pair], wait_s: float) -> RecentChoices:
    return RecentChoices(pairs, asyncio.get_running_loop().time() + _CONTRAST_SHARE * wait_s)


def _fallback_reason(error: Exception) -> Fallback:
    match error:
        case TimeoutError():
            return "engine_timeout"
        case BudgetSpent():
            return "budget_spent"
        case EngineUnsupported():
            return "engine_unsupported"
        case EngineUnavailable():
            return "engine_unavailable"
        case EngineRejected():
            return "engine_rejected"
        case _:
            return "engine_error"


def item_id(item: Item) -> str | None:
    return None if isinstance(item, str) else item.id
