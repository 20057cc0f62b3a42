"""The fast profile measured in several ways: what each adds or takes away."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from alignx.schemas.interactions import PurchaseInteraction
from alignx.schemas.items import ItemFields
from evaluation.cases.cases import Case, parts
from evaluation.conditions import OF_MEANING, PROFILES, SEMANTIC, Protocol
from evaluation.config import Evaluation
from evaluation.scoring.choice_scores import Choice, folded, foreseen, profile_of
from evaluation.scoring.measure import measure_profile
from evaluation.scoring.metrics import right
from evaluation.scoring.profile_scores import MEASURED, by_meaning, popular, possible, texts_of
from services.profile.serialize import dumps, loads
from services.profile.statistics import EMPTY
from tests.unit.evaluation.tastes import users
from training.exceptions import ConfigError


def hits(choices: list[Choice]) -> list[float]:
    return [right(choice.probabilities) for choice in choices]


def test_each_way_is_a_setting() -> None:
    assert (*MEASURED, *OF_MEANING) == PROFILES


def test_what_the_rows_do_not_allow_is_left_out(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    assert possible(cases) == ["profile", "profile-text", "profile-flipped"]
    told = [replace(case, popularity=(3.0, 1.0)) for case in cases]
    assert possible(told) == [*MEASURED]
    alone = [replace(case, history=(PurchaseInteraction(item="tea"),)) for case in cases]
    assert "profile-flipped" not in possible(alone)


@pytest.mark.parametrize("setting", ["profile-text", "profile-flipped"])
def test_tastes_are_found_by_the_text_and_through_errors(tmp_path: Path, setting: str) -> None:
    scores = asyncio.run(measure_profile(setting, users(tmp_path, 20), Protocol()))
    assert scores.accuracy.mean > 0.8


@pytest.mark.parametrize("count", [1, 2, 5])
def test_folded_in_parts_and_stored_between_the_profile_is_the_same(tmp_path: Path, count: int) -> None:
    """So there is no setting for it."""
    for case in users(tmp_path, 6):
        profile = EMPTY
        for part in parts(case, count):
            profile = loads(dumps(folded(part, profile)))
        assert profile == loads(dumps(profile_of(case)))


def test_all_choices_flipped_is_the_opposite_taste(tmp_path: Path) -> None:
    assert set(hits(MEASURED["profile-flipped"](users(tmp_path, 10), Protocol(flip=1.0)))) == {0.0}


def test_popularity_is_given_with_the_items(tmp_path: Path) -> None:
    (case,) = users(tmp_path, 1)
    unread = replace(case, history=(), popularity=(1.0, 7.0))
    chosen, rejected = popular(unread)
    assert isinstance(chosen, ItemFields)
    assert isinstance(rejected, ItemFields)
    assert (chosen.title, rejected.title) == (unread.target.chosen, unread.target.rejected)
    (choice,) = MEASURED["profile-popularity"]([unread], Protocol())
    assert choice.probabilities == pytest.approx((0.2, 0.8))
    (silent,) = MEASURED["profile-popularity"]([case], Protocol())
    assert silent == foreseen(case)


def test_meaning_adds_what_the_vectors_tell(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)

    def score(case: Case, sign: float) -> float:
        taken = {pair.chosen for event in case.history for pair in event.pairs()} | {case.target.chosen}
        vectors = {text: (sign, 0.0) if text in taken else (0.0, sign) for text in texts_of([case])}
        return by_meaning([case], vectors)[0].probabilities[0]

    for case in cases:
        assert score(case, 1.0) > foreseen(case).probabilities[0]


def test_meaning_needs_embeddings() -> None:
    with pytest.raises(ConfigError, match="needs --embeddings"):
        Evaluation(Path("out"), "x", data=Path(__file__), settings=(SEMANTIC,)).check()
