"""How well clauses are read, on the labelled clauses of this folder.

`seen.jsonl` was open to the author of reader and lexicons, `unseen.jsonl` was not: its figures are the ones to quote.
They stay below the bars that are wanted (F1 .9 in English, .8 elsewhere; docs/results/clauses.md says why), so for it
the floors are what stands, and a change that reads worse fails.
"""

import pytest

from tests.clauses.measure import SEEN, UNSEEN, f1, load, measure, total
from tests.clauses.trials import read_rows, run_trials

BARS = {"en": 0.9}
BAR = 0.8
MAX_FALSE = 0.02
UNSEEN_F1, UNSEEN_FALSE = 0.68, 0.05
ORDERED = {"en": 0.72, "other": 0.72, "nothing": 0.95}
"""Least share of unseen trials in which a statement orders two items right, or rightly moves nothing."""


def test_seen_clauses_are_read_as_labelled() -> None:
    by_language = measure(load(SEEN))
    below = {language: f1(total(rows)) for language, rows in by_language.items()}
    assert {language: value for language, value in below.items() if value < BARS.get(language, BAR)} == {}
    counts = total(row for rows in by_language.values() for row in rows)
    assert counts.false <= MAX_FALSE * counts.empty


def test_unseen_clauses_are_read_no_worse_than_before() -> None:
    counts = total(row for rows in measure(load(UNSEEN)).values() for row in rows)
    assert f1(counts) >= UNSEEN_F1
    assert counts.false <= UNSEEN_FALSE * counts.empty


@pytest.mark.parametrize("kind", ORDERED)
def test_what_is_said_orders_items(kind: str) -> None:
    right = [trial.right for trial in run_trials(read_rows(UNSEEN)) if trial.kind == kind]
    assert sum(right) / len(right) >= ORDERED[kind]
