"""Memory and speed of the dataset readers: a million generated rows in each format.

    .venv-training/bin/python -m bench.data_reading [--rows N] [--formats json,jsonl,parquet]

Each file is written to a temporary folder (about 1 GB for a million rows) and read to its end by a
process of its own, whose highest resident memory is the figure; what Python and the libraries take
before the first row is in it. The Parquet file is written as the common writers do it by default:
one row group for up to a million rows, the hardest case for a reader of batches.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bench.page import keep
from bench.result import Row
from training.data.formats import RlRow
from training.data.reading import read

ROWS = 1_000_000
CHOICES = 5
BATCH = 10_000
"""Rows turned into Arrow's form at once."""
MUST = "≤ 500"


def generated(rows: int) -> Iterator[dict[str, Any]]:
    """RL rows of about 1,000 bytes, no two alike; a part of each text is noise that does not compress."""
    rng = random.Random(0)
    for number in range(rows):
        history = [
            {
                "query": f"Question {number}-{place}, {rng.getrandbits(64):x}: which would you rather read?",
                "chosen": f"Answer {rng.getrandbits(96):x}, short and to the point, with an example.",
                "rejected": f"Answer {rng.getrandbits(128):x}, which goes on for longer than it has things to say.",
            }
            for place in range(CHOICES)
        ]
        yield {"uid": f"user-{number}", "history": history, "mid_position": 1 + number % (CHOICES - 2)}


def write_json(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(generated(rows)):
            file.write(("[" if number == 0 else ",\n") + json.dumps(row))
        file.write("]\n")


def write_jsonl(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in generated(rows))


def write_parquet(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows_left, batches = generated(rows), []
    schema = pa.Table.from_pylist(list(generated(1))).schema
    while batch := list(islice(rows_left, BATCH)):
        batches.append(pa.RecordBatch.from_pylist(batch, schema=schema))
    pq.write_table(pa.Table.from_batches(batches, schema=schema), path, row_group_size=rows)
    assert pq.ParquetFile(path).metadata.num_row_groups == 1


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "json": write_json,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def read_alone(path: Path) -> tuple[int, float, float]:
    """(rows, highest resident MB, seconds) of a process that reads the whole file."""
    command = [sys.executable, "-m", "bench.data_reading", "--read", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, peak, seconds = done.stdout.split()
    return int(rows), float(peak), float(seconds)


def measure(rows: int = ROWS, formats: tuple[str, ...] = tuple(WRITERS)) -> list[Row]:
    found: list[Row] = []
    for name in formats:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"rows.{name}"
            WRITERS[name](path, rows)
            size = path.stat().st_size / 2**20
            counted, peak, seconds = read_alone(path)
            assert counted == rows, f"{counted} of {rows} rows were read"
        what = f"{name}, {rows} rows, {size:.0f} MB"
        found += [Row(what, peak, "MB resident", MUST), Row(what, rows / seconds, "rows/s")]
    return found


def peak_mb() -> float:
    """The highest resident memory of this process; getrusage would count that of its parent's fork too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _read(path: Path) -> None:
    start = time.perf_counter()
    rows = sum(1 for _ in read(path, RlRow, malformed="fatal"))
    seconds = time.perf_counter() - start
    print(rows, f"{peak_mb():.1f}", f"{seconds:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--formats", default=",".join(WRITERS))
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        _read(given.read)
        return
    keep("data_reading", measure(given.rows, tuple(given.formats.split(","))), __doc__ or "")


if __name__ == "__main__":
    main()
