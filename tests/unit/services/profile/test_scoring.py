"""The fast profile: its scores, its dumps, and laws of both that hold for any history."""

import math
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignx.schemas.interactions import ComparisonInteraction, Interaction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import Item, ItemFields
from services.profile.fold import fold
from services.profile.render import render
from services.profile.scoring import probabilities, scores, softmax
from services.profile.serialize import PROFILE_SCHEMA, dumps, loads
from services.profile.statistics import EMPTY
from tests.unit.services.profile.histories import LONG, SHORT, folded, histories, items, prefers, reason, texts


@settings(max_examples=60, deadline=None)
@given(histories, texts, items, items)
def test_scores_are_finite_and_antisymmetric(history: list[Interaction], query: str, one: Item, other: Item):
    profile = folded(history)
    here, there = scores(profile, query, (one, other))
    back_there, back_here = scores(profile, query, (other, one))
    assert all(math.isfinite(value) for value in (here, there))
    assert here - there == pytest.approx(back_here - back_there, abs=1e-9)
    assert here + there == pytest.approx(back_here + back_there, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(histories, texts, st.lists(items, min_size=1, max_size=6))
def test_probabilities_are_a_distribution_in_the_order_of_scores(
    history: list[Interaction], query: str, offered: list[Item]
):
    profile = folded(history)
    chances = probabilities(profile, query, offered)
    assert len(chances) == len(offered)
    assert sum(chances) == pytest.approx(1)
    assert all(0 < chance <= 1 for chance in chances)
    values = scores(profile, query, offered)
    assert values.index(max(values)) in [i for i, chance in enumerate(chances) if chance == max(chances)]


@settings(max_examples=80, deadline=None)
@given(histories)
def test_a_dump_gives_back_the_same_profile(history: list[Interaction]):
    profile = folded(history)
    again = loads(dumps(profile))
    assert again == profile
    assert dumps(again) == dumps(profile)


def test_an_empty_profile_knows_nothing():
    assert scores(EMPTY, "q", (SHORT, LONG)) == [0, 0]
    assert probabilities(EMPTY, "q", (SHORT, LONG)) == [0.5, 0.5]
    assert probabilities(EMPTY, "q", ()) == []
    assert fold(EMPTY, prefers(SHORT, LONG, 1)[0])[1] == (0.5,)
    assert render(EMPTY) == "Nothing is known about this user's preferences yet."
    assert "Nothing known" in reason(EMPTY, "q", SHORT)
    assert loads(dumps(EMPTY)) == EMPTY


def test_twenty_comparisons_fit_in_two_and_a_half_kilobytes():
    source = random.Random(3)
    profile = EMPTY
    for _ in range(20):
        chosen, rejected = (" ".join(source.choices(LONG.split(), k=17)) for _ in range(2))
        profile, _ = fold(profile, ComparisonInteraction(query="Which one?", chosen=chosen, rejected=rejected))
    assert len(dumps(profile)) <= 2_560


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'"x"', b'{"v": 1}', b"\xff", b'{"v": 1, "n": 1, "s": "AAAA"}'])
def test_loads_refuses_what_is_no_dump(raw: bytes):
    with pytest.raises(ValueError, match=r".+"):
        loads(raw)


def test_loads_refuses_another_schema():
    kept = orjson.loads(dumps(EMPTY)) | {"v": PROFILE_SCHEMA + 1}
    with pytest.raises(ValueError, match="schema"):
        loads(orjson.dumps(kept))


def test_confidence_grows_with_evidence():
    chances = [probabilities(folded(prefers(SHORT, LONG, n)), "q", (SHORT, LONG))[0] for n in (1, 2, 4, 8)]
    assert 0.5 < chances[0] < chances[1] < chances[2] < chances[3] < 1


def test_contradictory_choices_leave_it_undecided():
    history = [*prefers(SHORT, LONG, 1), *prefers(LONG, SHORT, 1)] * 6
    assert 0.3 < probabilities(folded(history), "q", (SHORT, LONG))[0] < 0.7


def test_extreme_prices_and_ratings_stay_finite():
    dear = ItemFields(title="a", price=1e300)
    cheap = ItemFields(title="b", price=1e-300)
    history: list[Interaction] = [PurchaseInteraction(item=dear, considered=(cheap,))] * 200
    history.append(RatingInteraction(item="film", value=0, scale=(-math.inf, 5)))
    history.append(RatingInteraction(item="film", value=1e308, scale=(-1e308, 1e308)))
    assert all(math.isfinite(value) for value in scores(folded(history), "", (dear, cheap)))


def test_softmax_gives_the_odds_of_the_logits() -> None:
    assert softmax([math.log(3), math.log(1)]) == pytest.approx([0.75, 0.25])
    assert softmax([1e308, -1e308]) == [1, 0]
