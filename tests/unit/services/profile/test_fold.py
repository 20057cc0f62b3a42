"""Folding: laws that hold for any history, and what each kind of event teaches."""

import math
import random
import string
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    Message,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import ItemFields
from services.profile.draft import MAX_CATEGORIES, MAX_TERMS
from services.profile.fold import apply_own_text, fold
from services.profile.render import render
from services.profile.scoring import probabilities, scores
from services.profile.serialize import dumps, loads
from services.profile.stated.clauses import MAX_CLAUSES
from services.profile.stated.memory import MAX_MEMORY
from services.profile.statistics import EMPTY
from tests.unit.services.profile.histories import (
    HIKE,
    LONG,
    PERFUME,
    SHORT,
    events,
    folded,
    histories,
    lead,
    prefers,
    some_text,
)


@settings(max_examples=60, deadline=None)
@given(histories, events)
def test_folding_from_a_dump_equals_folding_on(history: list[Interaction], event: Interaction):
    profile = folded(history)
    assert fold(loads(dumps(profile)), event) == fold(profile, event)


@settings(max_examples=60, deadline=None)
@given(histories, events)
def test_fold_foresees_each_pair_as_the_scores_did(history: list[Interaction], event: Interaction):
    profile = folded(history)
    if len(event.pairs()) > 1:  # what was stated is compared with all on offer, not pair by pair
        profile = replace(profile, clauses=())
    before = dumps(profile)
    after, foreseen = fold(profile, event)
    assert dumps(profile) == before
    assert after.events == profile.events + 1
    pairs = event.pairs()
    assert len(foreseen) == len(pairs)
    query = pairs[0].query if pairs else ""
    for pair, chance in zip(pairs, foreseen, strict=True):
        expected = probabilities(profile, query, (pair.chosen, pair.rejected))[0]
        assert chance == pytest.approx(expected, abs=1e-4), "the odds of meaning are rounded to four decimals"


def test_a_profile_stays_small_for_ever():
    source = random.Random(7)

    def word() -> str:
        return "".join(source.choices(string.ascii_lowercase, k=source.randint(3, 12)))

    def text() -> str:
        return " ".join(word() for _ in range(28))

    def item() -> ItemFields:
        return ItemFields(title=text(), category=word(), brand=word(), price=source.random() * 100)

    makers = [
        lambda: ComparisonInteraction(query=word(), chosen=text(), rejected=text()),
        lambda: ClickInteraction(clicked=item(), shown=(item(), item())),
        lambda: RatingInteraction(item=item(), value=source.uniform(1, 5), review=text()),
        lambda: PurchaseInteraction(item=item()),
        lambda: PostInteraction(text="I love " + text()),
        lambda: DemographicInteraction(text=text()),
        lambda: StatementInteraction(text="I prefer " + text()),
    ]
    profile, largest = EMPTY, 0
    for _ in range(2_000):
        profile, _ = fold(profile, source.choice(makers)())
        largest = max(largest, len(dumps(replace(profile, memory=b""))))
    assert largest < 11_000
    assert len(profile.memory) < MAX_MEMORY
    assert len(profile.terms) <= MAX_TERMS
    assert len(profile.categories) <= MAX_CATEGORIES
    assert len(profile.clauses) <= MAX_CLAUSES
    assert len(render(profile)) < 4_000


def test_a_change_of_taste_shows_within_as_many_events_and_is_told():
    profile = folded(prefers(SHORT, LONG, 20))
    chances = []
    for event in prefers(LONG, SHORT, 14):
        profile, (chance,) = fold(profile, event)
        chances.append(chance)
    assert chances == sorted(chances)
    assert chances[0] < 0.1
    assert chances[-1] > 0.5
    assert "Lately prefers texts that" in render(folded(prefers(LONG, SHORT, 8), folded(prefers(SHORT, LONG, 20))))


