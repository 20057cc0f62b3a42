"""Summaries read back: the sentences of a profile say to a reader what they were written for."""

import pytest
from hypothesis import given, settings

from alignx.schemas.interactions import ClickInteraction, Interaction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import Item, ItemFields
from services.profile.fold import apply_own_text
from services.profile.parse_text import parse_text, split_sentences
from services.profile.render import render
from services.profile.statistics import EMPTY
from tests.unit.services.profile.histories import HIKE, LONG, PERFUME, SHORT, folded, lead, prefers, texts


@settings(max_examples=40, deadline=None)
@given(texts)
def test_any_text_can_be_read(text: str):
    clauses, _ = parse_text(text)
    assert all(-1 <= value <= 1 for clause in clauses for value in (clause.polarity, *clause.style.values()))


@pytest.mark.parametrize(
    "text",
    ["Nothing is known about this user's preferences yet.", "Based on 1 event so far.", "Based on 9 events so far."],
)
def test_no_number_of_events_and_no_missing_knowledge_is_a_liking(text: str):
    assert parse_text(text) == ([], None)


OLD_FILMS: list[Interaction] = [
    RatingInteraction(item=ItemFields(title=f"{name} ({year})"), value=5)
    for name, year in (("Up", 1951), ("Gilda", 1946), ("Laura", 1944), ("Rope", 1948))
]


@pytest.mark.parametrize(
    ("history", "better", "worse"),
    [
        (prefers(SHORT, LONG, 8), SHORT, LONG),
        (prefers(LONG, SHORT, 8), LONG, SHORT),
        ([PurchaseInteraction(item=HIKE, considered=(PERFUME,))] * 3, HIKE, PERFUME),
        (
            [ClickInteraction(clicked=ItemFields(title="Halo 5 - Xbox One"))] * 3,
            ItemFields(title="Forza - Xbox One"),
            ItemFields(title="Forza - Xbox 360"),
        ),
        (OLD_FILMS, ItemFields(title="Harvey (1950)"), ItemFields(title="Speed (1994)")),
    ],
    ids=["short", "long", "things", "pairs of words", "years"],
)
def test_a_taste_survives_as_text(history: list[Interaction], better: Item, worse: Item):
    assert lead(apply_own_text(EMPTY, render(folded(history))), "", better, worse) > 0


def test_what_marks_what_they_leave_is_no_liking():
    clauses, _ = parse_text("Words that often mark what they leave: opera. Tends to pass over Horror and Film-Noir.")
    assert {clause.target: clause.polarity < 0 for clause in clauses} == {
        "opera": True,
        "Horror": True,
        "Film-Noir": True,
    }


def test_the_newest_of_the_users_own_words_win():
    profile = apply_own_text(EMPTY, 'In their own words, newest first: "I hate golf" "I love golf"')
    assert lead(profile, "", "golf", "tennis") < 0


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? four", ["One.", "Two!", "Three? four"]),
        ("Likes “What. Now” and “Who? Me”. Then more. End", ["Likes “What. Now” and “Who? Me”.", "Then more.", "End"]),
        ("One.\nTwo", ["One.", "Two"]),
    ],
)
def test_a_sentence_goes_on_within_a_title(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences
