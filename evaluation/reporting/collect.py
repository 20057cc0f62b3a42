"""Collects results for their report: a line for each benchmark, run and setting."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evaluation.conditions import SETTINGS
from evaluation.reporting.conversion import Conversion
from evaluation.results import AnswerScores, Estimate, EvaluationResult, Scores
from training.exceptions import DatasetError

NOTE: Final = ".conversion.json"


@dataclass(frozen=True)
class Line:
    """One setting of one run on one benchmark."""

    benchmark: str
    run: str
    setting: str
    scores: Scores | AnswerScores
    result: EvaluationResult

    @property
    def accuracy(self) -> Estimate:
        """Of answers their score, in which a tie counts a half."""
        return self.scores.accuracy if isinstance(self.scores, Scores) else self.scores.score

    @property
    def label(self) -> str:
        return f"{self.run}: {self.setting}" if self.run != self.setting else self.setting


@dataclass(frozen=True)
class CollectedResults:
    results: tuple[tuple[str, EvaluationResult], ...]
    """Each with its benchmark, by name and then by time."""
    alignments: tuple[EvaluationResult, ...]
    """Those with alignment accuracy, by time."""
    measured: EvaluationResult | None
    """The newest with restraint and drift."""
    conversions: dict[str, Conversion]
    """By benchmark, where there is a note."""

    @property
    def lines(self) -> list[Line]:
        return [
            Line(benchmark, result.stage, setting, scores, result)
            for benchmark, result in self.results
            for setting, scores in sorted(
                (result.settings | result.answers).items(), key=lambda item: SETTINGS.index(item[0])
            )
        ]


def collect(results: Iterable[EvaluationResult], notes: Iterable[Conversion] = ()) -> CollectedResults:
    """Of each run on a benchmark the newest result, on the rows of the benchmark's newest result; others are named on
    stderr. Raises DatasetError without any result."""
    by_time = sorted(results, key=lambda result: result.created_at)
    current: dict[tuple[str, str], EvaluationResult] = {}
    hashes: dict[str, str | None] = {}
    outdated = []
    for result in reversed(by_time):
        if result.data and (result.settings or result.answers):
            key = (Path(result.data.name).stem, result.stage)
            if key in current or hashes.setdefault(key[0], result.data.sha256) != result.data.sha256:
                outdated.append(f"{key[0]} ({key[1]})")
            else:
                current[key] = result
    alignments = tuple(result for result in by_time if result.alignment)
    measured = next((result for result in reversed(by_time) if result.measures), None)
    if not (current or alignments or measured):
        raise DatasetError("there is no result to report")
    if outdated:
        print(f"left out, measured again or on rows that are no longer there: {', '.join(outdated)}", file=sys.stderr)
    kept = reversed([(benchmark, result) for (benchmark, _), result in current.items()])
    conversions = {note.name: note for note in notes if hashes.get(note.name) == note.sha256}
    return CollectedResults(tuple(sorted(kept, key=lambda item: item[0])), alignments, measured, conversions)


def collect_folder(out: Path) -> CollectedResults:
    """All results in the folder of a run. Raises DatasetError."""
    files = sorted((out / "results").glob("*.json"))
    results = [EvaluationResult.read_from(path) for path in files if not path.name.endswith(NOTE)]
    return collect(results, read_notes(out))


def read_notes(out: Path) -> list[Conversion]:
    """Raises DatasetError."""
    return [Conversion.read_from(path) for path in sorted((out / "results").glob(f"*{NOTE}"))]
