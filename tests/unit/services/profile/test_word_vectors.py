"""Nearness in meaning to what was taken before."""

import pytest

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    Interaction,
    PurchaseInteraction,
    RatingInteraction,
)
from alignx.schemas.items import ItemFields
from services.profile.fold import fold
from services.profile.item_features import extract_features
from services.profile.word_vectors import MAX_NEARNESS, embed_items, nearer, nearness
from tests.unit.services.profile.histories import folded, lead

SCARY, ROMANTIC = ItemFields(title="A scary haunted mansion"), ItemFields(title="Two lovers kiss at a wedding")
HORROR, ROMANCE = "Horror film with ghosts", "Romance about a bride"


@pytest.mark.parametrize(
    "event",
    [
        ComparisonInteraction(chosen=HORROR, rejected=ROMANCE),
        ClickInteraction(clicked=HORROR, shown=(ROMANCE, HORROR)),
        ClickInteraction(clicked=HORROR),
        PurchaseInteraction(item=HORROR, considered=(ROMANCE,)),
        PurchaseInteraction(item=HORROR),
        RatingInteraction(item=HORROR, value=5),
    ],
)
def test_items_of_other_words_are_near_by_meaning(event: Interaction) -> None:
    assert lead(folded([event]), "", SCARY, ROMANTIC) > 0


def test_what_was_disliked_does_not_attract() -> None:
    assert folded([RatingInteraction(item=HORROR, value=1)]).direction == b""


def test_the_prediction_of_a_choice_counts_meaning() -> None:
    _, (probability,) = fold(
        folded([PurchaseInteraction(item=HORROR)]), ComparisonInteraction(chosen=SCARY, rejected=ROMANTIC)
    )
    assert probability > 0.5


def test_choices_that_contradict_each_other_tell_little() -> None:
    there, back = (
        ComparisonInteraction(chosen=HORROR, rejected=ROMANCE),
        ComparisonInteraction(chosen=ROMANCE, rejected=HORROR),
    )
    views = [extract_features(item) for item in (SCARY, ROMANTIC)]
    agreed, undecided = (
        nearer(*nearness(folded(history), embed_items(views)), 1.0) for history in ([there] * 12, [there, back] * 6)
    )
    assert abs(undecided) < agreed / 4


def test_more_choices_tell_more_and_stay_bounded() -> None:
    views = [extract_features(item) for item in (SCARY, ROMANTIC)]
    differences = []
    for count in (1, 3, 200):
        first, second = nearness(folded([PurchaseInteraction(item=HORROR)] * count), embed_items(views))
        differences.append(nearer(first, second, 1.0))
    assert differences == sorted(differences)
    assert differences[-1] <= MAX_NEARNESS
    assert nearer(1e9, 0.0, 1.0) == MAX_NEARNESS
