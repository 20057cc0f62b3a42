"""Rows of a file: whatever stands in it, the rest is read, in bounded memory."""

import io
from typing import BinaryIO

import pytest

from alignx.cli.histories import rows
from alignx.cli.histories.rows import Format, format_of, read_lines, read_rows


class Endless(io.RawIOBase):
    """A file whose one line has `size` bytes, before others; it says how much of it was held at once."""

    def __init__(self, size: int, rest: bytes) -> None:
        self.left, self.rest, self.largest = size, io.BytesIO(rest), 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size > 0, "a whole line was asked for"
        self.largest = max(self.largest, size)
        if self.left > 0:
            part, self.left = min(size, self.left), self.left - size
            return b"x" * part + (b"" if self.left > 0 or part == size else b"\n")
        return self.rest.readline(size)


@pytest.mark.parametrize("length", range(8, 14))
def test_a_long_line_is_measured_and_passed_over(length: int) -> None:
    """With and without an end, at the bound and around it."""
    for end in (b"\n", b""):
        for before, after in ((b"", b""), (b"a\n", b"b\n")):
            text = before + b"x" * length + (end or (b"\n" if after else b"")) + after
            lines = list(read_lines(io.BytesIO(text), 10))
            whole = text.splitlines(keepends=True)
            assert [line.size for line in lines] == [len(line) for line in whole]
            assert [line.content is None for line in lines] == [len(line) > 11 or line == b"x" * 11 for line in whole]
            assert [line.number for line in lines] == list(range(1, len(whole) + 1))


def test_a_line_of_gigabytes_costs_no_memory() -> None:
    file = Endless(5_000_000_001, b'{"a": 1}\n')
    long, fine = read_rows(file, "jsonl")  # type: ignore[arg-type]  # a file as far as it is read
    assert (long.number, long.size) == (1, 5_000_000_002)
    assert long.error == "5,000,000,002 bytes; a line may have 16,777,216"
    assert (fine.number, fine.content) == (2, {"a": 1})
    assert file.largest <= rows.MAX_LINE + 1


def read(content: bytes, kind: Format) -> list[tuple[int, object]]:
    file: BinaryIO = io.BytesIO(content)
    return [(row.number, row.error or row.content) for row in read_rows(file, kind)]


def test_csv_rows_know_their_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE", 40)
    content = (
        b"\xef\xbb\xbfuser, text\n"
        b'ada,"one\ntwo"\n'
        b"\n"
        b"\xff,bad\n"
        b"bob,three\n"
        b"eve," + b"x" * 60 + b"\n"
        b'dan,"a"b\n'
        b"gus,four\n"
        b'fay,"' + b"y\n" * 30 + b'"\n'
    )
    found = read(content, "csv")
    assert found[:4] == [
        (2, {"user": "ada", "text": "one\ntwo"}),
        (5, "not UTF-8"),
        (6, {"user": "bob", "text": "three"}),
        (7, "65 bytes; a line may have 40"),
    ]
    assert (found[4][0], "not CSV" in str(found[4][1])) == (8, True)
    assert found[5] == (9, {"user": "gus", "text": "four"})
    assert (found[6][0], "field larger than field limit" in str(found[6][1])) == (10, True)


def test_a_csv_row_with_a_line_that_cannot_be_read_is_left_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE", 40)
    long = b"x" * 60
    content = (
        b"user,text\n"
        b'ada,"first\nna\xefve\nlast"\n'
        b'bob,"closed by\nna\xefve"\n'
        b"cyd,fine\n"
        b'dan,"first\n' + long + b'\nlast"\n'
        b'eve,"closed by\n' + long + b'"\n'
        b'fay,"' + long + b'\nlast"\n'
        b"gus,fine\n"
    )
    assert read(content, "csv") == [
        (3, "not UTF-8"),
        (6, "not UTF-8"),
        (7, {"user": "cyd", "text": "fine"}),
        (9, "61 bytes; a line may have 40"),
        (12, "62 bytes; a line may have 40"),
        (13, "66 bytes; a line may have 40"),
        (15, {"user": "gus", "text": "fine"}),
    ]


def test_rows_are_no_names_where_the_first_line_cannot_be_read() -> None:
    found = read(b"user,te\xefxt\nada,fine\n", "csv")
    assert found == [(1, "not UTF-8"), (2, {"user": "ada", "te\ufffdxt": "fine"})]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"),
        ("A.CSV", "csv"),
        ("a.parquet", "parquet"),
        ("a.jsonl", "jsonl"),
        ("-", "jsonl"),
        ("a", "jsonl"),
    ],
)
def test_a_file_s_ending_tells_its_form(name: str, kind: Format) -> None:
    assert format_of(name) == kind
