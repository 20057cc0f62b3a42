"""`alignx ingest` of Parquet. The environment of training has pyarrow, which that of the services does without."""

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignx.cli.histories.entries import BadLine, Entry, Source, read_entries
from alignx.cli.histories.rows import read_rows
from alignx.client.errors import ClientError

NOON = datetime.fromisoformat("2026-05-01T12:00:00")
"""Without a zone, as tables often hold times."""
ROWS: list[dict[str, Any]] = [
    {"user": "ada", "type": "post", "text": "I sold my car.", "occurred_at": NOON},
    {"user": "ada", "type": "click", "clicked": "a", "shown": '["a", "b"]'},
    {"user": "bob", "type": "rating", "item": "Ubik", "value": 4.5},
    {"user": "bob", "type": "rating", "item": "Ubik", "value": 400.0},
    {"user": None, "type": "post", "text": "of nobody"},
]


def parquet(rows: list[dict[str, Any]]) -> io.BytesIO:
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.BytesIO()
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), file)
    return file


def test_columns_are_the_fields_of_events() -> None:
    found = list(read_entries(Source(parquet(ROWS), "parquet")))
    events = [entry.event for entry in found if isinstance(entry, Entry)]
    first, click, rating = events
    assert first.occurred_at is not None
    assert first.occurred_at.isoformat() == "2026-05-01T12:00:00+00:00"
    assert [pair.rejected for pair in click.pairs()] == ["b"]
    assert rating.model_dump(include={"item", "value"}) == {"item": "Ubik", "value": 4.5}
    problems = [problem for problem in found if isinstance(problem, BadLine)]
    assert [(problem.line, problem.field) for problem in problems] == [(4, "rating"), (5, "user")]


def test_lists_and_structs_are_read_as_they_are() -> None:
    item = {"title": "Solaris", "price": 9.5}
    (entry,) = read_entries(
        Source(parquet([{"user": "ada", "type": "click", "clicked": item, "shown": [item]}]), "parquet")
    )
    assert isinstance(entry, Entry)
    assert entry.event.model_dump()["clicked"]["title"] == "Solaris"


def test_many_rows_come_in_their_order(tmp_path: Path) -> None:
    rows = [{"user": "ada", "type": "post", "text": str(number)} for number in range(1_000)]
    assert [row.content["text"] for row in read_rows(parquet(rows), "parquet")] == [row["text"] for row in rows]


def test_a_row_that_python_cannot_hold_is_named_and_the_rest_read() -> None:
    texts = pa.array([b"a", b"na\xefve", b"c", b"d"], pa.binary()).cast(pa.string(), safe=False)
    times = pa.array([0, 0, 400_000_000_000_000_000, 0], pa.int64()).cast(pa.timestamp("us"))
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "occurred_at": times}), file)
    found = list(read_rows(file, "parquet"))
    assert [row.content and row.content["text"] for row in found] == ["a", None, None, "d"]
    assert ["a value cannot be read" in row.error for row in found] == [False, True, True, False]
    assert [row.number for row in found] == [1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_file_that_is_no_parquet_says_so(content: bytes) -> None:
    with pytest.raises(ClientError, match="cannot be read as Parquet"):
        list(read_rows(io.BytesIO(content), "parquet"))
