"""The bars of the clause reader, on the labelled clauses of this folder."""

import pytest

from tests.clauses.measure import SEEN, UNSEEN, f1, load, measure, total

BARS = {"en": 0.9}
BAR = 0.8
MAX_FALSE = 0.02
FILES = [path for path in (SEEN, UNSEEN) if path.exists()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_clauses_are_read_as_labelled(path: Path) -> None:
    by_language = measure(load(path))
    below = {language: f1(total(rows)) for language, rows in by_language.items()}
    assert {language: value for language, value in below.items() if value < BARS.get(language, BAR)} == {}
    counts = total(row for rows in by_language.values() for row in rows)
    assert counts.false <= MAX_FALSE * counts.empty
