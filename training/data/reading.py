"""Reads datasets row by row, in memory that does not grow with the file.

    report = ReadReport()
    for row in read(Path("rl.jsonl"), RlRow, report=report):
        ...

A path is a file or a folder of shards: a JSON array (of any size; ijson's C parser hands over one
row at a time), JSON Lines, both also as .gz, or Parquet (read in small batches). What a text file
is, its first character says, so that JSON Lines named .json are read too.

A malformed row is skipped and counted, or ends the run: `malformed` says which. These always end it: a
file of another kind, a broken archive, an incomplete array (after a syntax error inside an array the next
row cannot be found), a file without any good row.
"""

import gzip
import importlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from training.data.formats import KINDS, Row
from training.data.published import UNKNOWN, RefusedRow, kind_of, to_known
from training.exceptions import DatasetError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".json.gz", ".jsonl.gz")
SAMPLE = 16
"""Rows at the start of each file by which its kind is detected."""
MAX_LINE = 64 << 20
"""Longest line in bytes; a file without line ends would fill the memory."""
MAX_EXAMPLES = 5
"""Malformed rows that a report shows."""
BATCH = 128
"""Rows of Parquet converted to Python objects together."""
BOM = b"\xef\xbb\xbf"
PLACE_IN_LIST = re.compile(r"\.\d+(?=[.:])")
PLAIN = {
    "missing": "is missing",
    "model_type": "must be an object",
    "string_type": "must be text",
    "too_short": "has too few entries",
    "tuple_type": "must be a list",
}
"""Instead of pydantic's messages that name Python types or count the row's entries."""

R = TypeVar("R", bound=Row)
M = TypeVar("M", bound=BaseModel)


class Malformed(NamedTuple):
    """Line or row number, and the reason; nothing of the row's texts."""

    location: str
    reason: str


@dataclass
class ReadReport:
    """Counts of a reading, updated while it runs."""

    rows: int = 0
    """Good rows."""
    malformed: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason; positions inside lists are merged."""
    examples: list[Malformed] = field(default_factory=list)
    """The first of them."""
    bytes_read: int = 0
    bytes_total: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    """Fields of the sampled rows that the kind does not read."""

    @property
    def left_out(self) -> int:
        return self.malformed.total()

    def add(self, bad: Malformed) -> None:
        self.malformed[PLACE_IN_LIST.sub(".[]", bad.reason)] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(bad)


class Raw(NamedTuple):
    """A row as its file has it, or why it is not JSON."""

    location: str
    value: object
    problem: str | None = None


def read(
    path: Path, kind: type[R], *, malformed: Literal["skip", "fatal"] = "skip", report: ReadReport | None = None
) -> Iterator[R]:
    """The good rows of a file or folder, in order. Raises DatasetError: at once for a path that holds
    no data, while reading for what the module's text lists."""
    report = report if report is not None else ReadReport()
    files = shards(path)
    report.bytes_total += sum(file.stat().st_size for file in files)
    return _rows(path, files, kind, report, fatal=malformed == "fatal")


def shards(path: Path) -> list[Path]:
    """The files of a dataset: the file itself, or a folder's data files in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"{path} does not exist")
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(SUFFIXES))
    suffixes = sorted({"".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix for file in files})
    if not files:
        raise DatasetError(f"{path} holds no file that ends with {', '.join(SUFFIXES)}")
    if len(suffixes) > 1:
        raise DatasetError(f"{path} holds files of several formats ({', '.join(suffixes)}); name one of them")
    return files


def sample(path: Path) -> list[object]:
    """The first rows of a dataset, those that are JSON: for `kind_of`. Raises DatasetError where all are refused."""
    with closing(raw_rows(shards(path)[0], ReadReport())) as raws:
        head = list(map(_known, islice(raws, SAMPLE)))
    values = [raw.value for raw in head if raw.problem is None]
    if refused := [raw for raw in head if raw.problem and raw.value is not None and not values]:
        raise DatasetError(f"{path}, {refused[0].location}: {refused[0].problem}")
    return values


# --- from raw to typed -------------------------------------------------------------------------


def _rows(path: Path, files: Iterable[Path], kind: type[R], report: ReadReport, *, fatal: bool) -> Iterator[R]:
    before = report.rows
    for file in files:
        with closing(raw_rows(file, report)) as raws:
            rows = map(_known, raws)
            head = list(islice(rows, SAMPLE))
            _require_kind(file, head, kind, report)
            for raw in chain(head, rows):
                row = parse(raw, kind)
                if isinstance(row, Malformed):
                    if fatal:
                        raise DatasetError(f"{file}, {row.location}: {row.reason}")
                    report.add(row)
                else:
                    report.rows += 1
                    yield row
    if report.rows == before:
        first = f"; the first: {report.examples[0].location}: {report.examples[0].reason}" if report.examples else ""
        raise DatasetError(f"{path} holds no row that can be used ({report.left_out} malformed{first})")


def _known(raw: Raw) -> Raw:
    try:
        return raw if raw.problem else raw._replace(value=to_known(raw.value))
    except RefusedRow as error:
        return raw._replace(problem=str(error))


def parse(raw: Raw, kind: type[M]) -> M | Malformed:
    if raw.problem is not None:
        return Malformed(raw.location, raw.problem)
    try:
        return kind.model_validate(raw.value)
    except ValidationError as error:
        return Malformed(raw.location, reason(error))


def reason(error: ValidationError) -> str:
    """The first problem, with its path in the row."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = PLAIN.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    return f"{'.'.join(str(part) for part in problem['loc'])}: {message}".removeprefix(": ")


