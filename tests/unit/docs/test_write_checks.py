from docs.write_checks import PAGE, render_page


def test_the_counts_are_of_the_checks_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "run: python -m docs.write_checks"
