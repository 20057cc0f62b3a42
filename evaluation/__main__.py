"""Measures the fast profile, a checkpoint or an engine: one file of rows, or all benchmarks of a folder.

    python -m evaluation evaluation/configs/profile.toml benchmarks.official=../shared/data
    python -m evaluation evaluation/configs/engine.toml model=http://gpu-box:8000/v1 stage=qwen3-8b limit=300
    python -m evaluation evaluation/configs/stage.toml stage=small model=var/models/alignx-small \\
        data=rows.jsonl out=small.json 'settings=["full"]'
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
from evaluation.reporting.report import render_terminal, write
from evaluation.runner import evaluate, serve_model
from services.errors import AlignXError
from training.config import load
from training.exceptions import TrainingError


def run(config: Evaluation) -> None:
    """Measures, prints the figures and writes the report. Raises TrainingError, and AlignXError from an engine."""
    with serve_model(config) as served:
        if config.benchmarks:
            print(render_terminal(collect(measure_benchmarks(config, served), read_notes(config.out))))
        elif config.data or config.alignment or config.suites:
            config = config.model_copy(update={"stage": config.stage or name_stage(config.model)})
            print(render_terminal(collect([asyncio.run(evaluate(config, served))])))
            print(config.out)
    if config.report:
        print(*write(collect_folder(config.out), config.report), sep="\n")


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
