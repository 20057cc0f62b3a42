"""One setting measured: summaries, what the judge makes of them, and the figures over all users."""

import time
from collections.abc import Mapping, Sequence
from statistics import fmean

from alignx.schemas.items import item_text
from evaluation.cases.cases import Case, User, clusters
from evaluation.cases.selections import KINDS
from evaluation.conditions import (
    ALL_GIVEN,
    DIRECT,
    FUSED,
    OF_MEANING,
    UNSUMMARIZED,
    UNWRITTEN,
    WRITTEN,
    Inference,
    Protocol,
    answers_of,
)
from evaluation.model_sources import is_url
from evaluation.models import Model, Tick
from evaluation.results import Estimate, Replies, Scores, Writing
from evaluation.saved_summaries import KeptSummaries
from evaluation.scoring.choice_scores import Choice, Known, forced, foreseen, fused, offered, sampled
from evaluation.scoring.intervals import estimate
from evaluation.scoring.metrics import auc_estimate, calibration, right
from evaluation.scoring.minilm import in_process
from evaluation.scoring.profile_scores import MEASURED, by_meaning, texts_of
from evaluation.scoring.progress_bar import Bar
from training.synthesis.engines import embedded


async def measure(
    setting: str,
    cases: Sequence[Case],
    model: Model,
    judge: Model,
    protocol: Protocol,
    bar: Bar,
    kept: KeptSummaries | None = None,
    embeddings: str | None = None,
) -> tuple[Scores, Inference]:
    """Summaries of a setting, by `model` or `kept` of another run, and what the judge makes of them.
    With `embeddings` the profile in setting fused scores by meaning too, as in serving."""
    tick = bar.line(setting, answers_of(setting, len(cases), protocol.updates))
    started, before = time.monotonic(), calls_of(model, judge)
    inference = Inference(model, protocol, tick)
    known = await known_of(setting, cases, inference, kept)
    choices = await chosen(cases, known, judge, protocol, tick)
    if setting == FUSED:
        own = await _by_profile(cases, embeddings)
        choices = [fused(*both, protocol.fuse_engine) for both in zip(choices, own, strict=True)]
    found = scored(choices, cases, protocol.seed).model_copy(
        update={
            "writing": writing_of(setting, inference, known),
            "calls": calls_of(model, judge) - before,
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    return found, inference


async def known_of(
    setting: str, users: Sequence[User], inference: Inference, kept: KeptSummaries | None
) -> list[Known]:
    """What is read of each user. Raises ConfigError for summaries that were not kept."""
    if setting == DIRECT:
        return [Known(history=inference.fitted(place, user.history)) for place, user in enumerate(users)]
    if setting in UNWRITTEN:
        summaries = await UNWRITTEN[setting](users)
    elif kept:
        summaries = kept.of(setting, users)
    else:
        summaries = await WRITTEN[setting](inference, users)
        inference.summaries = summaries
    return list(map(Known, summaries))


async def chosen(
    cases: Sequence[Case], known: Sequence[Known], judge: Model, protocol: Protocol, tick: Tick
) -> list[Choice]:
    if protocol.choice == "sampled":
        return await sampled(judge, cases, known, seed=protocol.seed, tick=tick)
    return await forced(judge, cases, known, batch=protocol.batch, tick=tick)


async def _by_profile(cases: Sequence[Case], embeddings: str | None, *, counted: bool = False) -> list[Choice]:
    """The fast profile's choices as serving has them: by meaning too where there are embeddings."""
    if not embeddings:
        return list(map(foreseen, cases))
    return by_meaning(cases, await vectors(embeddings, texts_of(cases)), counted=counted)


def writing_of(setting: str, inference: Inference, known: Sequence[Known]) -> Writing | None:
    if setting in UNSUMMARIZED:
        return None
    texts = [told.summary for told in known if told.summary]
    replies = inference.replies
    return Writing(
        replies=replies,
        well_formed=inference.well_formed / replies if replies else None,
        usable=inference.usable / replies if replies else None,
        summary_tokens=fmean(map(inference.model.tokens, texts)) if texts else 0.0,
    )


def calls_of(model: Model, judge: Model) -> int:
    return model.needed if judge is model else model.needed + judge.needed


async def measure_profile(
    setting: str, cases: Sequence[Case], protocol: Protocol, embeddings: str | None = None
) -> Scores:
    """The fast profile, without any language model. Raises TrainingError where embeddings are not to be had."""
    started = time.monotonic()
    if setting in OF_MEANING and embeddings:
        choices = await _by_profile(cases, embeddings, counted=setting == ALL_GIVEN)
    else:
        choices = MEASURED[setting](cases, protocol)
    found = scored(choices, cases, protocol.seed)
    return found.model_copy(update={"seconds": round(time.monotonic() - started, 3)})


async def vectors(where: str, texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
    """Of a server behind a URL, or of a model in this process."""
    return await embedded(where, texts) if is_url(where) else in_process(where, texts)


def scored(choices: Sequence[Choice], cases: Sequence[Case], seed: int) -> Scores:
    rows = [choice.probabilities for choice in choices]
    hits = list(map(right, rows)) if choices[0].kind is None else [row[0] for row in rows]
    values = [row[0] for row in rows]
    belongs = belonging(cases)
    aside = [place for place, case in enumerate(cases) if case.aside]
    biases = [choice.position_bias for choice in choices if choice.position_bias is not None]
    of_letters = choices[0].kind is None
    return Scores(
        accuracy=estimate(hits, seed=seed, clusters=belongs),
        probability=estimate(values, seed=seed, clusters=belongs),
        auc=auc_estimate(rows, seed=seed, clusters=belongs) if of_letters else None,
        calibration=calibration(rows) if of_letters else None,
        replies=None if of_letters else _replies(choices),
        position_bias=fmean(biases) if biases else None,
        aside=_over(aside, hits, belongs, seed) if aside else None,
        by_kind=by_kind(hits, cases, seed),
        values=tuple(values),
        right=tuple(hits),
    )


def by_kind(values: Sequence[float], users: Sequence[User], seed: int) -> dict[str, Estimate]:
    kinds = sorted({user.kind for user in users if user.kind})
    found = {kind: [place for place, user in enumerate(users) if user.kind == kind] for kind in kinds}
    belongs = belonging(users)
    return {kind: _over(of_kind, values, belongs, seed) for kind, of_kind in found.items()}


def belonging(users: Sequence[User]) -> list[str] | None:
    """What the bootstrap draws each row with; none where rows stand by themselves."""
    found = clusters(users)
    return found[1] if found else None


def _over(places: Sequence[int], values: Sequence[float], belongs: list[str] | None, seed: int) -> Estimate:
    """The mean over some of the rows."""
    chosen = [belongs[place] for place in places] if belongs else None
    return estimate([values[place] for place in places], seed=seed, clusters=chosen)


def _replies(choices: Sequence[Choice]) -> Replies:
    kinds = {kind: sum(choice.kind == kind for choice in choices) for kind in KINDS}
    selected = kinds["selected"]
    first = sum(choice.took_first for choice in choices) / selected if selected else None
    return Replies(kinds=dict(kinds), unparsed=len(choices) - selected, took_first=first)


# --- without reading ---------------------------------------------------------------------------


Told = Mapping[str, Sequence[float | None]]
"""Of each baseline what it scores on each row; none on a row that does not tell it."""


def unread(cases: Sequence[Case]) -> Told:
    """What a score stands beside: chance, length, popularity where the rows tell it, the fast profile."""
    return {
        "random": [1 / len(offered(case)) for case in cases],
        "longer wins": longer_wins(cases),
        "popularity": [right(case.popularity) if case.popularity else None for case in cases],
        "profile": [right(foreseen(case).probabilities) for case in cases],
    }


def baselines(told: Told, cases: Sequence[Case], seed: int) -> dict[str, Estimate]:
    return margins(told, None, cases, seed)


def margins(told: Told, hits: Sequence[float] | None, cases: Sequence[Case], seed: int) -> dict[str, Estimate]:
    """The baselines themselves, or what `hits` is above each, row by row."""
    belongs, found = belonging(cases), {}
    for name, scored_by in told.items():
        places = [place for place, value in enumerate(scored_by) if value is not None]
        values = [value or 0.0 for value in scored_by]
        if hits is not None:
            values = [hit - value for hit, value in zip(hits, values, strict=True)]
        if places:
            found[name] = _over(places, values, belongs, seed)
    return found


def longer_wins(cases: Sequence[Case]) -> list[float]:
    """What choosing the longest text would score: the baseline that a judge of length is."""
    return [right([len(item_text(option)) for option in offered(case)]) for case in cases]
