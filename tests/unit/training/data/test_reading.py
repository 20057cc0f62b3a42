"""Reading datasets: every format, every way in which a file can be bad, and memory that stays bounded."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.training.data.rows import MAKERS, rl, upi
from training.data import reading
from training.data.formats import KINDS, AlignXRow, RlRow, UpiRow
from training.data.reading import ReadReport, read, sample
from training.exceptions import DatasetError

Rows = list[dict[str, Any]]
ROOT = Path(__file__).resolve().parents[4]


def as_lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_array(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_parquet(rows: Rows) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "rows.json": as_array,
    "rows.jsonl": as_lines,
    "rows.ndjson": as_lines,
    "rows.parquet": as_parquet,
    "rows.json.gz": lambda rows: gzip.compress(as_array(rows)),
    "rows.jsonl.gz": lambda rows: gzip.compress(as_lines(rows)),
    "lines-named.json": as_lines,
    "array-named.jsonl": as_array,
    "bom.json": lambda rows: b"\xef\xbb\xbf \n" + as_array(rows),
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf\n" + as_lines(rows) + b"\n \n",
    "crlf.jsonl": lambda rows: as_lines(rows).replace(b"\n", b"\r\n"),
    "no-last-end.jsonl": lambda rows: as_lines(rows).rstrip(),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_from_every_format(tmp_path: Path, name: str, kind: str):
    raw = [MAKERS[kind](number) for number in range(300)]
    path = written(tmp_path / name, FORMATS[name](raw))
    report = ReadReport()
    rows = list(read(path, KINDS[kind], malformed="fatal", report=report))
    assert rows == [KINDS[kind].model_validate(row) for row in raw]
    assert (report.rows, report.left_out) == (300, 0)
    assert report.bytes_read == report.bytes_total == path.stat().st_size


def test_shards_of_a_folder_follow_one_another(tmp_path: Path):
    for shard in (1, 0, 2):
        written(tmp_path / f"part-{shard}.jsonl", as_lines([rl(10 * shard + number) for number in range(3)]))
    written(tmp_path / "README.md", b"# About")
    assert [row.uid for row in read(tmp_path, RlRow)] == ["u0", "u1", "u2", "u10", "u11", "u12", "u20", "u21", "u22"]


def test_an_empty_shard_is_no_mistake(tmp_path: Path):
    written(tmp_path / "a.jsonl", b"")
    written(tmp_path / "b.jsonl", as_lines([rl()]))
    assert len(list(read(tmp_path, RlRow))) == 1


def test_the_first_rows_can_be_looked_at(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", b"no json\n" + as_lines([rl(number) for number in range(50)]))
    assert sample(path) == [rl(number) for number in range(reading.SAMPLE - 1)]


def test_progress_is_told_while_reading(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", as_lines([rl(number) for number in range(2000)]))
    report = ReadReport()
    rows = read(path, RlRow, report=report)
    next(rows)
    assert 0 < report.bytes_read < report.bytes_total


# --- malformed rows ----------------------------------------------------------------------------


def test_malformed_rows_are_counted_by_reason_and_shown_without_text(tmp_path: Path):
    bad_triple = {**rl(), "history": [*rl()["history"], {"query": "SECRET", "chosen": 5, "rejected": "SECRET"}]}
    other_place = {**rl(), "history": [{"query": "SECRET", "chosen": ["SECRET"], "rejected": "x"}, *rl()["history"]]}
    content = as_lines([rl(0), bad_triple, rl(1), other_place, {**rl(), "mid_position": 9}])
    path = written(tmp_path / "rows.jsonl", content + b'{"uid": "SECRET\n"SECRET"\n' + as_lines([rl(2)]))
    report = ReadReport()
    assert [row.uid for row in read(path, RlRow, report=report)] == ["u0", "u1", "u2"]
    assert report.malformed == {
        "history.[].chosen: must be text": 2,
        "mid_position must be above 0 and below the last place of history": 1,
        "not JSON": 1,
        "must be an object": 1,
    }
    assert report.examples[:2] == [
        ("line 2", "history.5.chosen: must be text"),
        ("line 4", "history.0.chosen: must be text"),
    ]
    assert "SECRET" not in repr(report)


def test_only_the_first_examples_are_kept(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", as_lines([rl()]) + b"x\n" * 100)
    report = ReadReport()
    list(read(path, RlRow, report=report))
    assert [example.location for example in report.examples] == [f"line {number}" for number in range(2, 7)]
    assert report.left_out == 100


@pytest.mark.parametrize(
    ("name", "place"), [("rows.jsonl", "line 3"), ("rows.json", "row 3"), ("rows.parquet", "row 3")]
)
def test_a_malformed_row_is_fatal_when_wanted(tmp_path: Path, name: str, place: str):
    raw = [rl(0), rl(1), {**rl(2), "mid_position": 0}, rl(3)]
    path = written(tmp_path / name, FORMATS[name](raw))
    rows = read(path, RlRow, malformed="fatal")
    assert [next(rows).uid, next(rows).uid] == ["u0", "u1"]
    with pytest.raises(DatasetError, match=rf"{name}, {place}: mid_position must be"):
        next(rows)
    assert [row.uid for row in read(path, RlRow)] == ["u0", "u1", "u3"]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "MAX_LINE", 1 << 20)
    long = json.dumps({**rl(), "note": "x" * (3 << 20)}).encode() + b"\n"
    path = written(tmp_path / "rows.jsonl", as_lines([rl(0)]) + long + as_lines([rl(1)]))
    report = ReadReport()
    assert [row.uid for row in read(path, RlRow, report=report)] == ["u0", "u1"]
    assert report.examples == [("line 2", "longer than 1 MiB")]


def test_fields_that_are_not_read_are_named(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", as_lines([{**upi(), "ground_truth_persona": "x"}]))
    report = ReadReport()
    list(read(path, UpiRow, report=report))
    assert set(report.unread) == {"ground_truth_persona"}


# --- files that cannot be gone on with ---------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("holds", KINDS)
def test_a_file_of_another_kind_is_told_apart(tmp_path: Path, name: str, holds: str):
    path = written(tmp_path / name, FORMATS[name]([MAKERS[holds](number) for number in range(3)]))
    for wanted in KINDS.values():
        if wanted.kind != holds:
            with pytest.raises(DatasetError, match=rf"kind {holds}\), but .*kind {wanted.kind}\) are wanted"):
                list(read(path, wanted))


def test_rows_of_no_known_kind_are_described_by_their_fields(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", as_lines([{"instruction": "SECRET", "output": "SECRET"}]))
    with pytest.raises(DatasetError, match=r"fields: instruction, output.*first row: prompt: is missing") as caught:
        list(read(path, AlignXRow))
    assert "SECRET" not in str(caught.value)
    path = written(tmp_path / "texts.json", b'["SECRET"]')
    with pytest.raises(DatasetError, match="rows are no objects") as caught:
        list(read(path, AlignXRow))
    assert "SECRET" not in str(caught.value)


MANY = [rl(number) for number in range(3000)]
ARRAY, PARQUET, ARCHIVE = as_array(MANY), as_parquet(MANY), gzip.compress(as_lines(MANY))
BROKEN: list[tuple[str, bytes, str]] = [
    *(
        ("rows.json", ARRAY[: int(len(ARRAY) * kept)], r"is no whole JSON array: behind row \d+")
        for kept in (0.999, 0.5, 0.01)
    ),
    ("short.jsonl.gz", ARCHIVE[: len(ARCHIVE) // 2], "cannot be read"),
    ("bad.jsonl.gz", ARCHIVE[:99] + b"x" * 999, "cannot be read"),
    ("rows.parquet", PARQUET[: len(PARQUET) // 2], "is no whole Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "says"), BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_breaks_off_is_fatal(tmp_path: Path, name: str, content: bytes, says: str):
    with pytest.raises(DatasetError, match=f"{name} {says}"):
        list(read(written(tmp_path / name, content), RlRow))


def test_an_array_with_a_syntax_error_does_not_quote_it(tmp_path: Path):
    path = written(tmp_path / "rows.json", as_array([rl()])[:-1] + b', {"SECRET" "SECRET"}]')
    with pytest.raises(DatasetError) as caught:
        list(read(path, RlRow))
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"[]", as_parquet([rl()])[:0]])
def test_a_file_without_rows_is_fatal(tmp_path: Path, content: bytes):
    with pytest.raises(DatasetError, match=r"holds no row that can be used \(0 malformed\)"):
        list(read(written(tmp_path / "rows.json", content), RlRow))


def test_a_file_of_malformed_rows_alone_is_fatal(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", as_lines([{**rl(), "mid_position": 0}] * 3))
    with pytest.raises(DatasetError, match=r"3 malformed; the first: line 1: mid_position must be"):
        list(read(path, RlRow))


def test_a_path_without_data_is_refused_at_once(tmp_path: Path):
    with pytest.raises(DatasetError, match="absent does not exist"):
        read(tmp_path / "absent", RlRow)
    with pytest.raises(DatasetError, match="holds no file that ends with"):
        read(tmp_path, RlRow)
    for name in ("a.jsonl", "b.parquet"):
        written(tmp_path / name, FORMATS[f"rows{Path(name).suffix}"]([rl()]))
    with pytest.raises(DatasetError, match=r"several formats \(.jsonl, .parquet\)"):
        read(tmp_path, RlRow)


# --- memory ------------------------------------------------------------------------------------

PEAK_MB = """
import sys
from pathlib import Path
from training.data.formats import RlRow
from training.data.reading import read
rows = sum(1 for _ in read(Path(sys.argv[1]), RlRow))
print(rows, int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def peak_mb(path: Path, rows: int) -> float:
    """The highest resident memory of a process that reads the file."""
    command = [sys.executable, "-c", PEAK_MB, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    counted, peak = done.stdout.split()
    assert int(counted) == rows
    return float(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.parquet", "rows.jsonl.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str):
    def peak(rows: int) -> float:
        raw = [rl(number) for number in range(rows)]
        return peak_mb(written(tmp_path / name, FORMATS[name](raw)), rows)

    few, many = peak(2_000), peak(20_000)
    # As Python objects, 18 000 rows more would take over 60 MB; Parquet's pages grow to their full size.
    assert many - few < 35
