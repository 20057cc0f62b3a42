import pytest

from docs.write_systems import PAGE, read_published, read_speed, render_page


def test_the_page_is_of_the_results_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "run: python -m docs.write_systems"


def test_a_figure_that_no_result_holds_stops_the_writing() -> None:
    with pytest.raises(AssertionError, match="no speed of sft"):
        read_speed("| dpo: ours by plain | 2 | × |", "sft")
    with pytest.raises(AssertionError, match="nothing published"):
        read_published("# Results\n\n## Beside published figures\n\n## More\n")
