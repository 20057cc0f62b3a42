"""Gathers what a chain of training stages left behind into a report: JSON, Markdown, plots.

    python -m evaluation.reporting.training_report var/train/mini --out models/alignx-mini/report

Below the folder it finds the metrics of training runs (`<output>.run/metrics.json`) and the results of
evaluation. Into `--out` go report.json, report.md and the plots loss.png, reward.png and
accuracy.png, as far as there are figures for them. Whether a condition is met is worked out from the
figures (evaluation/reporting/criteria.py); stages are compared on the users that both saw.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.reporting import plots, tables
from evaluation.reporting.criteria import Criterion, criteria
from evaluation.reporting.gather_runs import Gathered, gather
from evaluation.results import EvaluationResult
from training.exceptions import TrainingError

FORMAT = "alignx-report/1"


def write(gathered: Gathered, out: Path) -> list[Criterion]:
    """Writes the report in place of an earlier one; returns the conditions."""
    found = criteria(gathered.results)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        fresh = Path(folder) / "fresh"
        fresh.mkdir()
        drawn = plots.write(gathered, fresh)
        (fresh / "report.json").write_text(json.dumps(_told(gathered, found), indent=1) + "\n", encoding="utf-8")
        (fresh / "report.md").write_text(tables.markdown(gathered, found, drawn), encoding="utf-8")
        out.mkdir(exist_ok=True)
        for earlier in (out / name for name in ("loss.png", "reward.png", "accuracy.png")):
            earlier.unlink(missing_ok=True)
        for path in fresh.iterdir():
            shutil.move(path, out / path.name)
    return found


def _told(gathered: Gathered, found: Sequence[Criterion]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "criteria": [
            {
                "name": each.name,
                "wanted": each.wanted,
                "figure": each.figure.model_dump() if each.figure else None,
                "verdict": each.verdict,
            }
            for each in found
        ],
        "stages": [_stage(result) for result in gathered.results.values()],
        "training": [asdict(run) for run in gathered.runs],
    }


def _stage(result: EvaluationResult) -> dict[str, Any]:
    """Without what belongs to single users."""
    told: dict[str, Any] = result.model_dump(mode="json", exclude={"users"})
    for scores in told["settings"].values():
        del scores["values"]
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Gather metrics and evaluation results into a report.")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="where runs and results lie, at any depth")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    given = parser.parse_args(arguments)
    try:
        found = write(gather(given.folder), given.out)
    except TrainingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    for each in found:
        print(f"{each.name:<28} {each.sentence}")
    print(given.out)


if __name__ == "__main__":
    main()
