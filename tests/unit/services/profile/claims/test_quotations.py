"""What is quoted of a user, and what is better not."""

import pytest

from alignx.schemas.interactions import (
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    Message,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import ItemFields
from services.profile.render import render
from services.profile.stated.sensitive import DEFAULT, Policy
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


OPTIONS = "1. Jazz club\n2. A gay bar downtown\n3. Casino for gambling"


def render_taken(reply: str, *later: str, policy: Policy = DEFAULT) -> str:
    """The text after a reply to `OPTIONS`, and after the statements that came later."""
    turns = (Message(role="assistant", content=OPTIONS), Message(role="user", content=reply))
    profile = folded([DialogueInteraction(messages=turns), *(StatementInteraction(text=text) for text in later)])
    return render(profile, policy)


@pytest.mark.parametrize(
    ("reply", "is_taken"),
    [
        ("I'd rather take option 1.", True),
        ("I think I'll go with option 1.", True),
        ("I like option 1 and not option 3.", True),
        ("Why not? I will take option 1.", True),
        ("I like them all but prefer option 1.", True),
        ("I would never choose option 1.", False),
        ("I'd rather not pick option 1.", False),
        ("I do not like option 1.", False),
        ("I like neither option 1 nor option 3.", False),
        ("I would take anything but option 1.", False),
        ("I'd rather stay home than pick option 1.", False),
        ("Why would I choose option 1?", False),
        ("Why should I choose option 1?", False),
        ("Should I go with option 1?", False),
        ("If I choose option 1, is there food?", False),
    ],
)
def test_an_option_is_taken_where_it_is_not_refused_or_asked_about(reply: str, is_taken: bool) -> None:
    assert ('Went for these suggestions: "Jazz club"' in render_taken(reply)) == is_taken


def test_options_on_denied_subjects_are_not_told() -> None:
    reply = "I'll go with option 1. I'll take option 2. I'd like option 3 tomorrow."
    assert '"Casino for gambling", "Jazz club"' in render_taken(reply)
    assert "gay" not in render_taken(reply)
    assert "gay" in render_taken(reply, policy=Policy(sensitive=False))
    assert "gay" in render_taken(reply, "I am gay.")
    assert "Casino" not in render_taken(reply, policy=Policy(denied=frozenset({"gambling"})))
    assert "Jazz" not in render_taken(reply, "Forget everything about jazz.")


def test_what_is_taken_and_rated_low_is_no_taste() -> None:
    def rated(category: str, *values: float) -> list[Interaction]:
        return [
            RatingInteraction(item=ItemFields(title=f"{category} {n}", category=category), value=value)
            for n, value in enumerate(values)
        ]

    text = render(folded([*rated("Comedy", 5, 5, 5, 5, 5), *rated("Horror", 1, 2, 1, 1)]))
    assert "Clearly drawn to Comedy" in text
    assert "Cares little for Horror." in text


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("I hate cats.", "I like neither cats nor dogs."),
        ("I love meat.", "I don't want to stop eating meat."),
        ("I love jazz.", "I don't only like jazz."),
        ("I love jazz.", "I don't just like jazz, I adore it."),
        ("I hate football.", "Everyone but me loves football."),
    ],
)
def test_what_says_the_same_in_other_words_strikes_nothing(older: str, newer: str) -> None:
    assert "No longer holds" not in told(older, newer)


def test_what_turns_out_the_same_strikes_nothing() -> None:
    assert "No longer holds" not in told("I love jazz.", "Turns out I really do love jazz.")