@pytest.mark.parametrize(
    "event",
    [
        ComparisonInteraction(chosen=HIKE, rejected=PERFUME),
        ClickInteraction(clicked=HIKE, shown=(PERFUME, HIKE)),
        ClickInteraction(clicked=HIKE),
        PurchaseInteraction(item=HIKE, considered=(PERFUME,)),
        PurchaseInteraction(item=HIKE),
        RatingInteraction(item=HIKE, value=5),
        RatingInteraction(item=PERFUME, value=1),
        PostInteraction(text="I love hiking. I can't stand perfume."),
        DialogueInteraction(messages=(Message(role="user", content="Plan a trip for me: I love hiking"),)),
        DemographicInteraction(text="Loves hiking in the mountains"),
        StatementInteraction(text="I love hiking"),
        StatementInteraction(text="No perfume, please"),
    ],
    ids=lambda event: event.type,
)
def test_every_kind_of_event_moves_the_scores(event: Interaction):
    assert lead(folded([event]), "", HIKE, PERFUME) > 0


def test_what_the_assistant_said_is_not_the_users_taste():
    said = Message(role="assistant", content="I love hiking in the mountains!!!")
    profile = folded([DialogueInteraction(messages=(said,))])
    assert scores(profile, "", (HIKE, PERFUME)) == [0, 0]


@settings(max_examples=60, deadline=None)
@given(histories, some_text)
def test_the_users_own_text_heads_the_words_and_is_no_event(history: list[Interaction], text: str):
    profile = folded(history)
    edited = apply_own_text(profile, text)
    assert render(edited).startswith(text)
    assert (edited.events, edited.terms, edited.contrasts) == (profile.events, profile.terms, profile.contrasts)
    assert loads(dumps(edited)) == edited


def test_the_users_own_text_replaces_what_they_had_said():
    profile = folded([StatementInteraction(text="I am vegetarian."), DemographicInteraction(text="Lives in Bonn.")])
    edited = apply_own_text(profile, "I eat meat and love steak. " + "And so on. " * 100)
    later = fold(edited, StatementInteraction(text="No fish, please."))[0]
    words = render(later)
    assert words.startswith(edited.own + '\nIn their own words: "No fish, please."')
    assert "vegetarian" not in words
    assert "Bonn" not in words
    assert scores(edited, "", ("steak", "tofu"))[0] > 0


def test_ratings_count_against_the_users_own_average():
    films = [ItemFields(title=f"Film {n}", category="Drama") for n in range(12)]
    history: list[Interaction] = [RatingInteraction(item=film, value=5) for film in films]
    history.append(RatingInteraction(item=ItemFields(title="Saw", category="Horror"), value=3))
    profile = folded(history)
    horror = ItemFields(title="It", category="Horror")
    unseen = ItemFields(title="Up", category="Family")
    assert scores(profile, "", (horror, unseen))[0] < 0


def test_words_of_the_query_are_not_a_taste():
    event = ComparisonInteraction(query="Tell me about volcanoes", chosen="volcanoes erupt", rejected="mountains sleep")
    assert "volcanoes" not in folded([event]).terms


@pytest.mark.parametrize(
    "text",
    [
        "a" * 65_536,
        " " * 65_535 + "x",
        "\n" * 65_535 + "x",
        "😀" * 16_384,
        "漢字かな" * 16_384,
        "a.a" * 21_000 + "://",
        "- " * 32_768,
        "i love but " * 6_000,
        "\u202e\u0000\ufeff" * 9_000 + "x",
    ],
    ids=range(9),
)
def test_huge_and_strange_texts_are_taken_quickly(text: str):
    started = time.process_time()
    profile = folded(
        [
            ComparisonInteraction(query=text, chosen=text, rejected="plain"),
            PostInteraction(text=text),
            StatementInteraction(text=text),
            RatingInteraction(item=ItemFields(title="t", description=text, category=text), value=1, review=text),
        ]
    )
    assert time.process_time() - started < 0.5
    assert len(dumps(profile)) < 3_000
    assert all(math.isfinite(value) for value in scores(profile, text, (text, "plain", "")))
    assert "\n\n" not in render(profile)


def test_two_hundred_shown_items_are_one_events_worth():
    one = folded([ClickInteraction(clicked=HIKE, shown=(PERFUME,))])
    many = folded([ClickInteraction(clicked=HIKE, shown=tuple(PERFUME for _ in range(200)))])
    assert scores(many, "", (HIKE, PERFUME))[0] <= scores(one, "", (HIKE, PERFUME))[0] + 1e-6
