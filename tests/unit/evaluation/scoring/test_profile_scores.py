"""The fast profile measured in several ways: what each adds or takes away."""

from dataclasses import replace
from pathlib import Path

import pytest

from alignx.schemas.interactions import PurchaseInteraction, StatementInteraction
from evaluation.cases.cases import fold_events
from evaluation.cases.perturbations import split_history
from evaluation.conditions import PROFILE_SETTINGS, Protocol
from evaluation.scoring.calibration import hit
from evaluation.scoring.choice_scores import Choice, choose_by_profile
from evaluation.scoring.measure import measure_profile
from evaluation.scoring.profile_scores import (
    VARIANTS,
    add_popularity,
    list_variants,
)
from services.profile.serialize import dumps, loads
from services.profile.statistics import EMPTY
from tests.unit.evaluation.tastes import users


def hits(choices: list[Choice]) -> list[float]:
    return [hit(choice.probabilities) for choice in choices]


def test_each_way_is_a_setting() -> None:
    assert tuple(VARIANTS) == PROFILE_SETTINGS


def test_what_the_rows_do_not_allow_is_left_out(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    possible = ["profile", "profile-text", "profile-flipped", "without-meaning", "without-words", "without-style"]
    assert list_variants(cases) == possible
    popular = [replace(case, popularity=(3.0, 1.0)) for case in cases]
    assert set(list_variants(popular)) == {*possible, "profile-popularity"}
    alone = [replace(case, history=(PurchaseInteraction(item="tea"),)) for case in cases]
    assert "profile-flipped" not in list_variants(alone)


@pytest.mark.parametrize("setting", ["profile-text", "profile-flipped"])
def test_tastes_are_found_by_the_text_and_through_errors(tmp_path: Path, setting: str) -> None:
    scores = measure_profile(setting, users(tmp_path, 20), Protocol())
    assert scores.accuracy.mean > 0.8


@pytest.mark.parametrize("count", [1, 2, 5])
def test_folded_in_parts_and_stored_between_the_profile_is_the_same(tmp_path: Path, count: int) -> None:
    """So there is no setting for it."""
    for case in users(tmp_path, 6):
        profile = EMPTY
        for part in split_history(case, count):
            profile = loads(dumps(fold_events(part, profile)))
        assert profile == loads(dumps(case.profile))


def test_all_choices_flipped_is_the_opposite_taste(tmp_path: Path) -> None:
    assert set(hits(VARIANTS["profile-flipped"](users(tmp_path, 10), Protocol(flip=1.0)))) == {0.0}


def test_popularity_is_given_with_the_items(tmp_path: Path) -> None:
    (case,) = users(tmp_path, 1)
    unread = replace(case, history=(), popularity=(1.0, 7.0))
    chosen, rejected = add_popularity(unread)
    assert (chosen.title, rejected.title) == (unread.target.chosen, unread.target.rejected)
    (choice,) = VARIANTS["profile-popularity"]([unread], Protocol())
    assert choice.probabilities == pytest.approx((0.2, 0.8))
    (silent,) = VARIANTS["profile-popularity"]([case], Protocol())
    assert silent == choose_by_profile(case)


def test_a_part_is_worth_what_is_lost_without_it(tmp_path: Path) -> None:
    cases = users(tmp_path, 6)
    whole, wordless = (VARIANTS[name](cases, Protocol()) for name in ("profile", "without-words"))
    for choice, without in zip(whole, wordless, strict=True):
        assert choice.probabilities[0] > without.probabilities[0], "the drink is a word"
    stated = [replace(case, history=(StatementInteraction(text="I love tea."),)) for case in cases]
    assert hits(VARIANTS["profile"](stated, Protocol())) == [1.0, 0.0] * 3
    assert hits(VARIANTS["without-clauses"](stated, Protocol())) == [0.5] * 6
