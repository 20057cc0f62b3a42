"""The table of the folders is written from the imports as they are."""

import re

import pytest

from docs.write_architecture import PAGE, ROOT, page, reduce_graph


def test_the_table_is_of_the_code_as_it_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m docs.write_architecture"


def test_an_import_that_another_way_implies_is_left_out() -> None:
    assert reduce_graph({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": ["b"], "b": ["c"], "c": []}


@pytest.mark.parametrize("page", ["AGENTS.md", "docs/architecture.md", "docs/glossary.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:alignx|services|gateway|training|evaluation|docker|docs|tests)/[\w./-]+)`", text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
