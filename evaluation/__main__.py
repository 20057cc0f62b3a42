"""Measures a checkpoint or an engine on held-out users, and writes one JSON with all that repeats it.

    python -m evaluation --model models/alignx-mini --stage sft \\
        --data var/train/mini/heldout_upi.jsonl --out var/train/mini/eval/sft.json
    python -m evaluation --model var/train/mini/ica --reference models/alignx-mini --stage dpo-ica \\
        --alignment var/train/mini/heldout_ica.jsonl --out var/train/mini/eval/ica.json

`--model` is a checkpoint folder or the URL of an OpenAI-compatible engine; without it the fast profile
alone is measured, with `--variants` in several ways. It judges its own summaries unless `--judge` names
another. `--data` holds UPI rows or benchmark rows; what is measured of them is listed in
evaluation/conditions.py. With `--protocol forced` every probability comes from the judge of
serving, which forces a letter in all orders; `sampled` reads one reply of 16 tokens, as the AlignX family
does. Benchmark rows with a question and a reference are answered, and the judge compares
(evaluation/scoring/answers.py).

Transfer: one run keeps its summaries, and another engine chooses by them.

    python -m evaluation --model A --stage a --data rows.jsonl --out a.json --keep-summaries a.jsonl
    python -m evaluation --summaries a.jsonl --judge B --stage a-b --data rows.jsonl --out a-b.json

Answers are kept in `<out>.answers.sqlite`: the same command after an interruption goes on from there.
"""

import asyncio
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alignx import __version__
from evaluation.config import Evaluation, options, plan_of
from evaluation.model_sources import is_url, named
from evaluation.models import load_local
from evaluation.results import AlignmentScores, Estimate, EvaluationResult, Source
from evaluation.runner import measured
from evaluation.scoring import alignment
from evaluation.scoring.progress_bar import Bar
from services.errors import AlignXError
from training.exceptions import TrainingError
from training.synthesis.answer_store import AnswerStore

PACKAGES = ("torch", "transformers", "trl", "numpy")


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
    kept = plan.answers or plan.out.with_name(f"{plan.out.name}.answers.sqlite")
    with AnswerStore.open(kept) as store, Bar() as bar:
        if plan.data is not None:
            found |= await measured(plan, store, bar)
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
    for name in ("out", "data", "alignment", "summaries", "keep_summaries", "answers"):
        told[name] = named(told[name]) if told[name] else None
    for name in ("model", "judge", "reference", "embeddings"):
        told[name] = named(Path(told[name])) if told[name] and not is_url(told[name]) else told[name]
    return told


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "alignx": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def told(result: EvaluationResult) -> str:
    """The figures as lines of text, the baselines beside the scores."""
    figures = {f"{name}: accuracy": scores.accuracy for name, scores in result.settings.items()}
    figures |= {f"{name}: AUC": scores.auc for name, scores in result.settings.items() if scores.auc}
    figures |= {f"{name}: answers": scores.score for name, scores in result.answers.items()}
    figures |= {f"baseline: {name}": value for name, value in result.baselines.items()} | result.differences
    if result.alignment:
        figures["alignment"] = result.alignment.alignment
    lines = [f"{name:<24} {_percent(value)}" for name, value in figures.items()]
    for name, scores in result.settings.items():
        if scores.calibration:
            lines.append(f"{name + ': calibration error':<32} {scores.calibration.error:.3f}")
        if scores.replies and scores.replies.unparsed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in scores.replies.kinds.items() if count)
            lines.append(f"{name + ': replies':<32} {kinds}")
    return "\n".join(lines)


def _percent(value: Estimate) -> str:
    return f"{100 * value.mean:6.1f} %  ({100 * value.low:.1f} to {100 * value.high:.1f}, {value.rows} rows)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises SystemExit."""
    plan = plan_of(options().parse_args(arguments))
    try:
        print(told(asyncio.run(evaluate(plan))))
    except (TrainingError, AlignXError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    print(plan.out)


if __name__ == "__main__":
    main()
