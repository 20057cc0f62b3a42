"""The sentences of the profile's text: each true of its events, none of denied subjects, steady while nothing turns."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    Interaction,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import ItemFields
from services.profile.claims.evidence import Sentence
from services.profile.claims.sentences import sentences
from services.profile.fold import fold
from services.profile.render import make_claims, render
from services.profile.serialize import dumps, loads
from services.profile.stated.sensitive import Policy
from services.profile.statistics import EMPTY, Profile
from tests.unit.services.profile.histories import LONG, SHORT, folded, histories, prefers

START = datetime(2026, 5, 20, tzinfo=UTC)
HORROR = ("Alien", "The Thing", "The Shining", "Suspiria", "The Omen", "Carrie")


def likes(*titles: str, category: str = "Horror", other: str = "Romance") -> list[Interaction]:
    passed = ItemFields(title="Love Again", category=other)
    return [ClickInteraction(clicked=ItemFields(title=title, category=category), shown=(passed,)) for title in titles]


def said(text: str, month: int) -> StatementInteraction:
    return StatementInteraction(text=text, occurred_at=datetime(2026, month, 3, tzinfo=UTC))


def find(profile: Profile, key: str) -> Sentence:
    (found,) = (sentence for sentence in sentences(profile) if sentence.key == key)
    return found


def test_a_topic_names_a_few_titles_and_rests_on_their_events() -> None:
    profile = folded(likes(*HORROR))
    horror = find(profile, "topic:+Horror")
    assert horror.text == "Clearly drawn to Horror, for example “Alien”, “The Thing” and “The Shining”."
    assert (horror.events, horror.counted, horror.since) == ((1, 2, 3), 6, 1)
    assert find(profile, "topics:passed").about == ("topic:-Romance",)


def test_what_was_taken_twice_is_named_once() -> None:
    alien = ItemFields(title="Alien", category="Horror")
    history = [*likes("Alien"), RatingInteraction(item=alien, value=5), *likes("Alien", "Carrie", "The Omen")]
    assert "“Alien”, “Carrie” and “The Omen”" in render(folded(history))


def test_items_without_categories_are_named_by_what_their_titles_repeat() -> None:
    titles = ("Halo 3 - Xbox 360", "Forza Horizon - Xbox 360", "Fable II - Xbox 360", "Grand Theft Auto - Xbox 360")
    text = render(folded([PurchaseInteraction(item=ItemFields(title=title)) for title in titles]))
    assert "Often chooses what mentions “Xbox”." in text
    assert "“Halo 3 - Xbox 360”" in text


def test_quotations_tell_their_month_once() -> None:
    profile = folded([said("I work at night.", 3), said("I love jazz.", 5), said("I avoid sugar.", 5)])
    assert '"I avoid sugar.", "I love jazz." (May 2026)' in render(profile)
    assert 'About them: "I work at night." (March 2026)' in render(profile)


def test_what_was_taken_back_is_struck_and_not_dropped() -> None:
    profile = folded([said("I love jazz.", 3), said("I no longer like jazz.", 5)])
    text = render(profile)
    assert 'No longer holds: "I love jazz." (March 2026)' in text
    assert find(profile, "change:said").events == (1,)


def test_a_wish_turned_round_strikes_the_whole_statement() -> None:
    text = render(folded([said("Short answers and a joke, please.", 3), said("I prefer long answers.", 5)]))
    assert 'In their own words: "I prefer long answers." (May 2026)\n' in text
    assert 'No longer holds: "Short answers and a joke, please." (March 2026)' in text


RELIGION = likes(*HORROR, category="Religion")
ANSWERS: list[Interaction] = [ComparisonInteraction(query="Why?", chosen=SHORT, rejected=LONG)] * 3
FOR_OTHERS = "Thanks for reading. Short comments only, please, and corrections are welcome."


@pytest.mark.parametrize(
    ("history", "words", "is_told"),
    [
        (likes(*HORROR[:3]), "Clearly", False),
        ([*likes(*HORROR), StatementInteraction(text="No horror for me any more, please.")], "drawn to Horror", False),
        ([PostInteraction(text=FOR_OTHERS)], "texts that are short", False),
        ([*RELIGION, StatementInteraction(text="I love books on religion.")], "drawn to Religion", True),
        ([*RELIGION, StatementInteraction(text="Catholic, 34")], "drawn to Religion", True),
        ([*RELIGION, PostInteraction(text="Catholic, 34?")], "drawn to Religion", False),
        (ANSWERS, SHORT, False),
        (
            [*likes(*HORROR, category="video games"), StatementInteraction(text="I hate racing games.")],
            "Clearly drawn to video games",
            True,
        ),
        (
            [*prefers(SHORT, LONG, 10), StatementInteraction(text="I prefer short answers.")],
            "short and to the point",
            False,
        ),
        (likes("Alien", other="Coffee"), "Coffee", False),
    ],
    ids=[
        "few choices are not clear",
        "the contrary was said",
        "a post for others is no wish",
        "a denied subject that the user spoke of",
        "a denied subject of a fragment",
        "a denied subject of a question",
        "answers have no titles",
        "a part of a topic does not hide it",
        "what was asked for is not told again of choices",
        "one item passed over is no dislike",
    ],
)
def test_what_is_told(history: list[Interaction], words: str, is_told: bool) -> None:
    assert (words in render(folded(history))) == is_told


@pytest.mark.parametrize(
    ("category", "policy", "is_told"),
    [
        ("Religion", Policy(), False),
        ("Religion", Policy(sensitive=False), True),
        ("Gardening", Policy(), True),
        ("Gardening", Policy(denied=frozenset(["gardening"])), False),
    ],
)
def test_denied_subjects_are_not_told(category: str, policy: Policy, is_told: bool) -> None:
    profile = folded(likes(*HORROR, category=category))
    assert (category in render(profile, policy)) == is_told
    assert any(category in claim.text for claim in make_claims(profile, [], policy)) == is_told


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("I am pregnant.", True),
        ("Please forget that I was pregnant.", False),
        ("Never mention pregnancy to me again.", False),
        ("Vergiss, dass ich schwanger war.", False),
        ("My sister is pregnant.", False),
    ],
)
def test_a_denied_subject_is_told_of_who_speaks_of_it_and_not_of_who_asks_to_forget_it(
    text: str, is_told: bool
) -> None:
    bought: list[Interaction] = [
        PurchaseInteraction(item=ItemFields(title=f"Test {number}", category="Health > Pregnancy"))
        for number in range(6)
    ]
    assert ("drawn to Pregnancy" in render(folded([*bought, StatementInteraction(text=text)]))) == is_told


def test_claims_name_events_by_their_ids() -> None:
    profile = folded(likes(*HORROR))
    ids = [f"{1_780_000_000_000 + number}-0" for number in range(6)]
    (horror,) = (claim for claim in make_claims(profile, ids) if claim.id == "topic:+Horror")
    assert horror.support == tuple(ids[:3])
    assert horror.count == 6
    assert horror.since == datetime.fromtimestamp(1_780_000_000, UTC)
    (horror,) = (claim for claim in make_claims(profile, ids[2:]) if claim.id == "topic:+Horror")
    assert horror.support == (ids[2],)


def test_a_claim_stands_since_the_day_of_its_event() -> None:
    profile = EMPTY
    for number, event in enumerate(likes(*HORROR)):
        profile, _ = fold(profile, event, START + timedelta(days=10 * number))
    (horror,) = (claim for claim in make_claims(profile, ["1790000000000-0"]) if claim.id == "topic:+Horror")
    assert horror.since == datetime(2026, 5, 20, tzinfo=UTC)


def test_a_steady_user_is_told_the_same() -> None:
    """One choice in ten goes another way, as people do."""
    profile, changes, before = EMPTY, 0, set[str]()
    for number in range(150):
        pair = ("Romance", "Horror") if number % 10 == 9 else ("Horror", "Romance")
        (event,) = likes(HORROR[number % 6], category=pair[0], other=pair[1])
        profile, _ = fold(profile, event)
        told = {key for sentence in sentences(profile) for key in sentence.about}
        changes += number > 30 and told != before
        before = told
    assert before == {"topic:+Horror", "topic:-Romance"}
    assert changes == 0


def test_styles_stand_until_they_have_clearly_gone() -> None:
    profile = folded(prefers(SHORT, LONG, 10))
    assert "short and to the point" in render(profile)
    profile = folded(prefers(LONG, SHORT, 2), profile)
    assert "short and to the point" in render(profile)
    profile = folded(prefers(LONG, SHORT, 40), profile)
    assert "short and to the point" not in render(profile)


@settings(max_examples=60, deadline=None)
@given(histories)
def test_every_claim_is_a_sentence_of_the_text(history: list[Interaction]) -> None:
    profile = folded(history)
    text = render(profile)
    assert loads(dumps(profile)) == profile
    for claim in make_claims(profile, [f"{number}-0" for number in range(len(history))]):
        assert claim.text in text
        assert len(claim.support) <= claim.count or claim.kind in ("price", "year", "own")


def test_one_long_sentence_hides_no_other() -> None:
    history = [*likes(*("映画" * 30 + str(n) for n in range(40)), category="映画"), *likes(*HORROR)]
    assert any(claim.id == "topic:+Horror" for claim in make_claims(folded(history), []))


def bought(*things: tuple[str, str, object]) -> Profile:
    return folded(
        [
            PurchaseInteraction(item=ItemFields.model_validate({"title": title, "category": category, "price": price}))
            for title, category, price in things
        ]
    )


def test_prices_tell_two_habits_apart_with_their_currency() -> None:
    gadgets = [(f"Gadget {n}", "gadgets", f"€{10 + n},90") for n in range(4)]
    furniture = [(f"Chair {n}", "furniture", f"{380 + 10 * n}.00 EUR") for n in range(3)]
    price = find(bought(*gadgets, *furniture), "price:usual")
    assert price.text == "Usually pays around €12 for gadgets and around €390 for furniture."
    assert (price.events, price.counted, price.since) == ((3, 4, 5, 6, 7), 7, 1)


@pytest.mark.parametrize(
    ("paid", "text"),
    [
        ((9.5, 10, 11), "Usually takes items priced around 10."),
        (("1.299,00 €", "€1,310", "1 305 €"), "Usually takes items priced around €1,300."),
        (("CHF 4.90", "CHF 4.90", "CHF 4.90"), "Usually takes items priced around CHF 4.90."),
        ((5, 6, 200, 210), "Takes items priced from around 5.8 to around 200."),
        ((45, 18), ""),
    ],
)
def test_prices_are_told_as_they_were_paid(paid: tuple[object, ...], text: str) -> None:
    profile = bought(*((f"Thing {n}", "things", price) for n, price in enumerate(paid)))
    assert text in render(profile)
    assert ("priced" in render(profile)) == bool(text)


def test_years_name_their_events() -> None:
    history = [RatingInteraction(item=ItemFields(title=f"Film {n} ({1950 + n})"), value=5) for n in range(4)]
    year = find(folded(history), "year:usual")
    assert (year.events, year.counted, year.since) == ((1, 2, 3), 4, 1)


@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("The Unreasonable Effectiveness of a Very Long Title That Nobody Would Cut in Half", None),
        (
            "Oakline Wireless Headphones, Noise Cancelling, 40 h Battery, Foldable, for Travel and Office, Black",
            "Oakline Wireless Headphones, Noise Cancelling, 40 h Battery, Foldable, for Travel and Office",
        ),
        ("word " * 40, "word word word word word word word word word word word word word word…"),
    ],
)
def test_titles_are_told_whole_or_up_to_a_mark(title: str, told: str | None) -> None:
    assert f"“{told or title}”" in render(folded(likes(title)))


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("foodanddrink", "food and drink"),
        ("video_games", "video games"),
        ("Arts_Crafts", "Arts Crafts"),
        ("health-and-beauty", "health and beauty"),
        ("sci-fi", "sci-fi"),
        ("husbandry", "husbandry"),
        ("thousands", "thousands"),
        ("grandparents", "grandparents"),
    ],
)
def test_labels_are_told_as_one_writes_them(label: str, told: str) -> None:
    assert f"Clearly drawn to {told}, for" in render(folded(likes(*HORROR, category=label)))


def test_a_whole_shop_is_not_listed() -> None:
    shop = [*("lamps", "books", "tools", "toys", "rugs", "pens", "hats", "tea"), "lamps"]
    text = render(
        folded([*likes(*HORROR[:1], category="films"), *(likes(f"A {kind}", category=kind)[0] for kind in shop)])
    )
    assert "Tends to pick lamps" in text
    assert "Has picked pens, hats and tea" in text
    assert "toys" not in text
