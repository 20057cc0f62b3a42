"""The tests of summaries around an update: on new choices by the engine, against the version before, of a new model."""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from statistics import fmean
from typing import NamedTuple

from redis.exceptions import RedisError

from alignx.schemas.interactions import Pair
from alignx.schemas.summaries import Prequential, RejectedDraft, StoredInteraction, SummaryVersion
from services.engine.choice.fusion import Comparison, additions, compare, kind_of, learned_weights
from services.engine.judge import CONTRAST_PAIRS, Judgement, RecentChoices, fit_choice, judge
from services.engine.limits import Engine
from services.errors import AlignXError
from services.preference.queue import Queue
from services.preference.queue_records import Claim, PrequentialSums
from services.preference.updates.inference import BACKGROUND
from services.preference.updates.regression import Review, latest_choices, predict_choices, review
from services.preference.updates.trials import Trials
from services.preference.updates.update_metrics import WorkerMetrics
from services.profile.scoring import interval, softmax
from services.prompts.profiles import load_profile
from services.settings import Settings
from services.storage.user_profile import USER_SOURCE
from services.storage.users import Store

_CONTRAST_S = 30.0
"""After so long a test does without the contrast: an update keeps its place in the worker until its tests end."""
_TRIAL_EVENTS = 100
"""Events among which a trial looks for choices."""

logger = logging.getLogger("alignx.update")


class HeldChoice(NamedTuple):
    """A choice that the summary has not read."""

    pair: Pair
    by_profile: float | None
    """What the profile before it gave to the chosen item; None where that was not kept."""


def sample_choices(events: Sequence[StoredInteraction], count: int) -> list[HeldChoice]:
    """At most `count` of the choices in a batch, at random."""
    choices = [
        HeldChoice(pair, probability)
        for event in events
        for pair, probability in zip_longest(event.interaction.pairs()[: len(event.predicted) or None], event.predicted)
    ]
    return choices if len(choices) <= count else random.sample(choices, count)


@dataclass(frozen=True, slots=True)
class SummaryTest:
    """How a summary predicted new choices, and what the profile and a contrast said of the same."""

    sums: PrequentialSums
    comparisons: Sequence[Comparison]


