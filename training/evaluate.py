"""Measures a checkpoint or an engine on held-out users, and writes one JSON with all that repeats it.

    python -m training.evaluate --model models/alignx-mini --stage sft \\
        --data var/train/mini/heldout_upi.jsonl --out var/train/mini/eval/sft.json
    python -m training.evaluate --model var/train/mini/ica --reference models/alignx-mini --stage dpo-ica \\
        --alignment var/train/mini/heldout_ica.jsonl --out var/train/mini/eval/ica.json

`--model` is a checkpoint folder or the URL of an OpenAI-compatible engine; without it the fast profile
alone is measured. It judges its own summaries unless `--judge` names another. What is measured is
listed in training/evaluation/settings.py; every probability comes from the judge of serving, which
forces a letter in both orders. Answers are kept in `<out>.answers.sqlite`: the same command after an
interruption goes on from there.
"""

import asyncio
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from services.core.errors import AlignXError
from training.errors import ConfigError, TrainingError
from training.evaluation import alignment
from training.evaluation.bar import Bar
from training.evaluation.cases import Case, read_cases
from training.evaluation.intervals import difference, estimate, hits
from training.evaluation.measuring import longer_wins, measure, measure_profile
from training.evaluation.models import load_local, open_model
from training.evaluation.options import Evaluation, options, plan_of
from training.evaluation.results import AlignmentScores, Estimate, EvaluationResult, Scores, Source
from training.evaluation.settings import COMPARED, PROFILE, SETTINGS
from training.evaluation.sources import file_sha256, is_url, named
from training.synthesis.store import AnswerStore

PACKAGES = ("alignx-serve", "torch", "transformers", "trl", "numpy")


def chosen_settings(asked: tuple[str, ...] | None, cases: Sequence[Case], *, model: bool) -> list[str]:
    """Raises ConfigError when a setting is asked for that the rows do not allow."""
    told = all(case.truth for case in cases)
    if asked and "truth" in asked and not told:
        raise ConfigError("--settings truth: not every row of --data has a summary")
    wanted = asked or tuple(SETTINGS if model else (PROFILE,))
    return [name for name in SETTINGS if name in wanted and (told or name != "truth")]


async def users(plan: Evaluation, store: AnswerStore, bar: Bar) -> dict[str, Any]:
    """The part of a result that is about users and their choices."""
    assert plan.data is not None
    cases, report = await asyncio.to_thread(read_cases, plan.data, limit=plan.limit)
    names = chosen_settings(plan.settings, cases, model=plan.model is not None)
    found: dict[str, Scores] = {}
    shortened: set[int] = set()
    templates: set[str] = set()
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(open_model(plan.model, store, plan.placement)) if plan.model else None
        judge = await stack.enter_async_context(open_model(plan.judge, store, plan.placement)) if plan.judge else model
        for name in names:
            if model and judge and name != PROFILE:
                found[name], inference = await measure(name, cases, model, judge, plan.protocol, bar)
                shortened |= inference.shortened
                templates |= inference.templates
            elif name == PROFILE:
                found[name] = measure_profile(cases, plan.protocol)
    right = {name: hits(scores.values) for name, scores in found.items()}
    seed = plan.protocol.seed
    pairs = [(one, other) for one, other in COMPARED if one in right and other in right]
    return {
        "model": model.source if model else None,
        "judge": judge.source if judge else None,
        "data": Source(name=named(plan.data), sha256=file_sha256(plan.data) if plan.data.is_file() else None),
        "left_out": report.left_out,
        "shortened": len(shortened),
        "templates": tuple(sorted(templates)),
        "users": tuple(case.digest for case in cases),
        "settings": found,
        "differences": {f"{one} - {other}": difference(right[one], right[other], seed=seed) for one, other in pairs},
        "baselines": {"longer wins": estimate(longer_wins(cases), seed=seed)},
    }


def aligned(
    plan: Evaluation, pairs: Path, compared: tuple[str, str], store: AnswerStore, bar: Bar
) -> tuple[AlignmentScores, Source]:
    """Alignment accuracy of the first of `compared` against the second, loaded one after the other."""
    started = time.monotonic()
    rows = alignment.pair_rows(pairs, plan.limit)
    found, sources = [], []
    for name, where in zip(("policy", "reference"), compared, strict=True):
        model = load_local(where, store, plan.placement)
        found.append(alignment.likelihoods(model, rows, bar.line(name, len(rows))))
        sources.append(model.source)
        del model  # before the next one takes its memory
    scores = alignment.scores(*found, data=pairs, compared_with=sources[1], seed=plan.protocol.seed, started=started)
    return scores, sources[0]


async def evaluate(plan: Evaluation) -> EvaluationResult:
    """Measures, and writes the result. Raises TrainingError, and AlignXError from an engine."""
    plan.check()
    started = time.monotonic()
    found: dict[str, Any] = {"model": None, "judge": None, "data": None}
    with AnswerStore.open(plan.out.with_name(f"{plan.out.name}.answers.sqlite")) as store, Bar() as bar:
        if plan.data is not None:
            found |= await users(plan, store, bar)
        if plan.alignment and plan.model and plan.reference:
            compared = (plan.model, plan.reference)
            found["alignment"], found["model"] = aligned(plan, plan.alignment, compared, store, bar)
    result = EvaluationResult(
        stage=plan.stage,
        created_at=datetime.now(UTC),
        seconds=round(time.monotonic() - started, 3),
        config=_config(plan),
        versions=_versions(),
        **found,
    )
    result.save(plan.out)
    return result


def _config(plan: Evaluation) -> dict[str, Any]:
    """All options, paths told from the folder of the run."""
    told = asdict(plan)
    for name in ("out", "data", "alignment"):
        told[name] = named(told[name]) if told[name] else None
    for name in ("model", "judge", "reference"):
        told[name] = named(Path(told[name])) if told[name] and not is_url(told[name]) else told[name]
    return told


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def told(result: EvaluationResult) -> str:
    """The figures as lines of text."""
    figures = {f"{name}: accuracy": scores.accuracy for name, scores in result.settings.items()}
    figures |= {**result.differences, **result.baselines}
    if result.alignment:
        figures["alignment"] = result.alignment.alignment
    return "\n".join(f"{name:<24} {_percent(value)}" for name, value in figures.items())


def _percent(value: Estimate) -> str:
    return f"{100 * value.mean:6.1f} %  ({100 * value.low:.1f} to {100 * value.high:.1f}, {value.rows} rows)"


def main(arguments: Sequence[str] | None = None) -> None:
    plan = plan_of(options().parse_args(arguments))
    try:
        print(told(asyncio.run(evaluate(plan))))
    except (TrainingError, AlignXError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    print(plan.out)


if __name__ == "__main__":
    main()
