"""docs/how-to/family.md states the published values; the shipped configurations have them."""

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