class SummaryTests:
    """The tests of one worker."""

    def __init__(self, store: Store, queue: Queue, engine: Engine, settings: Settings, metrics: WorkerMetrics) -> None:
        self.store = store
        self.queue = queue
        self.engine = engine
        self.settings = settings.summary
        self.metrics = metrics
        self.prompts = load_profile(settings.summary.prompts)
        assert store.tenants, "a worker goes by the settings of tenants"
        self.trials = Trials(store.redis, store.tenants, metrics.trials)

    async def review(
        self, claim: Claim, current: SummaryVersion | None, events: Sequence[StoredInteraction]
    ) -> Review | None:
        """The test of the current version, where there is an engine that could do better."""
        if not self.engine.enabled or current is None:
            return None
        return await review(self.store, claim.tenant, claim.user, current, events)

    async def leave_behind(self, claim: Claim, reviewed: Review) -> None:
        """Keeps a version that predicts worse than an earlier one as a rejected draft, now that the next is written."""
        if (version := reviewed.held_back) is None:
            return
        draft = RejectedDraft(
            check="regression",
            reason="It predicts new choices worse than an earlier version.",
            text=version.text,
            source=version.source,
            events=version.events,
            created_at=datetime.now(UTC),
        )
        await self.queue.keep_rejected(claim, draft)
        self.metrics.regressions.inc()
        logger.warning("a version predicts worse than an earlier one and is left behind")

    async def report_trial(self, claim: Claim, candidate: str, current: SummaryVersion | None, text: str) -> None:
        """Tells the trial how a user's new text predicts choices against the text that it replaces. The version is
        committed: a report that fails is no failed update."""
        try:
            if current is None:
                await self.trials.count_user(claim.tenant)
            elif candidate and current.source != USER_SOURCE and await self.trials.is_older(claim.tenant, current):
                events = await self.store.events_before(claim.tenant, claim.user, claim.cursor, _TRIAL_EVENTS)
                if choices := latest_choices(events):
                    old = fmean(await asyncio.to_thread(predict_choices, current.text, choices))
                    new = fmean(await asyncio.to_thread(predict_choices, text, choices))
                    await self.trials.record(claim.tenant, candidate, old, new)
        except (AlignXError, RedisError) as error:
            logger.warning("a report to the trial of a model was lost", extra={"error": type(error).__name__})

    async def predict(
        self, claim: Claim, past: SummaryVersion | None, events: Sequence[StoredInteraction], begun: asyncio.Event
    ) -> SummaryTest:
        """The engine predicts a few of the new choices from the summary before them. The test waits until the
        engine answers the update, so that an engine that refuses gets one request an update."""
        choices = sample_choices(events, self.settings.prequential_sample)
        if not self.engine.enabled or past is None or not choices:
            return SummaryTest(PrequentialSums(), ())
        await begun.wait()
        earlier = await self.store.choices_before(claim.tenant, claim.user, claim.cursor, CONTRAST_PAIRS)
        recent = RecentChoices(earlier, asyncio.get_running_loop().time() + _CONTRAST_S)
        judgements = [await self._judge(pair, claim.tenant, past.text, recent) for pair, _ in choices]
        return SummaryTest(
            PrequentialSums.from_choices([judgement.probabilities[:1] for judgement in judgements]),
            list(filter(None, map(_compare, choices, judgements))),
        )

    async def _judge(self, pair: Pair, tenant: str, summary: str, recent: RecentChoices) -> Judgement:
        """The engine's judgement of a choice that `summary` has not read, the chosen item first."""
        question = fit_choice(pair.query, [pair.chosen, pair.rejected], summary, self.engine.context_tokens)
        return await judge(
            self.engine, *question, tenant=tenant, recent=recent, priority=BACKGROUND, prompts=self.prompts
        )

    async def record(self, claim: Claim, test: "asyncio.Task[SummaryTest] | None", source: str) -> None:
        """Adds the test of the past summary to the sums. A test that fails is no failed update."""
        if test is None:
            return
        try:
            scored = await test
            if scored.sums.count:
                await self.queue.record_quality(claim, scored.sums)
                self.metrics.quality.add("engine", source, scored.sums)
            if scored.comparisons:
                await self._learn_weights(claim.tenant, source, scored.comparisons)
        except Exception as error:  # asyncio would log its text, which may quote a user
            logger.warning("a test of a summary was lost", extra={"error": type(error).__name__})

    async def _learn_weights(self, tenant: str, source: str, comparisons: Sequence[Comparison]) -> None:
        sums = await self.store.weight_sums(tenant)
        await self.queue.record_comparisons(tenant, [additions(sums, comparison) for comparison in comparisons])
        fused = [softmax([odds.weigh(learned_weights(sums, kind)), 0.0])[:1] for kind, odds in comparisons]
        self.metrics.quality.add("fused", source, PrequentialSums.from_choices(fused))


def _compare(choice: HeldChoice, judgement: Judgement) -> Comparison | None:
    """None where the profile's prediction was not kept."""
    if (chance := choice.by_profile) is None:
        return None
    odds = compare([chance, 1 - chance], judgement.probabilities, judgement.contrast, chosen=0, rejected=1)
    return Comparison(kind_of([choice.pair.chosen, choice.pair.rejected]), odds)


def to_prequential(scored: PrequentialSums) -> Prequential | None:
    if not scored.count:
        return None
    accuracy = scored.hits / scored.count
    low, high = interval(accuracy, scored.count)
    return Prequential(
        comparisons=scored.count,
        accuracy=accuracy,
        low=round(low, 4),
        high=round(high, 4),
        mean_probability=round(scored.mass / scored.count, 4),
    )
