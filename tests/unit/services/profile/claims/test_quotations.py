"""What is quoted of a user, and what is better not."""

import pytest

from alignx.schemas.interactions import (
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    Message,
    RatingInteraction,
)
from alignx.schemas.items import ItemFields
from services.profile.render import render
from tests.unit.services.profile.histories import folded, told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("I prefer a call on 07700 900123.", '"I prefer a call on [number]."'),
        ("I like mail: ada@example.org", '"I like mail: [email]"'),
        ("I love the years 2019-2024.", '"I love the years 2019-2024."'),
    ],
)
def test_identifiers_are_masked(text: str, shown: str) -> None:
    assert shown in told(text)


def test_what_turns_out_otherwise_no_longer_holds() -> None:
    text = told("I'm allergic to nuts.", "Turns out I am not allergic to nuts after all.")
    assert 'No longer holds: "I\'m allergic to nuts."' in text


def test_what_is_said_as_past_is_no_double_negative() -> None:
    assert "No longer holds" not in told("I no longer eat meat.")


def test_facts_stand_apart_from_wishes() -> None:
    text = render(folded([DemographicInteraction(text="Retired teacher, 71.")]))
    assert text.startswith('About them: "Retired teacher, 71."')


@pytest.mark.parametrize(
    "text",
    [
        "Wow, those are great ideas!",
        "I'll go with option 4.",
        "I teach two classes.",
        "My values are below, and corrections are welcome.",
    ],
)
def test_small_talk_is_not_quoted(text: str) -> None:
    turn = Message(role="user", content=text)
    assert text not in render(folded([DialogueInteraction(messages=(turn,))]))


def test_what_is_taken_and_rated_low_is_no_taste() -> None:
    def rated(category: str, *values: float) -> list[Interaction]:
        return [
            RatingInteraction(item=ItemFields(title=f"{category} {n}", category=category), value=value)
            for n, value in enumerate(values)
        ]

    text = render(folded([*rated("Comedy", 5, 5, 5, 5, 5), *rated("Horror", 1, 2, 1, 1)]))
    assert "Clearly drawn to Comedy" in text
    assert "Cares little for Horror." in text


def test_what_turns_out_the_same_strikes_nothing() -> None:
    assert "No longer holds" not in told("I love jazz.", "Turns out I really do love jazz.")
