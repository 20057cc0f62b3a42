"""Gathers the output of a chain of training stages: metrics of the runs, results of the evaluations."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evaluation.results import Estimate, EvaluationResult
from evaluation.scoring.intervals import difference, hits
from training.exceptions import DatasetError

ORDER: Final = ("base", "sft", "dpo-ica", "dpo-pba", "rl-jud", "rl-gen", "rl")
"""Order of stages; others follow by time."""
CURVES: Final = ("loss", "reward", "rewards/accuracies")
"""Figures of a run's history that the report plots."""
POINTS: Final = 200
"""Most points of a curve; a longer history is averaged."""
_MARK = b'"format":"alignx-evaluation/'
_HEAD = 200


@dataclass(frozen=True)
class TrainingRun:
    name: str
    stage: str
    rows: int
    tokens_per_second: float
    seconds: float
    curves: dict[str, list[tuple[float, float]]]
    """By name: (step, mean) points."""


@dataclass(frozen=True)
class TrainingReportData:
    runs: tuple[TrainingRun, ...]
    results: dict[str, EvaluationResult]
    """By stage, in the order of `ORDER`."""


def gather(folder: Path) -> TrainingReportData:
    """All runs and results below `folder`. Raises DatasetError where there is none, and for contradicting files."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder")
    runs = sorted((_read_run(folder, path) for path in _find_files(folder, "metrics.json")), key=lambda run: run.name)
    by_stage: dict[str, list[tuple[Path, EvaluationResult]]] = {}
    for path in _find_files(folder, "*.json"):
        if _is_result(path):
            result = EvaluationResult.read(path)
            by_stage.setdefault(result.stage, []).append((path, result))
    if not runs and not by_stage:
        raise DatasetError(f"{folder} holds neither metrics.json of a training run nor results of evaluation")
    results = [_join(stage, measured) for stage, measured in by_stage.items()]
    return TrainingReportData(tuple(runs), {result.stage: result for result in sorted(results, key=_sort_key)})


def _find_files(folder: Path, pattern: str) -> Iterator[Path]:
    """Except those inside checkpoints."""
    for path in sorted(folder.rglob(pattern)):
        if not any(part.startswith(("checkpoint-", ".")) for part in path.relative_to(folder).parts):
            yield path


def _is_result(path: Path) -> bool:
    with path.open("rb") as content:
        return _MARK in content.read(_HEAD).replace(b" ", b"")


def _sort_key(result: EvaluationResult) -> tuple[int, str]:
    known = ORDER.index(result.stage) if result.stage in ORDER else len(ORDER)
    return known, result.created_at.isoformat()


def _join(stage: str, measured: Sequence[tuple[Path, EvaluationResult]]) -> EvaluationResult:
    """One result of the choices and the alignment of a stage, which may be measured separately on one checkpoint."""
    choices = [(path, result) for path, result in measured if result.settings]
    alignments = [(path, result) for path, result in measured if result.alignment]
    for several in (choices, alignments):
        if len(several) > 1:
            raise DatasetError(f"{several[0][0]} and {several[1][0]} both measure stage {stage}; keep one of them")
    if not choices or not alignments:
        return measured[0][1]
    (path, result), (alignment_path, aligned) = choices[0], alignments[0]
    if result.model and aligned.model and result.model.sha256 != aligned.model.sha256:
        raise DatasetError(f"{path} and {alignment_path} measure stage {stage} of two different checkpoints")
    return result.model_copy(update={"alignment": aligned.alignment})


def _read_run(folder: Path, path: Path) -> TrainingRun:
    try:
        metrics = json.loads(path.read_bytes())
        history = [entry for entry in metrics["history"] if "step" in entry]
        curves = {name: average_curve(history, name) for name in CURVES}
        return TrainingRun(
            name=path.parent.relative_to(folder).as_posix().removesuffix(".run"),
            stage=str(metrics["stage"]),
            rows=int(metrics["rows"]),
            tokens_per_second=float(metrics["tokens_per_second"]),
            seconds=float(metrics["seconds"]),
            curves={name: points for name, points in curves.items() if points},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} holds no metrics of a training run: {type(error).__name__} {error}") from error


def average_curve(history: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """The figure by step; neighbours are averaged to at most `POINTS`."""
    points = [(float(entry["step"]), float(entry[name])) for entry in history if entry.get(name) is not None]
    width = -(-len(points) // POINTS) or 1
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [(group[-1][0], statistics.fmean(value for _, value in group)) for group in groups]


def compare_stages(later: EvaluationResult, earlier: EvaluationResult, setting: str) -> Estimate | None:
    """Accuracy of `later` less that of `earlier` over the users of both; None without any."""
    if setting not in later.settings or setting not in earlier.settings:
        return None
    before, after = _hits(earlier, setting), _hits(later, setting)
    shared = [user for user in after if user in before]
    return difference([after[user] for user in shared], [before[user] for user in shared]) if shared else None


def _hits(result: EvaluationResult, setting: str) -> dict[str, float]:
    """Each user's part of the accuracy."""
    scores = result.settings[setting]
    return dict(zip(result.users, scores.right or hits(scores.values), strict=True))
