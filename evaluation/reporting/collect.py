"""Gathers results of benchmarks for their report: a line for each benchmark, run and setting."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from evaluation.conditions import SETTINGS
from evaluation.reporting.conversion import Conversion
from evaluation.results import AnswerScores, Estimate, EvaluationResult, Scores
from training.exceptions import DatasetError

EVALUATION = EvaluationResult.model_fields["format"].default
CONVERSION = Conversion.model_fields["format"].default


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
class BenchmarkResults:
    lines: tuple[Line, ...]
    """In the order of the files, then by setting."""
    conversions: dict[str, Conversion]
    """By benchmark, where there is a note."""

    @property
    def results(self) -> list[tuple[str, EvaluationResult]]:
        """Each with its benchmark."""
        results = {(line.benchmark, line.run): line.result for line in self.lines}
        return [(benchmark, result) for (benchmark, _), result in results.items()]


def gather(paths: Sequence[Path]) -> BenchmarkResults:
    """Results and notes of conversions from files, and from folders with all folders below.

    Raises DatasetError: without any result, for a benchmark that a run measured twice or that two runs measured on
    different rows, and for a named file with other content. A run on the first rows of a file fits a run on all.
    """
    results: list[tuple[Path, EvaluationResult]] = []
    notes: list[tuple[Path, Conversion]] = []
    for path in dict.fromkeys(_find_files(paths)):
        file_format = format_of(path)
        if file_format == EVALUATION:
            results.append((path, EvaluationResult.read(path)))
        elif file_format == CONVERSION:
            notes.append((path, Conversion.read_from(path)))
        elif path in paths:
            raise DatasetError(
                f"{path} is no result of evaluation: its field format is {file_format!r}, not {EVALUATION!r}"
            )
    results = [(path, result) for path, result in results if result.data and (result.settings or result.answers)]
    if not results:
        raise DatasetError(f"no result of a benchmark in {', '.join(map(str, paths))}")
    _check_once(results)
    rows = _check_rows(results)
    return BenchmarkResults(tuple(_lines(result for _, result in results)), _conversions(notes, rows))


def benchmark_of(result: EvaluationResult) -> str:
    """The stem of the file of rows."""
    assert result.data is not None
    return Path(result.data.name).stem


def _find_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.json"), key=lambda file: (file.parent, file.stem))
        elif path.is_file():
            yield path
        else:
            raise DatasetError(f"{path} does not exist")


def format_of(path: Path) -> object:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from error
    return content.get("format") if isinstance(content, dict) else None


def _check_once(results: Sequence[tuple[Path, EvaluationResult]]) -> None:
    first: dict[tuple[str, str], Path] = {}
    for path, result in results:
        key = (benchmark_of(result), result.stage)
        if key in first:
            raise DatasetError(
                f"{first[key]} and {path} both measure {key[0]} as {key[1]}; leave one out, or name another stage"
            )
        first[key] = path


def _check_rows(results: Sequence[tuple[Path, EvaluationResult]]) -> dict[str, str | None]:
    """The hash of each benchmark's rows."""
    first: dict[str, tuple[Path, EvaluationResult]] = {}
    for path, result in results:
        earlier_path, earlier = first.setdefault(benchmark_of(result), (path, result))
        shared = min(len(earlier.users), len(result.users))
        if (earlier.data, earlier.users[:shared]) != (result.data, result.users[:shared]):
            raise DatasetError(
                f"{earlier_path} and {path} measure {benchmark_of(result)} on different rows ({len(earlier.users)} and "
                f"{len(result.users)}); measure both on the same file"
            )
    return {name: result.data.sha256 if result.data else None for name, (_, result) in first.items()}


def _conversions(notes: Iterable[tuple[Path, Conversion]], rows: dict[str, str | None]) -> dict[str, Conversion]:
    conversions: dict[str, Conversion] = {}
    for path, note in notes:
        if note.name not in rows:
            continue
        if note.sha256 != rows[note.name]:
            raise DatasetError(f"{path} is of other rows than the results on {note.name}; measure it again")
        conversions[note.name] = note
    return conversions


def _lines(results: Iterable[EvaluationResult]) -> Iterator[Line]:
    by_benchmark: dict[str, list[EvaluationResult]] = {}
    for result in results:
        by_benchmark.setdefault(benchmark_of(result), []).append(result)
    for benchmark, runs in by_benchmark.items():
        for result in runs:
            scores: dict[str, Scores | AnswerScores] = {**result.settings, **result.answers}
            for setting in sorted(scores, key=_setting_order):
                yield Line(benchmark, result.stage, setting, scores[setting], result)


def _setting_order(setting: str) -> int:
    return SETTINGS.index(setting) if setting in SETTINGS else len(SETTINGS)
