"""Converts the official files of a benchmark to rows that evaluation reads.

    python -m evaluation.converters mind MINDsmall_dev --out var/benchmarks/mind.jsonl
    python -m evaluation.converters prefeval benchmark_dataset --kind choice --limit 200 --out choice.jsonl

Nothing is downloaded. One line on stderr says what was read and what was left out, with counts and reasons.
The same files, options and seed give the same bytes; the output appears whole or not at all.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from evaluation.cases.benchmark import NEGATIVES, Benchmark, Plan, Tally
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.config import positive
from evaluation.converters.alignx_rows import ALIGNX, PSOUPS_BENCHMARK
from evaluation.converters.amazon import AMAZON
from evaluation.converters.atomic import CANDIDATES, RECBOLE
from evaluation.converters.dialogues import HICUPID, LOCOMO
from evaluation.converters.mind import MIND
from evaluation.converters.movielens import MOVIELENS
from evaluation.converters.personamem import PERSONAMEM
from evaluation.converters.prefeval import PREFEVAL
from evaluation.converters.prism import PRISM
from evaluation.converters.uf_p_4 import UF_P_4
from training.exceptions import ConfigError, DatasetError, TrainingError

BENCHMARKS: dict[str, Benchmark] = {
    each.name: each
    for each in (
        MIND,
        AMAZON,
        CANDIDATES,
        RECBOLE,
        MOVIELENS,
        ALIGNX,
        PERSONAMEM,
        PSOUPS_BENCHMARK,
        HICUPID,
        PRISM,
        UF_P_4,
        PREFEVAL,
        LOCOMO,
    )
}

OF_ANOTHER_KIND = "rows of another kind"


def convert(
    name: str, folder: Path, out: Path, plan: Plan, *, limit: int | None = None, kind: str | None = None
) -> Tally:
    """Writes the first `limit` rows, of one kind alone if one is named.

    Raises DatasetError, also when there is no row, and ConfigError when `out` cannot be written.
    """
    tally = Tally()
    rows = _of_kind(BENCHMARKS[name].convert(folder, plan, tally), kind, tally)
    try:
        _write(islice(rows, limit), out, tally)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error}") from error
    if not tally.rows:
        raise DatasetError(f"{folder} gives no row; {tally.line(name)}")
    return tally


def _write(rows: Iterable[BenchmarkRow], out: Path, tally: Tally) -> None:
    """All of them or no file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            for row in rows:
                file.write(row.line())
                tally.rows += 1
        if tally.rows:
            aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)


def _of_kind(rows: Iterable[BenchmarkRow], kind: str | None, tally: Tally) -> Iterator[BenchmarkRow]:
    for row in rows:
        if kind is None or row.kind == kind:
            yield row
        else:
            tally.left_out[OF_ANOTHER_KIND] += 1


def options() -> argparse.ArgumentParser:
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.converters",
        description="Convert the official files of a benchmark to rows for evaluation. Nothing is downloaded.",
        epilog=f"names, and what their folders hold:\n{_listing()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="a benchmark, from the list below")
    add("folder", metavar="FOLDER", type=Path, help="where its official files are")
    add("--out", type=Path, required=True, help="the rows, one JSON object a line")
    add("--limit", type=positive, help="at most this many rows, the first ones")
    add("--seed", type=int, default=plan.seed, help="of everything drawn (default: %(default)s)")
    add("--history", type=positive, default=plan.history, help="most events a row, the latest (default: %(default)s)")
    add("--kind", help="rows of this kind alone, such as style (psoups) or choice (prefeval)")
    recommendation = parser.add_argument_group("recommendation")
    add = recommendation.add_argument
    add(
        "--negatives",
        choices=NEGATIVES,
        default=plan.negatives,
        help="the other item: any unseen one, one drawn by popularity, one exactly as popular (default: %(default)s)",
    )
    add("--targets", type=positive, default=plan.targets, help="most targets a user (default: %(default)s)")
    add("--liked", type=float, default=plan.liked, help="lowest rating that is a liking (default: %(default)s)")
    return parser


def _listing() -> str:
    return "\n".join(f"  {name:<18} {each.files}" for name, each in BENCHMARKS.items())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = options()
    asked = parser.parse_args(arguments)
    if asked.name not in BENCHMARKS:
        parser.exit(2, f"error: {asked.name} is no benchmark; those there are, and what they want:\n{_listing()}\n")
    plan = Plan(asked.seed, asked.history, asked.negatives, asked.targets, asked.liked)
    started = time.monotonic()
    try:
        tally = convert(asked.name, asked.folder, asked.out, plan, limit=asked.limit, kind=asked.kind)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{tally.line(asked.name)}; {time.monotonic() - started:.1f} s → {asked.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
