"""The folder in which benchmarks are measured: rows, results of all runs beside each other, kept answers.

    <name>.jsonl                    rows
    results/<name>.conversion.json  what their conversion read and left out
    results/<name>.<stage>.json     what a run found on them
    answers/<name>.sqlite           what engines answered, found again by checkpoint or URL

So runs can be made in any order, and a report is of all results in the folder.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from evaluation.model_sources import is_url
from evaluation.reporting.benchmark_report import overview, write
from evaluation.reporting.collect import CONVERSION, EVALUATION, Measured, benchmark_of, format_of, gather
from evaluation.reporting.conversion import Conversion
from evaluation.reporting.document import plain
from evaluation.results import EvaluationResult


def rows_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl"


def note_of(folder: Path, name: str) -> Path:
    return folder / "results" / f"{name}.conversion.json"


def result_of(folder: Path, name: str, stage: str) -> Path:
    return folder / "results" / f"{name}.{_plain(stage)}.json"


def answers_of(folder: Path, name: str) -> Path:
    return folder / "answers" / f"{name}.sqlite"


def stage_of(engine: str, model: str | None = None) -> str:
    """What a run is called without --stage: after the checkpoint's folder, or the model or host of a URL."""
    return _plain(model or urlsplit(engine).netloc) if is_url(engine) else Path(engine).name


def _plain(stage: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", stage.lower()).strip("-.")


def everything(folder: Path) -> Measured:
    """All results on the rows as they are now; those on other rows are told and left out. Raises DatasetError."""
    found = sorted((folder / "results").glob("*.json"))
    notes = [path for path in found if format_of(path) == CONVERSION]
    rows = {note.name: note.sha256 for note in map(Conversion.read_from, notes)}
    current: list[tuple[Path, str]] = []
    old: list[tuple[Path, str]] = []
    for path in found:
        if format_of(path) != EVALUATION:
            continue
        result = EvaluationResult.read(path)
        if result.data:
            kept = rows.get(name := benchmark_of(result), result.data.sha256) == result.data.sha256
            (current if kept else old).append((path, name))
    if old:
        names = ", ".join(path.name for path, _ in old)
        print(f"left out, measured on rows that are no longer there: {names}", file=sys.stderr)
    named = {name for _, name in current}
    told = [path for path in notes if path.name.removesuffix(".conversion.json") in named]
    return gather([*(path for path, _ in current), *told])


def tell_absent(where: Path, names: Sequence[str]) -> None:
    if names:
        print(f"absent from {where}: {', '.join(names)}", file=sys.stderr)


def tell(found: Sequence[Path], folder: Path, report: Path | None) -> None:
    """The table of this run's results, and, where a report is wanted, all of the folder there."""
    print(plain(overview(gather(found))))
    if report:
        print(*write(everything(folder), report), sep="\n")
