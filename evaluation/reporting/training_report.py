"""Reports a chain of training stages: JSON, Markdown, plots.

    python -m evaluation.reporting.training_report var/train/mini --out models/alignx-mini/report

It reads the metrics of training runs (`<output>.run/metrics.json`) and the results of evaluation below the folder.
Into `--out` go report.json, report.md, and loss.png, reward.png and accuracy.png where there are figures for them.
Verdicts follow from the figures (evaluation/reporting/criteria.py); stages are compared on the users of both.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluation.reporting.criteria import Criterion, check_criteria
from evaluation.reporting.document import markdown
from evaluation.reporting.gather_runs import TrainingReportData, gather
from evaluation.reporting.plots import plot_training
from evaluation.reporting.tables import render_report
from evaluation.results import EvaluationResult
from training.exceptions import TrainingError

FORMAT = "alignx-report/1"


def write(data: TrainingReportData, out: Path) -> list[Criterion]:
    """Replaces an earlier report; returns the conditions."""
    criteria = check_criteria(data.results)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        fresh = Path(folder) / "fresh"
        fresh.mkdir()
        plots = plot_training(data, fresh)
        content = json.dumps(_report_json(data, criteria), indent=1)
        (fresh / "report.json").write_text(content + "\n", encoding="utf-8")
        (fresh / "report.md").write_text(markdown(render_report(data, criteria, plots)), encoding="utf-8")
        out.mkdir(exist_ok=True)
        for earlier in (out / name for name in ("loss.png", "reward.png", "accuracy.png")):
            earlier.unlink(missing_ok=True)
        for path in fresh.iterdir():
            shutil.move(path, out / path.name)
    return criteria


def _report_json(data: TrainingReportData, criteria: Sequence[Criterion]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "criteria": [
            {
                "name": item.name,
                "wanted": item.wanted,
                "figure": item.figure.model_dump() if item.figure else None,
                "verdict": item.verdict,
            }
            for item in criteria
        ],
        "stages": [_stage_json(result) for result in data.results.values()],
        "training": [asdict(run) for run in data.runs],
    }


def _stage_json(result: EvaluationResult) -> dict[str, Any]:
    """Without the values of single users."""
    stage: dict[str, Any] = result.model_dump(mode="json", exclude={"users"})
    for scores in stage["settings"].values():
        del scores["values"]
    return stage


def main(folder: Path, out: Annotated[Path, typer.Option()]) -> None:
    """`folder` holds runs and results at any depth."""
    try:
        criteria = write(gather(folder), out)
    except TrainingError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    for item in criteria:
        print(f"{item.name:<28} {item.sentence}")
    print(out)


if __name__ == "__main__":
    typer.run(main)
