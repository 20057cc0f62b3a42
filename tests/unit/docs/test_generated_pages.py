"""Each generated page is as the code, or the results beside it, are now."""

from collections.abc import Callable
from pathlib import Path

import pytest

from docs import write_architecture, write_checks, write_figures, write_reference, write_summaries, write_systems

WRITTEN = [
    ("write_architecture", write_architecture.PAGE, write_architecture.page),
    ("write_checks", write_checks.PAGE, write_checks.render_page),
    ("write_figures", write_figures.README, write_figures.render_page),
    ("write_summaries", write_summaries.PAGE, write_summaries.render_page),
    ("write_systems", write_systems.PAGE, write_systems.render_page),
    *(("write_reference", write_reference.FOLDER / name, page) for name, page in write_reference.PAGES.items()),
]


@pytest.mark.parametrize(("command", "path", "render"), WRITTEN, ids=[path.name for _, path, _ in WRITTEN])
def test_a_page_is_as_its_command_writes_it(command: str, path: Path, render: Callable[[], str]) -> None:
    assert path.read_text(encoding="utf-8") == render(), f"run: python -m docs.{command}"


def test_a_figure_that_no_result_holds_stops_the_writing() -> None:
    with pytest.raises(AssertionError, match="has no figure"):
        write_figures.render_costs("# Benchmarks\n")
    with pytest.raises(AssertionError, match="no speed of sft"):
        write_systems.read_speed("| dpo: ours by plain | 2 | × |", "sft")
    with pytest.raises(AssertionError, match="nothing published"):
        write_systems.read_published("# Results\n\n## Beside published figures\n\n## More\n")


def test_an_import_that_another_way_implies_is_left_out() -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert write_architecture.reduce_graph(graph) == {"a": ["b"], "b": ["c"], "c": []}
