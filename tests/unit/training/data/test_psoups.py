"""The readers on real public rows: P-Soups, in every format they can be kept in."""

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.prompts.build import update_prompt
from training.data.formats import AlignXRow, interactions
from training.data.inspect import app
from training.data.reading import ReadReport, read

SHARED_DATA = Path(__file__).resolve().parents[5] / "shared" / "data"
FILES = ("friendly_unfriendly.json", "student_phd.json")


@pytest.fixture(scope="module")
def psoups() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent: this test reads real public data that is not part of the project")
    return SHARED_DATA / "psoups"


@pytest.mark.parametrize("name", FILES)
def test_real_rows_are_read_whole(psoups: Path, name: str):
    report = ReadReport()
    rows = list(read(psoups / name, AlignXRow, malformed="fatal", report=report))
    assert len(rows) == 300
    assert set(report.unread) == {"ground_truth_persona", "profile"}
    for row in rows:
        history = interactions(row)
        assert len(history) == 4
        prompt = update_prompt(None, history, past_tokens=500)
        assert prompt.messages[1]["content"].count("<chosen>") == 4


@pytest.mark.parametrize("name", FILES)
def test_real_rows_survive_the_way_through_other_formats(psoups: Path, tmp_path: Path, name: str):
    rows = list(read(psoups / name, AlignXRow))
    assert [row.prompt for row in rows] == [raw["prompt"] for raw in json.loads((psoups / name).read_bytes())]
    lines = "".join(json.dumps(row.on_disk()) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for copy in ("rows.jsonl", "rows.jsonl.gz"):
        assert list(read(tmp_path / copy, AlignXRow, malformed="fatal")) == rows


def test_what_the_command_says_of_real_rows(psoups: Path):
    done = CliRunner().invoke(app, [str(psoups / FILES[0]), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["kind"], found["figures"]["rows"], found["malformed"]) == ("alignx", 300, {})
    assert found["figures"]["spreads"]["history"]["mean"] == 4
    assert any("length alone" in warning for warning in found["warnings"]), "78 % of the chosen answers are longer"
