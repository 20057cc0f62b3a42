"""Measures many benchmarks in one folder, `out` of the run:

    <name>.jsonl                    rows
    results/<name>.conversion.json  what their conversion read and left out
    results/<name>.<stage>.json     the result of a run
    answers/<name>.sqlite           answers of models, by checkpoint or URL

Runs of different models can follow in any order, and a report shows all results in the folder.
"""

import asyncio
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

from evaluation.benchmark_parts import PARTS
from evaluation.cases.benchmark import Tally
from evaluation.config import Benchmarks, Evaluation
from evaluation.model_sources import is_url
from evaluation.models import ServedCheckpoint
from evaluation.reporting.collect import NOTE
from evaluation.reporting.conversion import Conversion
from evaluation.results import EvaluationResult
from evaluation.runner import evaluate
from training.corpus import world_rows
from training.corpus.lexicon import Pen
from training.corpus.world_rows import World
from training.exceptions import DatasetError

SYNTHETIC: Final = "synthetic"
SYNTHETIC_ROWS: Final = 200
SYNTHETIC_HISTORY: Final = 24
PARTS_BY_NAME: Final = {part.name: part for part in PARTS}


def measure_benchmarks(config: Evaluation, served: ServedCheckpoint | None = None) -> list[EvaluationResult]:
    """Raises TrainingError, and AlignXError from an engine."""
    benchmarks = config.benchmarks
    assert benchmarks
    stage = config.stage or name_stage(config.model, config.placement.model_name)
    config = config.model_copy(update={"stage": stage})
    results = []
    if config.suites:
        run = config.model_copy(update={"benchmarks": None, "out": result_path(config.out, "suites", stage)})
        results.append(asyncio.run(evaluate(run)))
        config = config.model_copy(update={"suites": False})
    names = list_present(benchmarks, config.out, required=not results)
    for name in prepare_rows(names, benchmarks.official, config.out, config.limit):
        for run in plan_runs(config, name):
            results.append(asyncio.run(evaluate(run, served)))
            print(f"{name}, {run.stage}: {results[-1].seconds:.0f} s", file=sys.stderr)
    return results


def plan_runs(config: Evaluation, name: str) -> Iterator[Evaluation]:
    """The runs on one benchmark. Both protocols share the stored answers, and so the summaries."""
    assert config.benchmarks
    settings = config.settings
    if settings and name == SYNTHETIC:
        settings = tuple(dict.fromkeys((*settings, *config.benchmarks.synthetic)))
    shared = {
        "benchmarks": None,
        "data": rows_path(config.out, name),
        "answers": config.out / "answers" / f"{name}.sqlite",
    }
    run = config.model_copy(update=shared | {"settings": settings, "out": result_path(config.out, name, config.stage)})
    yield run
    if config.benchmarks.sampled:
        stage = f"{config.stage} sampled"
        sampled = {
            "stage": stage,
            "out": result_path(config.out, name, stage),
            "settings": config.benchmarks.sampled,
            "protocol": config.protocol.model_copy(update={"choice": "sampled"}),
        }
        yield run.model_copy(update=sampled)


# --- rows --------------------------------------------------------------------------------------


def list_present(benchmarks: Benchmarks, out: Path, *, required: bool) -> list[str]:
    """The benchmarks whose files are there; the others are named. Raises DatasetError where one is required."""
    official = benchmarks.official
    names = benchmarks.names or tuple(part.name for part in PARTS)
    present = [name for name in names if _is_present(name, official, out)]
    if not present and required:
        folders = ", ".join(dict.fromkeys(part.folder for part in PARTS))
        raise DatasetError(
            f"{official} holds no benchmark; looked for: {folders}"
            if official
            else f"{out} holds no rows of {', '.join(names)}; benchmarks.official converts them"
        )
    if absent := [name for name in names if name not in present]:
        print(f"absent from {official or out}: {', '.join(absent)}", file=sys.stderr)
    return present


def prepare_rows(names: Sequence[str], official: Path | None, out: Path, limit: int | None) -> Iterator[str]:
    """Converts the rows of each benchmark, or finds them in `out`, and yields its name. Raises DatasetError."""
    for name in names:
        if name == SYNTHETIC:
            write_synthetic(out)
        elif official:
            part = PARTS_BY_NAME[name]
            tally = part.convert(official, rows_path(out, name), limit)
            print(tally.summary_line(name), file=sys.stderr)
            note = Conversion.of(rows_path(out, name), tally, about=part.about, negatives=part.negatives, limit=limit)
            note.save(note_path(out, name))
        yield name


def _is_present(name: str, official: Path | None, out: Path) -> bool:
    if name == SYNTHETIC:
        return True
    if official is None:
        return rows_path(out, name).is_file()
    return name in PARTS_BY_NAME and PARTS_BY_NAME[name].source(official).exists()


def write_synthetic(out: Path, count: int = SYNTHETIC_ROWS) -> None:
    """Held-out people of the made-up world as UPI rows, the same bytes each time."""
    path = rows_path(out, SYNTHETIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    world = World(noise=0.0)
    with path.open("wb") as file:
        for number in range(count):
            name = f"{SYNTHETIC}-{number}"
            row = world_rows.upi(Pen(random.Random(name), "heldout"), world, SYNTHETIC_HISTORY, name)
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    tally = Tally(rows=count)
    tally.read["people of a made-up world, held out"] = count
    note = Conversion.of(path, tally, about=f"a made-up person's next choice, after {SYNTHETIC_HISTORY}")
    note.save(note_path(out, SYNTHETIC))


# --- paths -------------------------------------------------------------------------------------


def rows_path(out: Path, name: str) -> Path:
    return out / f"{name}.jsonl"


def note_path(out: Path, name: str) -> Path:
    return out / "results" / f"{name}{NOTE}"


def result_path(out: Path, name: str, stage: str) -> Path:
    return out / "results" / f"{name}.{_slug(stage)}.json"


def name_stage(model: str | None, model_name: str | None = None) -> str:
    """After the checkpoint's folder, or the model or host of a URL."""
    if model is None:
        return "profile"
    return _slug(model_name or urlsplit(model).netloc) if is_url(model) else Path(model).name


def _slug(stage: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", stage.lower()).strip("-.")
