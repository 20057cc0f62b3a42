"""The page on security names tests and files that exist."""

import re

from docker.supply.locks import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(\w[\w/]*\.py)::(test_\w+)`")


def test_every_test_that_the_page_names_exists() -> None:
    named = set(TEST.findall(PAGE))
    assert len(named) == len(re.findall(r"::test_", PAGE)) > 30
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not re.search(rf"def {name}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"))
    ]
    assert missing == []


def test_every_row_of_a_threat_names_a_test() -> None:
    section = PAGE.partition("## What is defended\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert [row for row in rows if not TEST.search(row)] == []


def test_settings_of_the_page_exist() -> None:
    reference = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert [name for name in re.findall(r"ALIGNX_\w+", PAGE) if f"`{name}`" not in reference] == []
