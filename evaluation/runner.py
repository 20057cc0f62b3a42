"""Runs one evaluation: all settings over the users of a file, alignment on pairs, and the result with its origin."""

import asyncio
import platform
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alignx import __version__
from evaluation.cases.cases import (
    Case,
    Question,
    User,
    find_clusters,
    has_questions,
    read_cases,
    read_questions,
)
from evaluation.cases.pairs import read_pairs
from evaluation.cases.perturbations import have_different_histories
from evaluation.conditions import (
    CHOICE_SETTINGS,
    COMPARISONS,
    FUSED_SETTINGS,
    LIKELIHOOD_SETTINGS,
    MULTI_USER_SETTINGS,
    PROFILE_SETTINGS,
    SETTINGS,
    WRITERS,
    Inference,
)
from evaluation.config import Alignment, Evaluation
from evaluation.model_sources import checkpoint_source, file_source, is_url
from evaluation.models import Model, ServedCheckpoint, load_local, open_model
from evaluation.results import AlignmentScores, Estimate, EvaluationResult, Scores, Source
from evaluation.saved_summaries import SAVED_SETTINGS, SavedSummaries, save_summaries
from evaluation.scoring.alignment import compute_likelihoods, score_alignment
from evaluation.scoring.answers import measure_answers
from evaluation.scoring.baselines import estimate_baselines, estimate_margins, score_baselines
from evaluation.scoring.intervals import estimate_over
from evaluation.scoring.measure import Judging, measure, measure_profile
from evaluation.scoring.profile_scores import list_variants
from evaluation.scoring.progress_bar import ProgressBar
from evaluation.suites.drift import measure_drift
from evaluation.suites.restraint import measure_restraint
from evaluation.vllm_server import serve_checkpoint
from training.exceptions import ConfigError
from training.synthesis.answer_store import AnswerStore

PACKAGES = ("torch", "transformers", "trl", "numpy")


@contextmanager
def serve_model(config: Evaluation) -> Iterator[ServedCheckpoint | None]:
    """The model in vLLM where `placement.vllm` asks for that. Raises CheckpointError."""
    if not config.placement.vllm or not config.model or is_url(config.model):
        yield None
        return
    source = checkpoint_source(Path(config.model))
    with serve_checkpoint(Path(config.model), config.placement.vllm) as url:
        yield ServedCheckpoint(url, source)


async def evaluate(config: Evaluation, served: ServedCheckpoint | None = None) -> EvaluationResult:
    """Measures, and writes the result. Raises TrainingError, and AlignXError from an engine."""
    config.check_files()
    started = time.monotonic()
    fields: dict[str, Any] = {"model": None, "judge": None, "data": None}
    answers = config.answers or config.out.with_name(f"{config.out.name}.answers.sqlite")
    if not (config.has_judge or config.alignment):
        answers = Path(":memory:")
    if config.suites:
        fields["measures"] = measure_restraint() | measure_drift()
    with AnswerStore.open(answers) as store, ProgressBar() as progress:
        if config.data:
            fields |= await _measure_rows(config, config.data, store, progress, served)
        if config.alignment:
            fields["alignment"], fields["model"] = _measure_alignment(config, config.alignment, store, progress)
    result = EvaluationResult(
        stage=config.stage,
        created_at=datetime.now(UTC),
        seconds=round(time.monotonic() - started, 3),
        config=config.model_dump(mode="json"),
        versions=_package_versions(),
        **fields,
    )
    result.save(config.out)
    return result


def _package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "alignx": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _measure_alignment(
    config: Evaluation, alignment: Alignment, store: AnswerStore, progress: ProgressBar
) -> tuple[AlignmentScores, Source]:
    """Loads the policy and the reference one after the other."""
    assert config.model
    started = time.monotonic()
    pairs = read_pairs(alignment.data, alignment.mode, config.limit)
    likelihoods, sources = [], []
    for name, location in (("policy", config.model), ("reference", alignment.reference)):
        model = load_local(location, store, config.placement)
        likelihoods.append(compute_likelihoods(model, pairs, progress.add(name, 2 * len(pairs))))
        sources.append(model.source)
        del model  # before the next one takes its memory
    seed = config.protocol.seed
    scores = score_alignment(*likelihoods, data=alignment.data, reference_source=sources[1], seed=seed, started=started)
    return scores, sources[0]


async def _measure_rows(
    config: Evaluation, data: Path, store: AnswerStore, progress: ProgressBar, served: ServedCheckpoint | None
) -> dict[str, Any]:
    """Fields of the result."""
    users: Sequence[User]
    limit = config.limit if config.half == "both" else None
    if await asyncio.to_thread(has_questions, data):
        users, report = await asyncio.to_thread(read_questions, data, limit=limit)
    else:
        users, report = await asyncio.to_thread(read_cases, data, limit=limit)
    users = [user for user in users if config.half in ("both", user.half)][: config.limit]
    if not users:
        raise ConfigError(f"half: {data} has no rows of half {config.half}; UPI rows are not halved")
    saved = SavedSummaries.read(config.summaries) if config.summaries else None
    settings, inferences = choose_settings(config, users, saved), dict[str, Inference]()
    async with _open_models(config, store, served) as (model, judge):
        judging = None
        if model and judge:
            judging = Judging(model, judge, config.protocol, progress, saved)
        questions = [user for user in users if isinstance(user, Question)]
        if questions:
            fields = await _measure_questions(config, settings, questions, judging, inferences)
        else:
            cases = [user for user in users if isinstance(user, Case)]
            fields = await _measure_cases(config, settings, cases, judging, inferences)
    writer = saved.model if saved else model.source if model else None
    if config.save_summaries and writer:
        written = {name: own.summaries for name, own in inferences.items() if name in SAVED_SETTINGS}
        save_summaries(config.save_summaries, writer, users, written)
    clusters = find_clusters(users)
    return {
        "model": writer,
        "judge": judge.source if judge else None,
        "summaries": saved.source if saved else None,
        "data": file_source(data),
        "left_out": report.left_out,
        "shortened": len({user for own in inferences.values() for user in own.shortened}),
        "templates": tuple(sorted({name for own in inferences.values() for name in own.templates})),
        "drawn": clusters.unit if clusters else "rows",
        "clusters": len(set(clusters.ids)) if clusters else None,
        "users": tuple(user.digest for user in users),
        **fields,
    }


