"""The report: every word and mark follows from results made by hand."""

from datetime import timedelta
from pathlib import Path

import pytest

from evaluation.conditions import Protocol
from evaluation.reporting.collect import collect, collect_folder
from evaluation.reporting.document import Table
from evaluation.reporting.report import render_report, write
from evaluation.results import Source
from services.prompts.profiles import SHIPPED
from tests.unit.evaluation.reporting.sample_results import conversion, result, samples, scores
from training.exceptions import ConfigError, DatasetError

GOLDEN = Path(__file__).with_name("golden") / "accuracy.md"


def test_markdown_is_golden_and_the_plot_a_small_image_with_the_same_bytes_twice(tmp_path: Path):
    plots = []
    for name in ("one", "two"):
        text, plot = write(samples(), tmp_path / name)
        assert text.read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8")
        plots.append(plot.read_bytes())
    assert plots[0] == plots[1]
    assert plots[0].startswith(b"\x89PNG")
    assert 3_000 < len(plots[0]) <= 150_000
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write(samples(), tmp_path / "file")


def test_tables_stand_in_columns_and_text_of_results_does_not_break_them():
    assert Table(("a",), (("x | `y`",),)).markdown().splitlines()[-1] == "| x \\| `y` |"
    table = Table(("name", "n"), (("a", "10"), ("long name", "2")))
    assert table.plain() == "name        n\na          10\nlong name   2"


def test_stages_are_compared_where_they_measure_the_same_users():
    early = result("users", {"full": scores(0.7).model_copy(update={"right": (0.0, 1.0, 0.0, 1.0)})}, users=4)
    late = result(
        "users", {"full": scores(0.8).model_copy(update={"right": (1.0, 1.0, 0.0, 1.0)})}, users=4, stage="rl"
    )
    late = late.model_copy(update={"created_at": early.created_at + timedelta(hours=1)})
    text = render_report(collect([late, early]))
    assert "| users | rl | full - profile: full | +25.0 (" in text
    assert "published" not in text, "none was published for these rows"
    others = late.model_copy(update={"users": ("a", "b", "c", "d")})
    assert "full - profile" not in render_report(collect([others, early]))


def test_the_newest_result_counts_and_none_on_other_rows(capsys: pytest.CaptureFixture[str]):
    old = result("mind", {"profile": scores(0.6)})
    other = result("mind", {"full": scores(0.7)}, stage="other", users=40)
    assert len(collect([old, other]).lines) == 2, "the first rows of the same file"
    new = old.model_copy(update={"created_at": old.created_at + timedelta(hours=1)})
    assert collect([new, old]).results == (("mind", new),)
    moved = new.model_copy(update={"data": old.data.model_copy(update={"sha256": "others"})})
    collected = collect([moved, other, old], [conversion("mind")])
    assert collected.results == (("mind", moved),)
    assert collected.conversions == {}, "a note of other rows"
    shown = capsys.readouterr().err
    assert "measured again or on rows that are no longer there: mind (profile), mind (other)" in shown


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.json", "{", "is no result of evaluation: Invalid JSON"),
        ("x.json", '{"format": "alignx-evaluation/1"}', "is no result of evaluation: format"),
        ("x.conversion.json", '{"format": "alignx-conversion/1"}', "is no note of a conversion: name"),
        (None, "", "there is no result to report"),
    ],
)
def test_what_cannot_be_reported_is_named(tmp_path: Path, name: str | None, content: str, sentence: str):
    (tmp_path / "results").mkdir()
    if name:
        (tmp_path / "results" / name).write_text(content)
    with pytest.raises(DatasetError, match=sentence):
        collect_folder(tmp_path)


def test_a_figure_says_what_of_it_is_not_as_published():
    own = result("mind_upi", {"full": scores(0.7)})
    changes = {
        "comparable": {},
        "rows": {"config": {"limit": 3, "protocol": {"name": "family"}}},
        "protocol": {"config": {"protocol": {"name": "own"}}},
        "judge": {"judge": None},
    }
    as_published = {"config": {"protocol": {"name": "family"}}, "judge": Source(name="Qwen/Qwen3-8B http://gpu/v1")}
    for said, change in changes.items():
        text = render_report(collect([own.model_copy(update=as_published | change)]))
        assert f"200 rows ({said})" in text
    family = {"name": "family"}
    for fields, said in (
        ({"choice": "forced"}, "protocol"),
        ({"history_tokens": 4_096}, "protocol"),
        ({"sampling": {"temperature": 0.1}}, "protocol"),
        ({"selection_prompts": "own"}, "protocol"),
        ({"prompts": str(SHIPPED), "flip": 0.1, "seed": 1}, "comparable"),
    ):
        stored = {"protocol": Protocol.model_validate(family | fields).model_dump(mode="json")}
        text = render_report(collect([own.model_copy(update=as_published | {"config": stored})]))
        assert f"200 rows ({said})" in text, fields
    other = result("mind", {"full": scores(0.7)}).model_copy(update=as_published)
    assert "200 rows (rows)" in render_report(collect([other]))
