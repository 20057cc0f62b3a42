"""Measures the fast profile, a checkpoint or an engine: one file of rows, or all benchmarks of a folder.

    python -m evaluation evaluation/configs/profile.toml benchmarks.official=../shared/data
    python -m evaluation evaluation/configs/engine.toml model=http://gpu-box:8000/v1 stage=qwen3-8b limit=300
    python -m evaluation evaluation/configs/stage.toml stage=mini model=models/alignx-mini \\
        data=rows.jsonl out=mini.json 'settings=["full"]'
    python -m evaluation evaluation/configs/report.toml out=var/benchmarks report=docs

A configuration is one TOML (evaluation/config.py documents its fields); single fields follow it, as in training.
Each run writes one JSON result with all that repeats it. Settings are listed in evaluation/conditions.py.

Transfer: one run saves its summaries (`save_summaries=a.jsonl`), and another model chooses by them
(`summaries=a.jsonl judge=B`). Answers of models are stored: the same command resumes after an interruption.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.benchmark_folder import measure_benchmarks, name_stage
from evaluation.config import Evaluation
from evaluation.reporting.collect import collect, collect_folder, read_notes
from evaluation.reporting.report import render_ablation, render_kinds, render_measures, render_overview, write
from evaluation.results import Estimate, EvaluationResult
from evaluation.runner import evaluate, serve_model
from services.errors import AlignXError
from training.config import load
from training.exceptions import TrainingError


def run(config: Evaluation) -> None:
    """Measures, prints the figures and writes the report. Raises TrainingError, and AlignXError from an engine."""
    with serve_model(config) as served:
        if config.benchmarks:
            results = collect(measure_benchmarks(config, served), read_notes(config.out))
            tables = (render_overview, render_kinds, render_ablation, render_measures)
            print("\n\n".join(table.plain() for render in tables if (table := render(results)).rows))
        elif config.data or config.alignment or config.suites:
            config = config.model_copy(update={"stage": config.stage or name_stage(config.model)})
            print(render_figures(asyncio.run(evaluate(config, served))))
            print(config.out)
    if config.report:
        print(*write(collect_folder(config.out), config.report), sep="\n")


def render_figures(result: EvaluationResult) -> str:
    """A line for each figure, the baselines beside the scores."""
    estimates = {f"{name}: accuracy": scores.accuracy for name, scores in result.settings.items()}
    estimates |= {f"{name}: AUC": scores.auc for name, scores in result.settings.items() if scores.auc}
    estimates |= {f"{name}: answers": scores.score for name, scores in result.answers.items()}
    estimates |= {f"baseline: {name}": value for name, value in result.baselines.items()} | result.differences
    if result.alignment:
        estimates["alignment"] = result.alignment.alignment
    estimates |= result.measures
    lines = [f"{name:<24} {_percent(value)}" for name, value in estimates.items()]
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
    path, *overrides = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if path.startswith("-"):
        print(f"usage: python -m evaluation CONFIG.toml [section.field=value …]\n\n{__doc__}")
        raise SystemExit(0 if path in ("-h", "--help") else 2)
    try:
        run(load(Path(path), Evaluation, overrides))
    except (TrainingError, AlignXError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
