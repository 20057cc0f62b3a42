"""The report of benchmark results: every word and mark follows from results made by hand."""

from pathlib import Path

import pytest

from evaluation.reporting.benchmark_report import write
from evaluation.reporting.collect import gather
from evaluation.reporting.document import Table, markdown, plain
from evaluation.reporting.plots import MAX_BENCHMARK_BYTES
from tests.unit.evaluation.reporting.sample_results import conversion, result, save_samples, scores
from training.exceptions import ConfigError, DatasetError

GOLDEN = Path(__file__).with_name("golden") / "accuracy.md"


def test_markdown_is_golden(tmp_path: Path):
    write(gather([save_samples(tmp_path / "given")]), tmp_path / "out")
    assert (tmp_path / "out" / "accuracy.md").read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8")


def test_text_of_results_does_not_break_a_table():
    assert markdown([Table(("a",), (("x | `y`",),))]).splitlines()[-1] == "| x \\| `y` |"


def test_the_plot_is_a_small_image_with_the_same_bytes_twice(tmp_path: Path):
    results = gather([save_samples(tmp_path / "given")])
    one, two = (write(results, tmp_path / name)[1].read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.startswith(b"\x89PNG")
    assert 3_000 < len(one) <= MAX_BENCHMARK_BYTES


def test_what_was_not_measured_is_said(tmp_path: Path):
    given = save_samples(tmp_path / "given")
    text = write(gather([given / "psoups-style.json"]), tmp_path / "out")[0].read_text(encoding="utf-8")
    assert text.count("not measured") == 8
    assert "Nothing is known of the conversion of: psoups-style." in text


def test_a_benchmark_measured_twice_is_refused(tmp_path: Path):
    for name in ("one", "two"):
        result("mind", {"profile": scores(0.6)}).save(tmp_path / f"{name}.json")
    with pytest.raises(DatasetError, match=r"one\.json and .*two\.json both measure mind as profile; leave one out"):
        gather([tmp_path])
    assert len(gather([tmp_path / "one.json", tmp_path / "one.json"]).lines) == 1, "one file named twice is one"


def test_different_rows_are_refused(tmp_path: Path):
    result("mind", {"profile": scores(0.6)}).save(tmp_path / "one.json")
    first = result("mind", {"full": scores(0.7)}, stage="other", users=40)
    first.save(tmp_path / "two.json")
    assert len(gather([tmp_path]).lines) == 2, "the first rows of the same file"
    first.model_copy(update={"users": first.users[::-1]}).save(tmp_path / "two.json")
    with pytest.raises(DatasetError, match=r"measure mind on different rows \(200 and 40\)"):
        gather([tmp_path])


def test_a_note_of_other_rows_is_refused(tmp_path: Path):
    result("mind", {"profile": scores(0.6)}).save(tmp_path / "mind.json")
    conversion("mind", sha256="another").save(tmp_path / "mind.conversion.json")
    with pytest.raises(DatasetError, match=r"mind\.conversion\.json is of other rows"):
        gather([tmp_path])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"format": "x"}', r"field format is 'x', not 'alignx-evaluation/1'"),
        ("[1]", "field format is None"),
        ("{", "cannot be read as JSON"),
        ('{"format": "alignx-evaluation/1"}', "is no result of evaluation: stage"),
        ('{"format": "alignx-conversion/1"}', "is no note of a conversion: name"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: str, sentence: str):
    path = tmp_path / "given.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=sentence):
        gather([path])


def test_files_that_are_absent_or_cannot_be_written_are_named(tmp_path: Path):
    with pytest.raises(DatasetError, match="no result of a benchmark in"):
        gather([tmp_path])
    with pytest.raises(DatasetError, match="absent does not exist"):
        gather([tmp_path / "absent"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write(gather([save_samples(tmp_path / "given")]), tmp_path / "file")


def test_a_plain_table_stands_in_columns():
    assert (
        plain(Table(("name", "n"), (("a", "10"), ("long name", "2")))) == "name        n\na          10\nlong name   2"
    )
