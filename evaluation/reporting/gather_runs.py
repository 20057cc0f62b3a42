"""What a chain of training stages left behind: metrics of the runs, results of the evaluations."""

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
"""Stages as they follow on each other; others stand behind, as they were measured."""
CURVES: Final = ("loss", "reward", "rewards/accuracies")
"""What is kept of a run's history."""
POINTS: Final = 200
"""Of a curve; a longer history is averaged down to it."""
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
class Gathered:
    runs: tuple[TrainingRun, ...]
    results: dict[str, EvaluationResult]
    """By stage, in the order of `ORDER`."""


def gather(folder: Path) -> Gathered:
    """Everything below `folder`. Raises DatasetError: when there is nothing, and for files that contradict
    each other."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder")
    runs = sorted((_run(folder, path) for path in _files(folder, "metrics.json")), key=lambda run: run.name)
    by_stage: dict[str, list[tuple[Path, EvaluationResult]]] = {}
    for path in _files(folder, "*.json"):
        if _is_result(path):
            result = EvaluationResult.read(path)
            by_stage.setdefault(result.stage, []).append((path, result))
    if not runs and not by_stage:
        raise DatasetError(f"{folder} holds neither metrics.json of a training run nor results of evaluation")
    results = {stage: _joined(stage, found) for stage, found in by_stage.items()}
    return Gathered(tuple(runs), {stage: results[stage] for stage in sorted(results, key=lambda s: _place(results[s]))})


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    """Without those inside checkpoints."""
    for path in sorted(folder.rglob(pattern)):
        if not any(part.startswith(("checkpoint-", ".")) for part in path.relative_to(folder).parts):
            yield path


def _is_result(path: Path) -> bool:
    with path.open("rb") as content:
        return _MARK in content.read(_HEAD).replace(b" ", b"")


def _place(result: EvaluationResult) -> tuple[int, str]:
    known = ORDER.index(result.stage) if result.stage in ORDER else len(ORDER)
    return known, result.created_at.isoformat()


def _joined(stage: str, found: Sequence[tuple[Path, EvaluationResult]]) -> EvaluationResult:
    """Choices and alignment of a stage may be measured apart, each once, on one checkpoint."""
    settings = [(path, result) for path, result in found if result.settings]
    aligned = [(path, result) for path, result in found if result.alignment]
    for several in (settings, aligned):
        if len(several) > 1:
            raise DatasetError(f"{several[0][0]} and {several[1][0]} both measure stage {stage}; keep one of them")
    if not settings or not aligned:
        return found[0][1]
    (one_path, one), (other_path, other) = settings[0], aligned[0]
    if one.model and other.model and one.model.sha256 != other.model.sha256:
        raise DatasetError(f"{one_path} and {other_path} measure stage {stage} of two different checkpoints")
    return one.model_copy(update={"alignment": other.alignment})


def _run(folder: Path, path: Path) -> TrainingRun:
    try:
        found = json.loads(path.read_bytes())
        history = [entry for entry in found["history"] if "step" in entry]
        curves = {name: curve(history, name) for name in CURVES}
        return TrainingRun(
            name=path.parent.relative_to(folder).as_posix().removesuffix(".run"),
            stage=str(found["stage"]),
            rows=int(found["rows"]),
            tokens_per_second=float(found["tokens_per_second"]),
            seconds=float(found["seconds"]),
            curves={name: points for name, points in curves.items() if points},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} holds no metrics of a training run: {type(error).__name__} {error}") from error


def curve(history: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """The named figure by step, neighbours averaged so that at most `POINTS` are left."""
    points = [(float(entry["step"]), float(entry[name])) for entry in history if entry.get(name) is not None]
    width = -(-len(points) // POINTS) or 1
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [(group[-1][0], statistics.fmean(value for _, value in group)) for group in groups]


def paired(later: EvaluationResult, earlier: EvaluationResult, setting: str) -> Estimate | None:
    """Accuracy of `later` less that of `earlier` over the users that both saw; none without any."""
    if setting not in later.settings or setting not in earlier.settings:
        return None
    before, after = _right(earlier, setting), _right(later, setting)
    shared = [user for user in after if user in before]
    return difference([after[user] for user in shared], [before[user] for user in shared]) if shared else None


def _right(result: EvaluationResult, setting: str) -> dict[str, float]:
    """What each user added to the accuracy."""
    scores = result.settings[setting]
    return dict(zip(result.users, scores.right or hits(scores.values), strict=True))
