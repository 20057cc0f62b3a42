"""All settings of one run over the users of a file: the part of a result that is about users."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.cases.cases import Case, Question, User, clusters, holds_questions, read_cases, read_questions
from evaluation.cases.perturbations import others
from evaluation.conditions import (
    COMPARED,
    OF_CHOICES,
    OF_LETTERS,
    OF_MEANING,
    OF_SEVERAL,
    PROFILES,
    SEMANTIC,
    SETTINGS,
    WRITTEN,
    Inference,
    Summary,
)
from evaluation.config import Evaluation
from evaluation.model_sources import file_sha256, named
from evaluation.models import Model, open_model
from evaluation.results import AnswerScores, Estimate, Scores, Source
from evaluation.saved_summaries import KEPT, KeptSummaries, keep
from evaluation.scoring.answers import measure_answers
from evaluation.scoring.intervals import difference
from evaluation.scoring.measure import baselines, belonging, margins, measure, measure_profile, unread
from evaluation.scoring.profile_scores import possible as variants
from evaluation.scoring.progress_bar import Bar
from training.exceptions import ConfigError
from training.synthesis.answer_store import AnswerStore


@dataclass
class _Noted:
    """What the settings of a run leave behind beside their figures."""

    shortened: set[int] = field(default_factory=set)
    templates: set[str] = field(default_factory=set)
    summaries: dict[str, list[Summary]] = field(default_factory=dict)

    def add(self, setting: str, inference: Inference) -> None:
        self.shortened |= inference.shortened
        self.templates |= inference.templates
        if setting in KEPT:
            self.summaries[setting] = inference.summaries


@asynccontextmanager
async def opened(plan: Evaluation, store: AnswerStore) -> AsyncIterator[tuple[Model | None, Model | None]]:
    """Who writes and who judges. With summaries of another run nobody writes: the judge stands for both."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(open_model(plan.model, store, plan.placement)) if plan.model else None
        judge = await stack.enter_async_context(open_model(plan.judge, store, plan.placement)) if plan.judge else model
        yield (judge if plan.summaries else model), judge


def chosen_settings(plan: Evaluation, users: Sequence[User], kept: KeptSummaries | None) -> list[str]:
    """Raises ConfigError when a setting is asked for that the rows do not allow."""
    told = all(user.truth for user in users)
    if plan.settings and "truth" in plan.settings and not told:
        raise ConfigError("--settings truth: not every row of --data has a summary")
    possible = set(SETTINGS if plan.judged else PROFILES)
    possible -= set(PROFILES) - set(_profiles(plan, users))
    if not told:
        possible.discard("truth")
    if plan.protocol.choice == "sampled":
        possible -= set(OF_LETTERS)
    if kept:
        possible -= WRITTEN.keys() - set(kept.settings)
    if isinstance(users[0], Question):
        possible -= set(OF_CHOICES)
    if plan.judged and others(users) is None:
        drifted = ("drifted",) if plan.protocol.drift == "other" else ()
        possible -= {"other"} if kept else {*OF_SEVERAL, *drifted}
    wanted = plan.settings or tuple(possible - (set() if plan.variants else set(PROFILES[1:])))
    if impossible := set(wanted) - possible:
        raise ConfigError(
            f"--settings {', '.join(sorted(impossible))}: not possible with this data and these options; possible: "
            f"{', '.join(name for name in SETTINGS if name in possible) or 'none without a --model'}"
        )
    return [name for name in SETTINGS if name in wanted]


def _profiles(plan: Evaluation, users: Sequence[User]) -> list[str]:
    """Of the fast profile's settings what rows and options allow."""
    cases = [user for user in users if isinstance(user, Case)]
    found = variants(cases)
    if plan.embeddings:
        found += OF_MEANING if "profile-popularity" in found else [SEMANTIC]
    return found


async def measured(plan: Evaluation, store: AnswerStore, bar: Bar) -> dict[str, Any]:
    """Fields of `EvaluationResult`."""
    assert plan.data is not None
    cases: list[Case] = []
    questions: list[Question] = []
    if await asyncio.to_thread(holds_questions, plan.data):
        questions, report = await asyncio.to_thread(read_questions, plan.data, limit=plan.limit)
    else:
        cases, report = await asyncio.to_thread(read_cases, plan.data, limit=plan.limit)
    users: Sequence[User] = questions or cases
    kept = KeptSummaries.read(plan.summaries) if plan.summaries else None
    names, noted = chosen_settings(plan, users, kept), _Noted()
    async with opened(plan, store) as (model, judge):
        if questions:
            found = await _answers(plan, names, questions, (model, judge), bar, kept, noted)
        else:
            found = await _choices(plan, names, cases, (model, judge), bar, kept, noted)
    drawn = clusters(users)
    writer = kept.model if kept else model.source if model else None
    kept_summaries = None
    if plan.keep_summaries and writer:
        kept_summaries = keep(plan.keep_summaries, writer, users, noted.summaries)
    return {
        "model": writer,
        "judge": judge.source if judge else None,
        "summaries": kept.source if kept else None,
        "kept_summaries": kept_summaries,
        "data": Source(name=named(plan.data), sha256=_sha256(plan.data)),
        "left_out": report.left_out,
        "shortened": len(noted.shortened),
        "templates": tuple(sorted(noted.templates)),
        "drawn": drawn[0] if drawn else "rows",
        "clusters": len(set(drawn[1])) if drawn else None,
        "users": tuple(user.digest for user in users),
        **found,
    }


def _sha256(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None


Models = tuple[Model | None, Model | None]


async def _choices(
    plan: Evaluation,
    names: Sequence[str],
    cases: Sequence[Case],
    models: Models,
    bar: Bar,
    kept: KeptSummaries | None,
    noted: _Noted,
) -> dict[str, Any]:
    model, judge = models
    found: dict[str, Scores] = {}
    for name in names:
        if name in PROFILES:
            found[name] = await measure_profile(name, cases, plan.protocol, plan.embeddings)
        elif model and judge:
            found[name], inference = await measure(name, cases, model, judge, plan.protocol, bar, kept, plan.embeddings)
            noted.add(name, inference)
    seed, told = plan.protocol.seed, unread(cases)
    return {
        "settings": {
            name: scores.model_copy(update={"margins": margins(told, scores.right, cases, seed)})
            for name, scores in found.items()
        },
        "differences": _differences({name: scores.right for name, scores in found.items()}, cases, seed),
        "baselines": baselines(told, cases, seed),
    }


async def _answers(
    plan: Evaluation,
    names: Sequence[str],
    questions: Sequence[Question],
    models: Models,
    bar: Bar,
    kept: KeptSummaries | None,
    noted: _Noted,
) -> dict[str, Any]:
    model, judge = models
    if not (model and judge):
        raise ConfigError(f"{plan.data} holds questions to answer: give a --model that does")
    found: dict[str, AnswerScores] = {}
    for name in names:
        found[name], inference = await measure_answers(name, questions, model, judge, plan.protocol, bar, kept)
        noted.add(name, inference)
    values = {name: scores.values for name, scores in found.items()}
    return {"answers": found, "differences": _differences(values, questions, plan.protocol.seed)}


def _differences(values: Mapping[str, Sequence[float]], users: Sequence[User], seed: int) -> dict[str, Estimate]:
    """Of the settings worth comparing that were measured; `values` has one value a user for each."""
    belongs = belonging(users)
    return {
        f"{one} - {other}": difference(values[one], values[other], seed=seed, clusters=belongs)
        for one, other in COMPARED
        if one in values and other in values
    }
