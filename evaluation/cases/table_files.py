"""Reads delimited text, CSV and JSON row by row, and counts malformed rows."""

import csv
import gzip
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from evaluation.cases.benchmark import Tally
from training.data.reading import Malformed, ReadReport, parse, raw_rows
from training.exceptions import DatasetError

M = TypeVar("M", bound=BaseModel)

csv.field_size_limit(min(sys.maxsize, 1 << 31))


def read_fields(
    file: Path, tally: Tally, what: str, *, separator: str, fields: int, encoding: str = "utf-8"
) -> Iterator[tuple[str, list[str]]]:
    """The location and the fields of each line of a file without quoting, counted as `what`.

    Lines of another number of fields are malformed. Raises DatasetError when the file cannot be read.
    """
    for number, line in enumerate(read_lines(file, encoding), 1):
        if line:
            tally.read[what] += 1
            values = line.split(separator)
            if len(values) == fields:
                yield f"{file.name}, line {number}", values
            else:
                tally.add_malformed(f"{file.name}, line {number}", f"{what} of other than {fields} fields")


def read_lines(file: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Lines without line ends. Raises DatasetError when the file cannot be read."""
    open_text = gzip.open if file.suffix == ".gz" else open
    try:
        with open_text(file, "rt", encoding=encoding, newline="\n") as lines:
            for line in lines:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def read_csv(file: Path, tally: Tally, what: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The location and the columns of each row of a CSV file with a header.

    Raises DatasetError when a column is missing or the file cannot be read.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            if missing:
                raise DatasetError(f"{file} has no column {', '.join(missing)}")
            for number, row in enumerate(table, 1):
                tally.read[what] += 1
                if any(row[name] is None for name in columns):
                    tally.add_malformed(f"{file.name}, row {number}", f"{what} with too few columns")
                else:
                    yield f"{file.name}, row {number}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def read_json(file: Path, tally: Tally, what: str, kind: type[M]) -> Iterator[tuple[str, M]]:
    """The location and the typed record of each row of a JSON array, JSON Lines (both also .gz) or Parquet.
    Raises DatasetError when the file cannot be read."""
    with closing(raw_rows(file, ReadReport())) as raws:
        for raw in raws:
            tally.read[what] += 1
            record = parse(raw, kind)
            if not isinstance(record, Malformed):
                yield f"{file.name}, {raw.location}", record
            else:
                problem = record.reason if raw.problem else f"{what}: {record.reason}"
                tally.add_malformed(f"{file.name}, {raw.location}", problem)
