"""Summaries read back: the sentences of a profile say to a reader what they were written for."""

import pytest
from hypothesis import given, settings

from alignx.schemas.interactions import ClickInteraction, Interaction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import ItemFields
from services.profile.fold import apply_own_text
from services.profile.parse_text import parse_text, split_sentences
from services.profile.render import render
from services.profile.scoring import scores
from services.profile.statistics import EMPTY
from tests.unit.services.profile.histories import HIKE, LONG, PERFUME, SHORT, folded, histories, prefers, texts


def reader_of(history: list[Interaction]):
    """A profile that knows the rendered text and nothing else."""
    return apply_own_text(EMPTY, render(folded(history)))


@settings(max_examples=40, deadline=None)
@given(texts)
def test_any_text_can_be_read(text: str):
    clauses, _ = parse_text(text)
    assert all(-1 <= value <= 1 for clause in clauses for value in (clause.polarity, *clause.style.values()))


@settings(max_examples=30, deadline=None)
@given(histories)
def test_no_number_of_events_and_no_missing_knowledge_is_a_liking(history: list[Interaction]):
    assert parse_text("Nothing is known about this user's preferences yet.") == ([], None)
    assert parse_text(f"Based on {len(history)} events so far.") == ([], None)


def test_a_taste_in_style_survives_as_text():
    for liked, disliked in ((SHORT, LONG), (LONG, SHORT)):
        here, there = scores(reader_of(prefers(liked, disliked, 8)), "q", (liked, disliked))
        assert here > there


def test_a_taste_in_things_survives_as_text():
    history: list[Interaction] = [PurchaseInteraction(item=HIKE, considered=(PERFUME,))] * 3
    here, there = scores(reader_of(history), "", (HIKE, PERFUME))
    assert here > there


def test_pairs_of_words_survive_as_text():
    history: list[Interaction] = [ClickInteraction(clicked=ItemFields(title="Halo 5 - Xbox One"))] * 3
    here, there = scores(
        reader_of(history), "", (ItemFields(title="Forza - Xbox One"), ItemFields(title="Forza - Xbox 360"))
    )
    assert here > there


def test_the_usual_years_survive_as_text():
    history: list[Interaction] = [
        RatingInteraction(item=ItemFields(title=f"{name} ({year})"), value=5)
        for name, year in (("Up", 1951), ("Gilda", 1946), ("Laura", 1944), ("Rope", 1948))
    ]
    assert "Lately takes items from around 19" in render(folded(history))
    here, there = scores(reader_of(history), "", (ItemFields(title="Harvey (1950)"), ItemFields(title="Speed (1994)")))
    assert here > there


def test_what_marks_what_they_leave_is_no_liking():
    clauses, _ = parse_text("Words that often mark what they leave: opera. Tends to pass over Horror and Film-Noir.")
    assert {clause.target: clause.polarity < 0 for clause in clauses} == {
        "opera": True,
        "Horror": True,
        "Film-Noir": True,
    }


def test_the_newest_of_the_users_own_words_win():
    profile = apply_own_text(EMPTY, 'In their own words, newest first: "I hate golf" "I love golf"')
    here, there = scores(profile, "", ("golf", "tennis"))
    assert here < there


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
