"""The rows of a file of histories: JSON lines, CSV or Parquet, one after another in bounded memory.

A row that cannot be read is one too, with the reason: nothing in a file ends the reading of the rest, however long a
line is.

    CSV: the first line names the fields. An empty cell is no field. `shown`, `considered`, `messages`, `scale`,
    `metadata` and `directions` hold JSON, and an item may (`{"title": …}`).
"""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, BinaryIO, Final, Literal

from pydantic_core import from_json, to_json

from alignx.client.errors import ClientError

Format = Literal["jsonl", "csv", "parquet"]
SUFFIXES: Final[dict[str, Format]] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
"""Any other file holds JSON lines."""
MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of a line that is read; of a longer one nothing is kept."""
_JSON_FIELDS = frozenset({"shown", "considered", "messages", "scale", "metadata", "directions"})
_ITEM_FIELDS = frozenset({"chosen", "rejected", "clicked", "item"})
_PARQUET_ROWS = 256
"""Rows in memory."""


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    """Of its first line, or of the row in Parquet; from 1."""
    size: int
    """Bytes."""
    content: Any = None
    """A JSON document; None for a blank line."""
    error: str = ""
    """Why there is no content."""


def format_of(name: str) -> Format:
    return SUFFIXES.get(PurePath(name).suffix.lower(), "jsonl")


def read_rows(file: BinaryIO, kind: Format) -> Iterator[Row]:
    """From the file's position. Raises ClientError for a file that is not of this kind at all."""
    match kind:
        case "jsonl":
            return map(_parse_line, read_lines(file, MAX_LINE))
        case "csv":
            return _read_csv(file)
        case "parquet":
            return _read_parquet(file)


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    size: int
    content: bytes | None
    """None for one that is too long."""
    quotes: int = 0
    """Double quotes in one that is too long."""


def read_lines(file: BinaryIO, most: int) -> Iterator[Line]:
    """Lines without a byte order mark; of one above `most` bytes only the length."""
    number = 0
    while content := file.readline(most + 1):
        number += 1
        size = len(content)
        if size <= most or content.endswith(b"\n"):
            yield Line(number, size, content.removeprefix(codecs.BOM_UTF8) if number == 1 else content)
            continue
        quotes = content.count(b'"')
        while rest := file.readline(1 << 20):
            size += len(rest)
            quotes += rest.count(b'"')
            if rest.endswith(b"\n"):
                break
        yield Line(number, size, None, quotes)


def _too_long(line: Line) -> Row:
    return Row(line.number, line.size, error=f"{line.size:,} bytes; a line may have {MAX_LINE:,}")


def _parse_line(line: Line) -> Row:
    if line.content is None:
        return _too_long(line)
    content = line.content.strip()
    if not content:
        return Row(line.number, line.size)
    try:
        document = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        return Row(line.number, line.size, error=f"not JSON: {error}")
    if not isinstance(document, dict):
        return Row(line.number, line.size, error="not a JSON object")
    return Row(line.number, len(content), document)


# --- CSV ---------------------------------------------------------------------------------------


class _TextLines(Iterator[str]):
    """Lines for a csv.reader, which may take several for a row, and what was wrong with some of them.

    Of a line that cannot be read its quotes are passed on, so that the row ends where it does in the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._lines = read_lines(file, MAX_LINE)
        self.bad: list[Row] = []
        """Of the row so far."""
        self.first = 0
        """Number of the row's first line."""
        self.size = 0
        """Bytes of the row so far."""

    def start_row(self) -> None:
        self.first = self.size = 0
        self.bad = []

    def __next__(self) -> str:
        line = next(self._lines)
        self.first = self.first or line.number
        self.size += line.size
        if line.content is None:
            self.bad.append(_too_long(line))
            return '"' * (line.quotes % 2) + "\n"
        try:
            return line.content.decode()
        except UnicodeDecodeError:
            self.bad.append(Row(line.number, line.size, error="not UTF-8"))
            return line.content.decode(errors="replace")


def _read_csv(file: BinaryIO) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)
    lines = _TextLines(file)
    rows = csv.reader(lines, strict=True)
    names: list[str] | None = None
    while True:
        lines.start_row()
        try:
            cells = next(rows, None)
        except csv.Error as fault:
            cells = []
            lines.bad = lines.bad or [Row(lines.first, lines.size, error=f"not CSV: {fault}")]
        yield from lines.bad
        if cells is None:
            return
        if names is None:
            names = [name.strip() for name in cells]
        elif cells and not lines.bad:
            yield _build_row(lines, names, cells)


def _build_row(lines: _TextLines, names: list[str], cells: list[str]) -> Row:
    if len(cells) != len(names):
        return Row(lines.first, lines.size, error=f"{len(cells)} cells; the first line names {len(names)}")
    document: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        if not cell:
            continue
        try:
            document[name] = from_json(cell, allow_inf_nan=False) if _holds_json(name, cell) else cell
        except ValueError as error:
            return Row(lines.first, lines.size, error=f"{name}: not JSON: {error}")
    return Row(lines.first, lines.size, document or None)


def _holds_json(name: str, cell: str) -> bool:
    return name in _JSON_FIELDS or (name in _ITEM_FIELDS and cell.lstrip().startswith("{"))


# --- Parquet -----------------------------------------------------------------------------------


def _read_parquet(file: BinaryIO) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException  # only who reads Parquet needs it
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ClientError("Parquet needs pyarrow, which the extra alignx[parquet] installs.") from error
    number = 0
    try:
        for batch in ParquetFile(file).iter_batches(batch_size=_PARQUET_ROWS):
            for fields in _convert(batch):
                number += 1
                if isinstance(fields, Exception):
                    yield Row(number, 0, error=f"a value cannot be read: {fields}")
                else:
                    yield _parse_fields(number, fields)
    except (ArrowException, OSError) as error:
        raise ClientError(f"After row {number} the file cannot be read as Parquet: {error}") from error


def _convert(batch: Any) -> list[dict[str, Any] | Exception]:
    """The rows of a record batch; in place of one that holds what Python has no value for, the reason."""
    try:
        rows: list[dict[str, Any] | Exception] = batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            return [error]
        return [row for place in range(batch.num_rows) for row in _convert(batch.slice(place, 1))]
    return rows


def _parse_fields(number: int, fields: dict[str, Any]) -> Row:
    present = {name: _with_zone(value) for name, value in fields.items() if value is not None}
    try:
        text = to_json(present)
        for name in _JSON_FIELDS & present.keys():
            if isinstance(present[name], str):
                present[name] = from_json(present[name])
    except ValueError as error:
        return Row(number, 0, error=f"not JSON: {error}")
    return Row(number, len(text), from_json(to_json(present)) or None)


def _with_zone(value: Any) -> Any:
    """A time without a zone is one of UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