@asynccontextmanager
async def _open_models(
    config: Evaluation, store: AnswerStore, served: ServedCheckpoint | None
) -> AsyncIterator[tuple[Model | None, Model | None]]:
    """The writer and the judge. With summaries of another run the judge stands for both."""
    placement = config.placement
    async with AsyncExitStack() as stack:
        model = judge = None
        if config.model:
            model = judge = await stack.enter_async_context(open_model(config.model, store, placement, served))
        if config.judge:
            judge = await stack.enter_async_context(open_model(config.judge, store, placement))
        if judge and config.protocol.choice == "likelihood":
            judge.protocol = "likelihood"
        yield (judge if config.summaries else model), judge


def choose_settings(config: Evaluation, users: Sequence[User], saved: SavedSummaries | None) -> list[str]:
    """In the order of `SETTINGS`. Raises ConfigError for a setting that the rows do not allow."""
    possible = _possible_settings(config, users, saved)
    others = {*PROFILE_SETTINGS[1:], "fused-wording"}  # measured where they are asked for
    settings = config.settings or possible - (set() if config.variants else others)
    if impossible := set(settings) - possible:
        raise ConfigError(
            f"settings {', '.join(sorted(impossible))}: not possible with these rows and options; possible: "
            f"{', '.join(name for name in SETTINGS if name in possible) or 'none without a model'}"
        )
    return [name for name in SETTINGS if name in settings]


def _possible_settings(config: Evaluation, users: Sequence[User], saved: SavedSummaries | None) -> set[str]:
    possible: set[str] = set(SETTINGS if config.has_judge else PROFILE_SETTINGS)
    possible -= set(PROFILE_SETTINGS) - set(list_variants([user for user in users if isinstance(user, Case)]))
    if not all(user.truth for user in users):
        possible.discard("truth")
    if config.protocol.choice == "sampled":
        possible -= set(FUSED_SETTINGS)
    if config.protocol.choice != "likelihood":
        possible -= set(LIKELIHOOD_SETTINGS)
    if saved:
        possible -= WRITERS.keys() - set(saved.settings)
    if isinstance(users[0], Question):
        possible -= set(CHOICE_SETTINGS)
    if config.has_judge and not have_different_histories(users):
        drifted = ("drifted",) if config.protocol.drift == "other" else ()
        possible -= {"other"} if saved else {*MULTI_USER_SETTINGS, *drifted}
    return possible


async def _measure_cases(
    config: Evaluation,
    settings: Sequence[str],
    cases: Sequence[Case],
    judging: Judging | None,
    inferences: dict[str, Inference],
) -> dict[str, Any]:
    """Fields of the result; adds to `inferences`."""
    scores: dict[str, Scores] = {}
    for setting in settings:
        if setting in PROFILE_SETTINGS:
            scores[setting] = measure_profile(setting, cases, config.protocol)
        elif judging:
            scores[setting], inferences[setting] = await measure(setting, cases, judging)
    seed, baselines = config.protocol.seed, score_baselines(cases)
    for setting, score in scores.items():
        margins = estimate_margins(baselines, score.right, cases, seed)
        scores[setting] = score.model_copy(update={"margins": margins})
    return {
        "settings": scores,
        "differences": _differences({name: score.right for name, score in scores.items()}, cases, seed),
        "baselines": estimate_baselines(baselines, cases, seed),
    }


async def _measure_questions(
    config: Evaluation,
    settings: Sequence[str],
    questions: Sequence[Question],
    judging: Judging | None,
    inferences: dict[str, Inference],
) -> dict[str, Any]:
    """The same for questions."""
    if not judging:
        raise ConfigError(f"{config.data} holds questions to answer: set a model that answers them")
    scores = {}
    for setting in settings:
        scores[setting], inferences[setting] = await measure_answers(setting, questions, judging)
    values = {name: score.values for name, score in scores.items()}
    return {"answers": scores, "differences": _differences(values, questions, config.protocol.seed)}


def _differences(values: Mapping[str, Sequence[float]], users: Sequence[User], seed: int) -> dict[str, Estimate]:
    """Of the measured pairs in `COMPARISONS`; `values` has one value a user for each setting."""
    return {
        f"{first} - {second}": estimate_over(
            [value - other for value, other in zip(values[first], values[second], strict=True)], users, seed=seed
        )
        for first, second in COMPARISONS
        if first in values and second in values
    }
