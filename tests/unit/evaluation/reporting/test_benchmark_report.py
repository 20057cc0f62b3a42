"""The report of benchmark results: every word and mark follows from results made by hand."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from evaluation.reporting.benchmark_report import main, write
from evaluation.reporting.collect import gather
from evaluation.reporting.document import Picture, Table, Text, markdown, plain
from evaluation.reporting.html_page import page
from tests.unit.evaluation.reporting.made_up import conversion, result, saved, scores
from training.exceptions import ConfigError, DatasetError

GOLDEN = Path(__file__).with_name("golden") / "results.md"
PYPROJECT = Path(__file__).resolve().parents[4] / "pyproject.toml"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps what a browser would load or follow."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Page:
    found = Page()
    found.feed(html)
    found.close()
    assert found.open == []
    return found


def test_markdown_is_golden(tmp_path: Path):
    write(gather([saved(tmp_path / "given")]), tmp_path / "out")
    assert (tmp_path / "out" / "results.md").read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(tmp_path: Path):
    _, html = write(gather([saved(tmp_path / "given")]), tmp_path / "out")
    text = html.read_text(encoding="utf-8")
    found = read(text)
    assert not re.search(r"(https?:)?//\w", re.sub(r"base64,[^\"]+", "", text).replace("http://engine/v1", ""))
    assert len(found.links) == found.seen.count("img") == 4
    assert all(link.startswith("data:image/svg+xml;base64,") for link in found.links)
    assert not {"script", "link", "iframe", "a"} & set(found.seen)
    assert "prefers-color-scheme: dark" in text


def test_text_of_results_is_no_markup(tmp_path: Path):
    table = Table(("a",), (("<b>x</b> | `y`",),))
    html = page([table, Text("1 < 2 & `<i>`")], title="<t>", pictures=tmp_path)
    assert not {"b", "i", "t"} & set(read(html).seen)
    assert "<code>&lt;i&gt;</code>" in html
    assert markdown([table], pictures="").splitlines()[-1] == "| <b>x</b> \\| `y` |"


def test_plots_are_images_with_the_same_bytes_twice(tmp_path: Path):
    measured = gather([saved(tmp_path / "given")])
    for name in ("one", "two"):
        write(measured, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one" / "results").glob("*.svg"))
    assert names == ["accuracy.svg", "calibration.svg", "cost.svg", "streaming.svg"]
    for name in names:
        one, two = ((tmp_path / folder / "results" / name).read_bytes() for folder in ("one", "two"))
        assert one == two
        assert ET.fromstring(one).tag.endswith("svg")


def test_what_was_not_measured_is_not_drawn(tmp_path: Path):
    given = saved(tmp_path / "given")
    write(gather([given]), tmp_path / "out")
    write(gather([given / "psoups-style.json"]), tmp_path / "out")
    assert not (tmp_path / "out" / "results" / "streaming.svg").exists(), "an earlier report's plot is gone"
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "streaming.svg" not in text
    assert "cost.svg" not in text
    assert text.count("not measured") == 8
    assert "Nothing is known of the conversion of: psoups-style." in text


def test_a_benchmark_measured_twice_is_told(tmp_path: Path):
    for name in ("one", "two"):
        result("mind", {"profile": scores(0.6)}).save(tmp_path / f"{name}.json")
    with pytest.raises(DatasetError, match=r"one\.json and .*two\.json both measure mind as profile; leave one out"):
        gather([tmp_path])
    assert len(gather([tmp_path / "one.json", tmp_path / "one.json"]).lines) == 1, "one file named twice is one"


def test_different_rows_are_told(tmp_path: Path):
    result("mind", {"profile": scores(0.6)}).save(tmp_path / "one.json")
    first = result("mind", {"full": scores(0.7)}, stage="other", users=40)
    first.save(tmp_path / "two.json")
    assert len(gather([tmp_path]).lines) == 2, "the first rows of the same file"
    first.model_copy(update={"users": first.users[::-1]}).save(tmp_path / "two.json")
    with pytest.raises(DatasetError, match=r"measure mind on different rows \(200 and 40\)"):
        gather([tmp_path])


def test_a_note_of_other_rows_is_told(tmp_path: Path):
    result("mind", {"profile": scores(0.6)}).save(tmp_path / "mind.json")
    conversion("mind", sha256="another").save(tmp_path / "mind.conversion.json")
    with pytest.raises(DatasetError, match=r"mind\.conversion\.json tells of other rows"):
        gather([tmp_path])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"format": "x"}', r"its field format is 'x', not 'alignx-evaluation/1'"),
        ("[1]", "its field format is None"),
        ("{", "cannot be read as JSON"),
        ('{"format": "alignx-evaluation/1"}', "is no result of evaluation: stage"),
        ('{"format": "alignx-conversion/1"}', "is no note of a conversion: name"),
    ],
)
def test_other_files_are_told(tmp_path: Path, content: str, told: str):
    path = tmp_path / "given.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=told):
        gather([path])


def test_the_command_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "no result of a benchmark in" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="absent does not exist"):
        gather([tmp_path / "absent"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write(gather([saved(tmp_path / "given")]), tmp_path / "file")


def test_the_command_writes_and_names_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main([str(saved(tmp_path / "given")), "--out", str(tmp_path / "out")])
    told = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert told == [tmp_path / "out" / "results.md", tmp_path / "out" / "results" / "index.html"]
    assert all(path.is_file() for path in told)


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "example: python -m evaluation.reporting.benchmark_report " in " ".join(capsys.readouterr().out.split())


def test_a_plain_table_stands_in_columns():
    assert (
        plain(Table(("name", "n"), (("a", "10"), ("long name", "2")))) == "name        n\na          10\nlong name   2"
    )


def test_a_picture_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(OSError, match=r"absent\.svg"):
        page([Picture("absent.svg", "")], title="", pictures=tmp_path)
