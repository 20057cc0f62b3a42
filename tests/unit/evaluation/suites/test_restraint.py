"""The rows of restraint, and what scorers of known habits make of them."""

from collections import Counter

import pytest

from evaluation.cases.benchmark import Tally
from evaluation.cases.table_files import read_json
from evaluation.scoring.choice_scores import Choice
from evaluation.suites import restraint
from evaluation.suites.restraint import ROWS, RestraintRow, is_shown, measure_restraint


def rows() -> list[RestraintRow]:
    tally = Tally()
    found = [row for _, row in read_json(ROWS, tally, "rows", RestraintRow)]
    assert not tally.left_out
    return found


def test_rows_are_of_four_kinds_and_their_words_find_the_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restraint, "keep_relevant", lambda text, _: text)
    assert Counter(row.kind for row in rows()) == {"cross-domain": 24, "in-domain": 12, "fact": 14, "bias": 14}
    for row in rows():
        stated = " ".join(row.stated).casefold()
        assert any(word in stated for word in row.words)
        assert is_shown(row, row.case()), "the summary quotes what was stated"


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (0.5, (0.0, 0.5, 0.5, 1.0)),
        (0.4, (1.0, 0.0, 0.0, 0.0)),
        (0.9, (0.0, 1.0, 1.0, 1.0)),
    ],
    ids=["knows nothing", "takes the lure", "takes what is right"],
)
def test_scorers_of_known_habits(
    monkeypatch: pytest.MonkeyPatch, first: float, expected: tuple[float, float, float, float]
) -> None:
    monkeypatch.setattr(restraint, "choose_by_profile", lambda _: Choice((first, 1 - first)))
    measured = list(measure_restraint().values())
    assert tuple(value.mean for value in measured[:4]) == expected
    assert {half for value in measured for half in value.halves} == {"development", "kept"}
