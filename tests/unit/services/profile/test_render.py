"""The profile in words: what is said of a taste, and always in clean sentences."""

import pytest
from hypothesis import given, settings

from alignx.schemas.interactions import (
    ClickInteraction,
    Interaction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import Item, ItemFields
from services.profile.claims.explain import reason, reasons
from services.profile.fold import apply_own_text
from services.profile.render import render
from services.profile.scoring import scores
from services.profile.statistics import EMPTY
from tests.unit.services.profile.histories import HIKE, LONG, PERFUME, SHORT, folded, histories, items, prefers, texts


@settings(max_examples=80, deadline=None)
@given(histories, texts, items)
def test_words_about_a_user_are_never_empty_and_always_clean(history: list[Interaction], query: str, item: Item):
    profile = folded(history)
    for text in (render(profile), reason(profile, query, item)):
        assert text.strip()
        assert "://" not in text
        assert "www." not in text
        assert all(char.isprintable() or char == "\n" for char in text)
        text.encode()


@pytest.mark.parametrize(
    ("liked", "disliked", "says"),
    [
        (SHORT, LONG, "short and to the point"),
        (LONG, SHORT, "long and thorough"),
        ("Hey, awesome! You'll love this, haha!", "This is adequate.", "warm and friendly"),
        (
            "Photosynthesis constitutes a fundamental biochemical mechanism transforming electromagnetic radiation.",
            "Plants use the light of the sun to make the food they need to live and grow.",
            "technical and scholarly",
        ),
        (
            "Plants use the light of the sun to make the food they need to live and grow.",
            "Photosynthesis constitutes a fundamental biochemical mechanism transforming electromagnetic radiation.",
            "plain, everyday words",
        ),
        ("Steps:\n- open it\n- turn it\n- close it", "Steps: open it, turn it and then close it", "lists"),
    ],
)
def test_a_taste_in_style_is_said_and_used(liked: str, disliked: str, says: str):
    profile = folded(prefers(liked, disliked, 8))
    assert says in render(profile)
    here, there = scores(profile, "Something else?", (liked, disliked))
    assert here > there


def test_statements_come_first_and_outrank_what_was_seen():
    profile = folded([*prefers(LONG, SHORT, 5), StatementInteraction(text="Keep answers short, please.")])
    assert render(profile).startswith('In their own words: "Keep answers short')
    assert scores(profile, "q", ("Take the train.", "Take the train and then the bus, as they both run often."))[0] > 0


def test_a_shopper_is_told_categories_words_and_price():
    history: list[Interaction] = []
    for title in ("trail shoes", "trail jacket", "trail map", "trail lamp"):
        cheap = ItemFields(title=title, category="Outdoor", price=20)
        history.append(
            PurchaseInteraction(item=cheap, considered=(ItemFields(title="watch", category="Luxury", price=90),))
        )
    text = render(folded(history))
    assert "drawn to Outdoor" in text
    assert "Cares little for Luxury" in text
    assert "trail" in text
    assert "priced around 20" in text
    assert "cheaper of the items" in text


def test_a_news_reader_is_told_topics_and_what_changed():
    sport, business = (
        ItemFields(title=title, category=category)
        for title, category in (("Cup final tonight", "sports"), ("Shares fall on grain prices", "business"))
    )
    history = [ClickInteraction(clicked=sport, shown=(business,))] * 15
    history += [ClickInteraction(clicked=business, shown=(sport,))] * 6
    assert "Clearly drawn to sports, for example “Cup final tonight”." in render(folded(history[:15]))
    text = render(folded(history))
    assert "drawn to sports" not in text
    assert "Lately picks more of business" in text
    assert "Lately picks less of sports" in text


def test_reasons_name_what_speaks_for_or_against():
    profile = folded([StatementInteraction(text="I love hiking but hate perfume")])
    assert reason(profile, "", HIKE) == "Matches what they said: 'I love hiking but hate perfume'."
    assert reason(profile, "", PERFUME) == "Goes against what they said: 'I love hiking but hate perfume'."
    shopper = folded([PurchaseInteraction(item=HIKE, considered=(PERFUME,))] * 3)
    assert "Outdoor, which they often pick" in reason(shopper, "", ItemFields(title="Tent", category="Outdoor"))
    assert "Beauty, which they tend to pass over" in reason(shopper, "", ItemFields(title="Soap", category="Beauty"))
    once = folded([PurchaseInteraction(item=HIKE, considered=(PERFUME,))])
    assert "Outdoor, which they lean towards" in reason(once, "", ItemFields(title="Tent", category="Outdoor"))
    assert "Beauty, which they lean away from" in reason(once, "", ItemFields(title="Soap", category="Beauty"))


@pytest.mark.parametrize(
    ("said", "item", "says"),
    [
        ("I only eat gluten-free bread", "Gluten-free cake", "Matches what they said: 'I only eat gluten-free bread'."),
        ("I hate science-fiction", "A science-fiction novel", "Goes against what they said: 'I hate science-fiction'."),
    ],
)
def test_a_reason_quotes_what_was_said(said: str, item: str, says: str):
    assert reason(folded([StatementInteraction(text=said)]), "", item) == says


def test_a_reason_shows_a_pair_of_words_from_the_users_own_text():
    profile = apply_own_text(EMPTY, "Words that often mark their choices: star trek.")
    assert reason(profile, "", ItemFields(title="Star Trek")) == "Matches what they said about star trek."


def test_reasons_tell_where_an_item_stands_among_those_on_offer():
    def told(history: list[Interaction], **fields: tuple[object, object]) -> list[str]:
        offered = [
            ItemFields.model_validate({"title": title, **{name: values[place] for name, values in fields.items()}})
            for place, title in enumerate(("Qualm", "Zest"))
        ]
        return reasons(folded(history), "", offered, (0, 1))

    assert told([], popularity=(99, 9)) == [
        "It is taken more often than most on offer.",
        "It is taken less often than most on offer.",
    ]
    old: list[Interaction] = [
        RatingInteraction(item=ItemFields(title=f"Gilda ({1940 + n})"), value=5) for n in range(5)
    ]
    assert told(old, year=(1941, 2001)) == [
        "It is nearer to the years they usually take than most on offer.",
        "It is further from the years they usually take than most on offer.",
    ]
    dear, cheap = ItemFields(title="Pen", price=90), ItemFields(title="Pen", price=9)
    assert told(prefers(cheap, dear, 8), price=(9, 90)) == [
        "They tend to take the cheaper on offer, and this is one.",
        "They tend to take the cheaper on offer, and this is not one.",
    ]


def test_a_link_in_a_statement_is_not_shown():
    text = render(folded([StatementInteraction(text='Golf: https://evil.example/x "now"\x07 and www.evil.example')]))
    assert "evil" not in text
    assert "Golf: [link] 'now' and [link]" in text
