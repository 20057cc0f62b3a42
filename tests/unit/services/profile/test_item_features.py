"""What is read of an item, and what its fields count for."""

import math

import pytest

from alignx.schemas.interactions import ClickInteraction, Interaction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import ItemFields
from services.profile.item_features import extract_features
from services.profile.scoring import scores
from services.profile.statistics import EMPTY
from tests.unit.services.profile.histories import folded, lead


def test_words_of_a_name_stand_alone_and_in_pairs():
    known = extract_features(ItemFields(title="Dark Souls III - Xbox One")).terms
    assert known == ["dark", "souls", "iii", "xbox", "dark souls", "souls iii", "iii xbox", "xbox one"]
    assert "playstation 4" in extract_features(ItemFields(title="Journey - PlayStation 4")).terms


def test_a_year_is_no_part_of_a_name():
    view = extract_features(ItemFields(title="Toy Story (1995)"))
    assert view.terms == ["toy", "story", "toy story"]
    assert view.year == 1995


@pytest.mark.parametrize(
    ("title", "fields", "year"),
    [
        ("Film", {"year": 1994}, 1994),
        ("Film (1950)", {"released": "1994-05-01"}, 1994),
        ("Film (1950)", {"year": "unknown"}, 1950),
        ("1984", {}, None),
        ("Film (12345)", {"year": 12345}, None),
        ("Film", {"year": True}, None),
    ],
)
def test_a_year_is_read_from_a_field_or_from_brackets(title: str, fields: dict[str, object], year: float | None):
    assert extract_features(ItemFields.model_validate({"title": title, **fields})).year == year


@pytest.mark.parametrize("given", [-1, math.inf, math.nan, "many", None, True])
def test_a_popularity_that_is_no_count_says_nothing(given: object):
    assert extract_features(ItemFields.model_validate({"title": "Film", "popularity": given})).popularity is None


def test_popularity_adds_to_what_is_known_of_the_user():
    known = ItemFields.model_validate({"title": "Pac-Man", "popularity": 99})
    rare = ItemFields.model_validate({"title": "Solstice", "popularity": 9})
    unsaid = ItemFields(title="Frogger")
    assert lead(EMPTY, "", known, rare) == pytest.approx(math.log(10))
    assert scores(EMPTY, "", (known, unsaid)) == [0, 0]
    bought: list[Interaction] = [PurchaseInteraction(item=ItemFields(title="Solstice"))] * 12
    assert lead(folded(bought), "", known, rare) < 0


def test_items_of_the_usual_years_fit_better():
    history: list[Interaction] = [
        RatingInteraction(item=ItemFields(title=f"{name} ({year})"), value=5)
        for name, year in (("Up", 1951), ("Gilda", 1946), ("Laura", 1944), ("Rope", 1948))
    ]
    assert lead(folded(history), "", ItemFields(title="Harvey (1950)"), ItemFields(title="Speed (1994)")) > 0


def test_pairs_tell_names_apart():
    history: list[Interaction] = [ClickInteraction(clicked=ItemFields(title="Halo 5 - Xbox One"))] * 3
    assert lead(folded(history), "", ItemFields(title="Forza - Xbox One"), ItemFields(title="Forza - Xbox 360")) > 0
