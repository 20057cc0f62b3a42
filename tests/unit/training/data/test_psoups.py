"""The readers on real public rows: P-Soups."""

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


def test_what_the_command_says_of_real_rows(psoups: Path):
    done = CliRunner().invoke(app, [str(psoups / FILES[0]), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["kind"], found["figures"]["rows"], found["malformed"]) == ("alignx", 300, {})
    assert found["figures"]["spreads"]["history"]["mean"] == 4
    assert any("length alone" in warning for warning in found["warnings"]), "78 % of the chosen answers are longer"
