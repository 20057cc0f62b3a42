"""Reversed events of every kind, and cases from benchmark rows."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignx.schemas.interactions import (
    INTERACTION,
    ClickInteraction,
    Interaction,
    PurchaseInteraction,
    RatingInteraction,
)
from evaluation.cases.cases import Case, read_cases
from evaluation.cases.perturbations import flip_choices, is_reversible, reverse_event
from tests.unit.evaluation.official import lines
from training.data.reading import ReadReport
from training.exceptions import DatasetError

NAMES = st.sampled_from(["ale", "bun", "cod", "dip", "egg"])
PAGES = st.lists(NAMES, max_size=5, unique=True).map(tuple)
RATINGS = st.builds(lambda value: {"type": "rating", "item": "ale", "value": value}, st.sampled_from([1, 2, 3, 4, 5]))
PAIRS = st.tuples(NAMES, NAMES).map(lambda two: {"type": "comparison", "chosen": two[0], "rejected": two[1]})
CLICKS = st.builds(lambda one, page: {"type": "click", "clicked": one, "shown": page}, NAMES, PAGES)
BOUGHT = st.builds(lambda one, page: {"type": "purchase", "item": one, "considered": page}, NAMES, PAGES)
OTHERS = st.sampled_from([{"type": "post", "text": "Hi."}, {"type": "statement", "text": "I like ale."}])
EVENTS = st.one_of(RATINGS, PAIRS, CLICKS, BOUGHT, OTHERS).map(INTERACTION.validate_python)


def sides(event: Interaction) -> tuple[Any, list[Any]]:
    """What was taken, and what was left for it."""
    left = [pair.rejected for pair in event.pairs()]
    if isinstance(event, ClickInteraction):
        return event.clicked, left
    return (event.item if isinstance(event, PurchaseInteraction) else None), left


@given(EVENTS, st.integers(0, 9))
def test_the_other_side_is_taken(event: Interaction, seed: int):
    turned = reverse_event(event, random.Random(seed))
    INTERACTION.validate_python(turned.model_dump())
    if not is_reversible(event):
        assert turned == event
    elif isinstance(event, RatingInteraction):
        assert turned.liking == -event.liking != 0
    elif isinstance(event, ClickInteraction | PurchaseInteraction):
        (before, left), (after, now_left) = sides(event), sides(turned)
        assert after in left
        assert before in now_left
    else:
        swapped = [pair._replace(chosen=pair.rejected, rejected=pair.chosen) for pair in turned.pairs()]
        assert swapped == [*event.pairs()]


def benchmark_row(user: str, **changed: Any) -> dict[str, Any]:
    history = [
        {"type": "post", "text": f"{user} writes"},
        {"type": "rating", "item": {"title": "Ale"}, "value": 5},
        {"type": "click", "clicked": "bun"},
        {"type": "comparison", "chosen": "cod", "rejected": "dip"},
    ]
    target = {"query": "Lunch?", "chosen": {"title": "Cod"}, "rejected": "egg"}
    row = {"userid": user, "benchmark": "meals", "history": history, "target": target}
    return row | {"kind": "fish", "popularity": [3, 2], "others": ["dip"]} | changed


def read(folder: Path, *rows: dict[str, Any]) -> tuple[list[Case], ReadReport]:
    return read_cases(lines(folder / "rows.jsonl", rows), limit=None)


def test_benchmark_rows_become_cases(tmp_path: Path):
    cases, report = read(tmp_path, benchmark_row("u"), {"benchmark": "x"}, benchmark_row("v"))
    assert (report.rows, report.left_out) == (2, 1)
    assert [event.type for event in cases[0].history] == ["post", "rating", "click", "comparison"]
    case = cases[0]
    assert (case.benchmark, case.kind, case.popularity, case.others) == ("meals", "fish", (3, 2), ("dip",))
    assert (case.target.query, case.target.rejected) == ("Lunch?", "egg")
    assert len({case.digest for case in cases}) == 2


def test_only_events_with_another_side_count_for_the_flipped_share(tmp_path: Path):
    cases, _ = read(tmp_path, *(benchmark_row(f"u{n}") for n in range(10)))
    perturbed = flip_choices(cases, 0.3, seed=1)
    changed = [
        then != now
        for before, after in zip(cases, perturbed, strict=True)
        for then, now in zip(before.history, after.history, strict=True)
    ]
    assert sum(changed) == 6, "of 20 ratings and comparisons"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"target": None, "popularity": None, "others": []}, "a row has a target, or a question and a reference"),
        ({"target": {"chosen": "a", "rejected": {"title": "a"}}}, "target: chosen and rejected are the same text"),
        ({"history": []}, "history: has too few entries"),
        ({"profile": "tall"}, "profile: "),
    ],
)
def test_malformed_benchmark_rows_are_told(tmp_path: Path, changed: dict[str, Any], says: str):
    with pytest.raises(DatasetError, match=says):
        read(tmp_path, benchmark_row("u", **changed))
