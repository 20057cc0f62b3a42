"""docs/how-to/family.md states the published values; the shipped configurations have them, and cost what it says."""

import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_the_page_has_the_costs_of_the_stages() -> None:
    command = [sys.executable, "-m", "training.runs.stage_costs"]
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert table.count("\n") > 8
    assert table in PAGE.read_text(encoding="utf-8")