def _require_kind(file: Path, head: list[Raw], kind: type[Row], report: ReadReport) -> None:
    values = [raw.value for raw in head if raw.problem is None]
    objects = [value for value in values if isinstance(value, Mapping)]
    if not values:
        return
    detected = kind_of(values)
    if detected == kind.kind:
        known = _known_fields(kind)
        report.unread.update(name for row in objects for name in row if name not in known)
        return
    if detected != UNKNOWN:
        raise DatasetError(
            f"{file} looks like {KINDS[detected].label} rows (kind {detected}), "
            f"but {kind.label} rows (kind {kind.kind}) are wanted"
        )
    try:
        kind.model_validate(values[0])
    except ValidationError as error:
        names = ", ".join(str(name)[:40] for name in list(objects[0])[:12]) if objects else "none: rows are no objects"
        raise DatasetError(
            f"{file} looks like no known kind (fields: {names}), but {kind.label} rows (kind {kind.kind}) are wanted; "
            f"the first row: {reason(error)}"
        ) from error


def _known_fields(kind: type[Row]) -> set[str]:
    known = set(kind.other_fields)
    for name, info in kind.model_fields.items():
        choices = getattr(info.validation_alias, "choices", (info.validation_alias,))
        known.update((name, *(choice for choice in choices if isinstance(choice, str))))
    return known


# --- raw rows ----------------------------------------------------------------------------------


def raw_rows(file: Path, report: ReadReport) -> Generator[Raw]:
    """The rows of one file as they are, in order; close it when not all are taken. Raises DatasetError."""
    before = report.bytes_read
    try:
        with file.open("rb") as content:
            if content.peek(4)[:4] == b"PAR1":
                yield from _parquet(file, report)
            else:
                yield from _text(file, content, report)
        report.bytes_read = before + file.stat().st_size
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def _text(file: Path, content: io.BufferedReader, report: ReadReport) -> Generator[Raw]:
    before = report.bytes_read
    zipped = content.peek(2)[:2] == b"\x1f\x8b"
    stream: io.BufferedReader[Any] = io.BufferedReader(gzip.GzipFile(fileobj=content)) if zipped else content
    first, line = _first_character(stream)
    raws = _array(file, stream) if first == b"[" else _lines(stream, line)
    for raw in raws:
        report.bytes_read = before + content.tell()
        yield raw


def _first_character(stream: "io.BufferedReader[Any]") -> tuple[bytes, int]:
    """The first non-blank character, left unread, and the number of its line."""
    line = 1
    if stream.peek(3)[:3] == BOM:
        stream.read(3)
    while (head := stream.peek(1)[:1]).isspace():
        line += stream.read(1) == b"\n"
    return head, line


def _array(file: Path, stream: BinaryIO) -> Generator[Raw]:
    ijson = _library("ijson", file)
    number = 0
    try:
        for number, value in enumerate(ijson.items(stream, "item", use_float=True), 1):
            yield Raw(f"row {number}", value)
    except ijson.JSONError as error:  # its text quotes the file, and with it users
        raise DatasetError(
            f"{file} is no whole JSON array: behind row {number} it ends early or holds what is no JSON"
        ) from error


def _lines(stream: BinaryIO, number: int) -> Generator[Raw]:
    while line := stream.readline(MAX_LINE):
        location = f"line {number}"
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield Raw(location, None, f"longer than {MAX_LINE >> 20} MiB")
        elif line.strip():
            try:
                yield Raw(location, orjson.loads(line))
            except orjson.JSONDecodeError:
                yield Raw(location, None, "not JSON")
        number += 1


def _parquet(file: Path, report: ReadReport) -> Generator[Raw]:
    pa, pq = _library("pyarrow", file), _library("pyarrow.parquet", file)  # 50 MB that only Parquet needs
    before, size = report.bytes_read, file.stat().st_size
    number = 0
    try:
        # Without pre_buffer, pages are read as they are needed and not a whole row group at once.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 16) as table:
            for batch in table.iter_batches(batch_size=BATCH, use_threads=False):
                for value in batch.to_pylist():
                    number += 1
                    yield Raw(f"row {number}", value)
                report.bytes_read = before + size * number // max(1, table.metadata.num_rows)
    except pa.ArrowException as error:
        raise DatasetError(f"{file} is no whole Parquet file, or of a version that cannot be read") from error


def _library(name: str, file: Path) -> Any:
    """A library that files of JSON Lines do not need."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise DatasetError(f"{file}: reading it needs {package}: run pip install {package}") from error
