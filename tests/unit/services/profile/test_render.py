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
from services.profile.claims.explain import reasons
from services.profile.fold import apply_own_text
from services.profile.render import render
from services.profile.statistics import EMPTY
from tests.unit.services.profile.histories import (
    HIKE,
    LONG,
    PERFUME,
    SHORT,
    folded,
    histories,
    items,
    lead,
    prefers,
    reason,
    stated,
    texts,
    told,
)


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
    assert lead(profile, "Something else?", liked, disliked) > 0


def test_statements_come_first_and_outrank_what_was_seen():
    profile = folded([*prefers(LONG, SHORT, 5), StatementInteraction(text="Keep answers short, please.")])
    assert render(profile).startswith('In their own words: "Keep answers short')
    assert lead(profile, "q", "Take the train.", "Take the train and then the bus, as they both run often.") > 0


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


@pytest.mark.parametrize(
    ("times", "of_outdoor", "of_beauty"),
    [(3, "often pick", "tend to pass over"), (1, "lean towards", "lean away from")],
)
def test_reasons_name_the_topic_that_speaks_for_or_against(times: int, of_outdoor: str, of_beauty: str):
    shopper = folded([PurchaseInteraction(item=HIKE, considered=(PERFUME,))] * times)
    for title, category, habit in (("Tent", "Outdoor", of_outdoor), ("Soap", "Beauty", of_beauty)):
        assert f"{category}, which they {habit}" in reason(shopper, "", ItemFields(title=title, category=category))


@pytest.mark.parametrize(
    ("said", "item", "says"),
    [
        ("I love hiking but hate perfume", HIKE, "Matches what they said: 'I love hiking but hate perfume'."),
        ("I love hiking but hate perfume", PERFUME, "Goes against what they said: 'I love hiking but hate perfume'."),
        ("I only eat gluten-free bread", "Gluten-free cake", "Matches what they said: 'I only eat gluten-free bread'."),
        ("I hate science-fiction", "A science-fiction novel", "Goes against what they said: 'I hate science-fiction'."),
    ],
)
def test_a_reason_quotes_what_was_said(said: str, item: Item, says: str):
    assert reason(stated(said), "", item) == says


def test_a_name_is_not_called_a_text():
    profile = folded(prefers(SHORT, LONG, 20))
    assert reason(profile, "", "Boil it. Six minutes will do.").startswith("They prefer texts that")
    assert "text" not in reason(profile, "", "Oak table")


def test_a_reason_shows_a_pair_of_words_from_the_users_own_text():
    profile = apply_own_text(EMPTY, "Words that often mark their choices: star trek.")
    assert reason(profile, "", ItemFields(title="Star Trek")) == "Matches what they said about star trek."


def test_reasons_tell_where_an_item_stands_among_those_on_offer():
    def reasons_of(history: list[Interaction], **fields: tuple[object, object]) -> list[str]:
        offered = [
            ItemFields.model_validate({"title": title, **{name: values[place] for name, values in fields.items()}})
            for place, title in enumerate(("Qualm", "Zest"))
        ]
        return reasons(folded(history), "", offered, (0, 1))

    assert reasons_of([], popularity=(99, 9)) == [
        "It is taken more often than most on offer.",
        "It is taken less often than most on offer.",
    ]
    old: list[Interaction] = [
        RatingInteraction(item=ItemFields(title=f"Gilda ({1940 + n})"), value=5) for n in range(5)
    ]
    assert reasons_of(old, year=(1941, 2001)) == [
        "It is nearer to the years they usually take than most on offer.",
        "It is further from the years they usually take than most on offer.",
    ]
    dear, cheap = ItemFields(title="Pen", price=90), ItemFields(title="Pen", price=9)
    assert reasons_of(prefers(cheap, dear, 8), price=(9, 90)) == [
        "They tend to take the cheaper on offer, and this is one.",
        "They tend to take the cheaper on offer, and this is not one.",
    ]


def test_a_link_in_a_statement_is_not_shown():
    text = told('Golf: https://evil.example/x "now"\x07 and www.evil.example')
    assert "evil" not in text
    assert "Golf: [link] 'now' and [link]" in text
