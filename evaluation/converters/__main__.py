"""Converts the official files of a benchmark to rows that evaluation reads.

    python -m evaluation.converters mind MINDsmall_dev --out var/benchmarks/mind.jsonl
    python -m evaluation.converters prefeval benchmark_dataset --kind choice --limit 200 --out choice.jsonl

Nothing is downloaded. One line on stderr gives counts of what was read and left out, with reasons. The same files,
options and seed give the same bytes; the output is written whole or not at all.
"""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from evaluation.cases.benchmark import Negatives, Plan
from evaluation.converters.registry import BENCHMARKS, convert
from training.exceptions import TrainingError

LIST = "\n".join(f"  {name:<18} {benchmark.files}" for name, benchmark in BENCHMARKS.items())
PLAN = Plan()

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=f"Convert official files to rows.\n\n\b\nNames, and what their folders hold:\n{LIST}")
def main(
    name: str,
    folder: Path,
    out: Annotated[Path, Option(help="The rows, one JSON object a line.")],
    limit: Annotated[int | None, Option(min=1, help="At most this many rows, the first ones.")] = None,
    kind: Annotated[str | None, Option(help="Rows of one kind, such as style (psoups) or choice (prefeval).")] = None,
    seed: Annotated[int, Option(help="Of all random draws.")] = PLAN.seed,
    history: Annotated[int, Option(min=1, help="Most events of a row, the latest.")] = PLAN.history,
    negatives: Annotated[
        Negatives, Option(help="Recommendation: any unseen item, one drawn by popularity, or one exactly as popular.")
    ] = PLAN.negatives,
    targets: Annotated[int, Option(min=1, help="Recommendation: most targets of a user.")] = PLAN.targets,
    liked: Annotated[float, Option(help="Recommendation: lowest rating that counts as liked.")] = PLAN.liked,
) -> None:
    if name not in BENCHMARKS:
        print(f"error: {name} is no benchmark; allowed, with what their folders hold:\n{LIST}", file=sys.stderr)
        raise typer.Exit(2)
    plan = Plan(seed, history, negatives, targets, liked)
    started = time.monotonic()
    try:
        tally = convert(name, folder, out, plan, limit=limit, kind=kind)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print(f"{tally.summary_line(name)}; {time.monotonic() - started:.1f} s → {out}", file=sys.stderr)


if __name__ == "__main__":
    app()
