"""docs/how-to/family.md states the published values; the shipped configurations have them, and cost what it says."""

import tomllib
from pathlib import Path

import pytest

from training.runs.stage_costs import GPUS, STAGES, Stage, line

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "family.md"


def test_the_configurations_have_the_published_values() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if ".toml" in line and line.startswith("|")
    ]
    assert len(rows) > 25
    for files, field, published in rows:
        section, name = field.split(".")
        for file in files.split(", "):
            config = tomllib.loads((ROOT / "training" / "configs" / file).read_text(encoding="utf-8"))
            assert (file, field, config[section][name]) == (file, field, float(published))


@pytest.mark.parametrize("stage", [STAGES[1], STAGES[3]], ids=lambda stage: stage.name)
def test_the_page_has_the_costs_of_the_stages(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(GPUS))
    assert line(stage, tmp_path) in PAGE.read_text(encoding="utf-8").splitlines()
