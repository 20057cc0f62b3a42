"""Measures one setting: summaries, the judge's choices by them, and the figures over all users."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from evaluation.cases.cases import Case, User, cluster_ids
from evaluation.conditions import (
    FIXED_SUMMARIES,
    FUSED_SETTINGS,
    LIKELIHOOD_SETTINGS,
    SUMMARY_FREE_SETTINGS,
    WRITERS,
    Inference,
    Protocol,
    count_answers,
)
from evaluation.models import Model, Tick
from evaluation.results import Estimate, Replies, Scores, Writing
from evaluation.saved_summaries import SavedSummaries
from evaluation.scoring.calibration import auc_estimate, calibration_error, hit
from evaluation.scoring.choice_scores import (
    Choice,
    Context,
    choose_by_judge,
    choose_by_profile,
    choose_by_sampling,
    fuse_choices,
    take_contrast,
)
from evaluation.scoring.intervals import estimate_over
from evaluation.scoring.profile_scores import VARIANTS
from evaluation.scoring.progress_bar import ProgressBar
from services.prompts.profiles import load_profile

RECENT_SETTINGS: Final = (*LIKELIHOOD_SETTINGS, *FUSED_SETTINGS)
"""Settings that show the judge earlier choices, for the contrast."""


@dataclass(frozen=True)
class Judging:
    """What all settings of a run share."""

    model: Model
    """Writes the summaries."""
    judge: Model
    """Chooses by them."""
    protocol: Protocol
    progress: ProgressBar
    saved: SavedSummaries | None = None
    """Summaries of another run, which replace those of `model`."""

    @property
    def answers(self) -> int:
        """Answers of both models so far, stored ones included."""
        return self.model.needed if self.judge is self.model else self.model.needed + self.judge.needed


async def measure(setting: str, cases: Sequence[Case], judging: Judging) -> tuple[Scores, Inference]:
    """Raises TrainingError."""
    protocol = judging.protocol
    tick = judging.progress.add(setting, count_answers(setting, len(cases), protocol.updates))
    started, answers = time.monotonic(), judging.answers
    inference = Inference(judging.model, protocol, tick)
    contexts = await prepare_contexts(setting, cases, inference, judging.saved)
    choices = await _choose(cases, contexts, judging, tick)
    if setting == "contrast":
        choices = list(map(take_contrast, choices))
    if setting in FUSED_SETTINGS:
        choices = fuse_choices(cases, choices, list(map(choose_by_profile, cases)))
    scores = score_choices(choices, cases, protocol.seed).model_copy(
        update={
            "writing": writing_stats(setting, inference, contexts),
            "calls": judging.answers - answers,
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    return scores, inference


async def prepare_contexts(
    setting: str, users: Sequence[User], inference: Inference, saved: SavedSummaries | None
) -> list[Context]:
    """What the judge reads about each user. Raises ConfigError for summaries that are not saved."""
    if setting == "direct":
        return [Context(history=inference.fit_history(index, user.history)) for index, user in enumerate(users)]
    if setting in FIXED_SUMMARIES:
        summaries = list(map(FIXED_SUMMARIES[setting], users))
    elif saved:
        summaries = saved.for_users(setting, users)
    else:
        summaries = inference.summaries = await WRITERS[setting](inference, users)
    if setting in RECENT_SETTINGS:
        choices = [[pair for event in user.history for pair in event.pairs()[:1]] for user in users]
        return [Context(summary, recent=pairs) for summary, pairs in zip(summaries, choices, strict=True)]
    return list(map(Context, summaries))


async def _choose(cases: Sequence[Case], contexts: Sequence[Context], judging: Judging, tick: Tick) -> list[Choice]:
    protocol = judging.protocol
    prompts = load_profile(protocol.selection_prompts)
    if protocol.choice == "sampled":
        return await choose_by_sampling(judging.judge, cases, contexts, seed=protocol.seed, tick=tick, prompts=prompts)
    return await choose_by_judge(judging.judge, cases, contexts, batch=protocol.batch, tick=tick, prompts=prompts)


def writing_stats(setting: str, inference: Inference, contexts: Sequence[Context]) -> Writing | None:
    if setting in SUMMARY_FREE_SETTINGS:
        return None
    texts = [context.summary for context in contexts if context.summary]
    replies = inference.replies
    return Writing(
        replies=replies,
        well_formed=inference.well_formed / replies if replies else None,
        usable=inference.usable / replies if replies else None,
        summary_tokens=fmean(map(inference.model.tokens, texts)) if texts else 0.0,
    )


def measure_profile(setting: str, cases: Sequence[Case], protocol: Protocol) -> Scores:
    """The fast profile, without any language model."""
    started = time.monotonic()
    scores = score_choices(VARIANTS[setting](cases, protocol), cases, protocol.seed)
    return scores.model_copy(update={"seconds": round(time.monotonic() - started, 3)})


def score_choices(choices: Sequence[Choice], cases: Sequence[Case], seed: int) -> Scores:
    rows = [choice.probabilities for choice in choices]
    values = [row[0] for row in rows]
    is_sampled = choices[0].place is not None
    hits = values if is_sampled else list(map(hit, rows))
    clusters = cluster_ids(cases)
    biases = [choice.position_bias for choice in choices if choice.position_bias is not None]
    return Scores(
        accuracy=estimate_over(hits, cases, seed=seed),
        probability=estimate_over(values, cases, seed=seed),
        auc=None if is_sampled else auc_estimate(rows, seed=seed, clusters=clusters),
        calibration_error=None if is_sampled else calibration_error(rows),
        replies=_count_replies(choices) if is_sampled else None,
        position_bias=fmean(biases) if biases else None,
        by_kind=estimate_by_kind(hits, cases, seed),
        values=tuple(values),
        right=tuple(hits),
    )


def estimate_by_kind(values: Sequence[float], users: Sequence[User], seed: int) -> dict[str, Estimate]:
    pairs = list(zip(values, users, strict=True))
    return {
        kind: estimate_over([value if user.kind == kind else None for value, user in pairs], users, seed=seed)
        for kind in sorted({user.kind for user in users if user.kind})
    }


def _count_replies(choices: Sequence[Choice]) -> Replies:
    places = [choice.place for choice in choices if choice.place is not None and choice.place >= 0]
    first = places.count(0) / len(places) if places else None
    return Replies(unparsed=len(choices) - len(places), took_first=first)
