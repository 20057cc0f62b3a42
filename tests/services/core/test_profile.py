"""The fast profile: laws that hold for any history, and what it should learn from plain ones."""

import math
import random
import string
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.folding import MAX_CATEGORIES, MAX_STATED, MAX_STATEMENTS, MAX_TERMS, fold
from services.core.profile import EMPTY, PROFILE_SCHEMA, Profile, dumps, loads, probabilities, scores
from services.core.schemas import (
    ClickInteraction,
    ComparisonInteraction,
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    Item,
    ItemFields,
    Message,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from services.core.wording import reason, render

SHORT = "Use a list. It is fast."
LONG = (
    "There are many ways in which you could go about this, and before choosing one of them it is worth thinking "
    "through the consequences of each, because a structure that seems right at first may later turn out to be slow, "
    "and changing it afterwards tends to take more effort than anyone expects at the outset of a project."
)

SAMPLES = [
    SHORT,
    LONG,
    "",
    "!!!",
    "héllo wörld 😀😀 http://x.example/a?b=c",
    "今日は良い天気ですね。散歩に行きましょう！",
    "# Title\n\n- one\n- two\n\n1. three",
    "I don't think you'll like it, buddy. Haha!",
    "Consequently, the empirical methodology demonstrates significance.",
    "\x00\x1b[31m\u202e \ufeff",
]
texts = st.one_of(st.sampled_from(SAMPLES), st.text(max_size=300))
some_text = texts.filter(lambda text: bool(text.strip()))
labels = st.sampled_from(["Comedy", "Drama", "Horror|Thriller", "Games > PC", "  ", "https://x.example"])
fields = st.builds(
    ItemFields,
    title=some_text,
    description=st.none() | texts,
    category=st.none() | labels,
    price=st.none() | st.floats() | st.sampled_from(["$12.99", "free", "1,200 EUR"]),
)
items = st.one_of(some_text, fields)
shown = st.lists(items, max_size=5).map(tuple)
events = st.one_of(
    st.builds(ComparisonInteraction, query=st.none() | texts, chosen=items, rejected=items),
    st.builds(ClickInteraction, query=st.none() | texts, clicked=items, shown=shown),
    st.builds(PurchaseInteraction, item=items, considered=shown),
    st.builds(RatingInteraction, item=items, value=st.floats(1, 5), review=st.none() | texts),
    st.builds(PostInteraction, text=some_text),
    st.builds(DialogueInteraction, messages=st.tuples(st.builds(Message, role=st.just("user"), content=some_text))),
    st.builds(DemographicInteraction, text=some_text),
    st.builds(StatementInteraction, text=some_text),
)
histories = st.lists(events, max_size=12)


def folded(history: list[Interaction], profile: Profile = EMPTY) -> Profile:
    for event in history:
        profile, _ = fold(profile, event)
    return profile


def prefers(chosen: Item, rejected: Item, times: int, query: str = "How do I store names?") -> list[Interaction]:
    return [ComparisonInteraction(query=query, chosen=chosen, rejected=rejected)] * times


# --- laws ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(histories, texts, items, items)
def test_scores_are_finite_and_antisymmetric(history: list[Interaction], query: str, one: Item, other: Item):
    profile = folded(history)
    here, there = scores(profile, query, (one, other))
    back_there, back_here = scores(profile, query, (other, one))
    assert all(math.isfinite(value) for value in (here, there))
    assert here - there == pytest.approx(back_here - back_there, abs=1e-9)
    assert here + there == pytest.approx(back_here + back_there, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(histories, texts, st.lists(items, min_size=1, max_size=6))
def test_probabilities_are_a_distribution_in_the_order_of_scores(
    history: list[Interaction], query: str, offered: list[Item]
):
    profile = folded(history)
    chances = probabilities(profile, query, offered)
    assert len(chances) == len(offered)
    assert sum(chances) == pytest.approx(1)
    assert all(0 < chance <= 1 for chance in chances)
    values = scores(profile, query, offered)
    assert values.index(max(values)) in [i for i, chance in enumerate(chances) if chance == max(chances)]


@settings(max_examples=80, deadline=None)
@given(histories)
def test_a_dump_gives_back_the_same_profile(history: list[Interaction]):
    profile = folded(history)
    again = loads(dumps(profile))
    assert again == profile
    assert dumps(again) == dumps(profile)
    assert list(again.stated) == list(profile.stated)


@settings(max_examples=60, deadline=None)
@given(histories, events)
def test_folding_from_a_dump_equals_folding_on(history: list[Interaction], event: Interaction):
    profile = folded(history)
    assert fold(loads(dumps(profile)), event) == fold(profile, event)


@settings(max_examples=60, deadline=None)
@given(histories, events)
def test_fold_foresees_each_pair_as_the_scores_did(history: list[Interaction], event: Interaction):
    profile = folded(history)
    before = dumps(profile)
    after, foreseen = fold(profile, event)
    assert dumps(profile) == before
    assert after.events == profile.events + 1
    pairs = event.pairs()
    assert len(foreseen) == len(pairs)
    query = pairs[0].query if pairs else ""
    for pair, chance in zip(pairs, foreseen, strict=True):
        assert chance == pytest.approx(probabilities(profile, query, (pair.chosen, pair.rejected))[0], abs=1e-6)


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


def test_an_empty_profile_knows_nothing():
    assert scores(EMPTY, "q", (SHORT, LONG)) == [0, 0]
    assert probabilities(EMPTY, "q", (SHORT, LONG)) == [0.5, 0.5]
    assert probabilities(EMPTY, "q", ()) == []
    assert fold(EMPTY, prefers(SHORT, LONG, 1)[0])[1] == (0.5,)
    assert render(EMPTY) == "Nothing is known about this user's preferences yet."
    assert "Nothing known" in reason(EMPTY, "q", SHORT)
    assert loads(dumps(EMPTY)) == EMPTY


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
        largest = max(largest, len(dumps(profile)))
    assert largest < 8_000
    assert len(profile.terms) <= MAX_TERMS
    assert len(profile.categories) <= MAX_CATEGORIES
    assert len(profile.stated) <= MAX_STATED
    assert len(profile.statements) <= MAX_STATEMENTS
    assert len(render(profile)) < 4_000


def test_twenty_comparisons_fit_in_two_and_a_half_kilobytes():
    source = random.Random(3)
    profile = EMPTY
    for _ in range(20):
        chosen, rejected = (" ".join(source.choices(LONG.split(), k=17)) for _ in range(2))
        profile, _ = fold(profile, ComparisonInteraction(query="Which one?", chosen=chosen, rejected=rejected))
    assert len(dumps(profile)) <= 2_560


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'"x"', b'{"v": 1}', b"\xff", b'{"v": 1, "n": 1, "s": "AAAA"}'])
def test_loads_refuses_what_is_no_dump(raw: bytes):
    with pytest.raises(ValueError, match=r".+"):
        loads(raw)


def test_loads_refuses_another_schema():
    kept = orjson.loads(dumps(EMPTY)) | {"v": PROFILE_SCHEMA + 1}
    with pytest.raises(ValueError, match="schema"):
        loads(orjson.dumps(kept))


# --- what it learns ------------------------------------------------------------------------------


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


def test_style_carries_over_to_new_texts():
    profile = folded(prefers(SHORT, LONG, 6))
    short, long = "Take the train.", "You could take the train, though depending on the day and on how many " * 3
    chance = probabilities(profile, "How do I get there?", (short, long))[0]
    assert chance > 0.8
    assert "short and to the point" in reason(profile, "How do I get there?", short)


def test_confidence_grows_with_evidence():
    chances = [probabilities(folded(prefers(SHORT, LONG, n)), "q", (SHORT, LONG))[0] for n in (1, 2, 4, 8)]
    assert 0.5 < chances[0] < chances[1] < chances[2] < chances[3] < 1


def test_contradictory_choices_leave_it_undecided():
    history = [*prefers(SHORT, LONG, 1), *prefers(LONG, SHORT, 1)] * 6
    assert 0.3 < probabilities(folded(history), "q", (SHORT, LONG))[0] < 0.7


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


HIKE = ItemFields(title="Mountain hiking boots", category="Outdoor", price=80)
PERFUME = ItemFields(title="Rose perfume", category="Beauty", price=60)


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
        PostInteraction(text="Back from a week of hiking in the mountain huts"),
        PostInteraction(text="I love hiking. I can't stand perfume."),
        DialogueInteraction(messages=(Message(role="user", content="Plan a hiking trip for me"),)),
        DemographicInteraction(text="Hiking guide from Chamonix"),
        StatementInteraction(text="I love hiking"),
        StatementInteraction(text="No perfume, please"),
    ],
    ids=lambda event: event.type,
)
def test_every_kind_of_event_moves_the_scores(event: Interaction):
    profile = folded([event])
    hike, perfume = scores(profile, "", (HIKE, PERFUME))
    assert hike > perfume


def test_what_the_assistant_said_is_not_the_users_taste():
    said = Message(role="assistant", content="I love hiking in the mountains!!!")
    profile = folded([DialogueInteraction(messages=(said,))])
    assert scores(profile, "", (HIKE, PERFUME)) == [0, 0]


def test_statements_come_first_and_outrank_what_was_seen():
    profile = folded([*prefers(LONG, SHORT, 5), StatementInteraction(text="Keep answers short, please.")])
    assert render(profile).startswith('In their own words, newest first: "Keep answers short, please."')
    assert scores(profile, "q", ("Take the train.", "Take the train and then the bus, as they both run often."))[0] > 0


@pytest.mark.parametrize(
    ("said", "liked", "disliked"),
    [
        ("I love jazz but hate opera", "jazz night", "opera night"),
        ("I prefer tea over coffee", "green tea", "black coffee"),
        ("I don't like golf", "tennis", "golf"),
        ("I can't stand crowds", "quiet beach", "crowds"),
        ("I want less politics", "sport", "politics"),
        ("Dogs are my favourite", "a dog book", "a car book"),
    ],
)
def test_likes_and_dislikes_are_read_from_a_sentence(said: str, liked: str, disliked: str):
    here, there = scores(folded([StatementInteraction(text=said)]), "", (liked, disliked))
    assert here > there


def test_a_newer_statement_replaces_an_older_one():
    profile = folded([StatementInteraction(text="I love golf"), StatementInteraction(text="I hate golf")])
    assert scores(profile, "", ("golf", "tennis"))[0] < 0


def test_a_shopper_is_told_categories_words_and_price():
    history: list[Interaction] = []
    for title in ("trail shoes", "trail jacket", "trail map", "trail lamp"):
        cheap = ItemFields(title=title, category="Outdoor", price=20)
        history.append(
            PurchaseInteraction(item=cheap, considered=(ItemFields(title="watch", category="Luxury", price=90),))
        )
    text = render(folded(history))
    assert "drawn to Outdoor" in text
    assert "pass over Luxury" in text
    assert "trail" in text
    assert "priced around 20" in text
    assert "cheaper of the items" in text


def test_a_news_reader_is_told_topics_and_what_changed():
    sport, politics = (
        ItemFields(title=title, category=category)
        for title, category in (("Cup final tonight", "sports"), ("Vote in parliament", "politics"))
    )
    history = [ClickInteraction(clicked=sport, shown=(politics,))] * 15
    history += [ClickInteraction(clicked=politics, shown=(sport,))] * 6
    text = render(folded(history))
    assert "drawn to sports" in text or "pick sports" in text or "picked sports" in text
    assert "Lately picks more of politics" in text
    assert "Lately picks less of sports" in text


def test_ratings_count_against_the_users_own_average():
    films = [ItemFields(title=f"Film {n}", category="Drama") for n in range(12)]
    history: list[Interaction] = [RatingInteraction(item=film, value=5) for film in films]
    history.append(RatingInteraction(item=ItemFields(title="Saw", category="Horror"), value=3))
    profile = folded(history)
    horror = ItemFields(title="It", category="Horror")
    unseen = ItemFields(title="Up", category="Family")
    assert scores(profile, "", (horror, unseen))[0] < 0


def test_reasons_name_what_speaks_for_or_against():
    profile = folded([StatementInteraction(text="I love hiking but hate perfume")])
    assert reason(profile, "", HIKE) == "Matches what they said about hiking."
    assert reason(profile, "", PERFUME) == "Goes against what they said about perfume."
    shopper = folded([PurchaseInteraction(item=HIKE, considered=(PERFUME,))] * 3)
    assert "Outdoor, which they often pick" in reason(shopper, "", ItemFields(title="Tent", category="Outdoor"))
    assert "Beauty, which they tend to pass over" in reason(shopper, "", ItemFields(title="Soap", category="Beauty"))


def test_words_of_the_query_are_not_a_taste():
    event = ComparisonInteraction(query="Tell me about volcanoes", chosen="volcanoes erupt", rejected="mountains sleep")
    assert "volcanoes" not in folded([event]).terms


# --- robustness ----------------------------------------------------------------------------------


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
    started = time.perf_counter()
    profile = folded(
        [
            ComparisonInteraction(query=text, chosen=text, rejected="plain"),
            PostInteraction(text=text),
            StatementInteraction(text=text),
            RatingInteraction(item=ItemFields(title="t", description=text, category=text), value=1, review=text),
        ]
    )
    assert time.perf_counter() - started < 0.5
    assert len(dumps(profile)) < 3_000
    assert all(math.isfinite(value) for value in scores(profile, text, (text, "plain", "")))
    assert "\n\n" not in render(profile)


def test_a_link_in_a_statement_is_not_shown():
    text = render(folded([StatementInteraction(text='See https://evil.example/x "now"\x07 and www.evil.example')]))
    assert "evil" not in text
    assert "\"See [link] 'now' and [link]\"" in text


def test_extreme_prices_and_ratings_stay_finite():
    dear = ItemFields(title="a", price=1e300)
    cheap = ItemFields(title="b", price=1e-300)
    history: list[Interaction] = [PurchaseInteraction(item=dear, considered=(cheap,))] * 200
    history.append(RatingInteraction(item="film", value=0, scale=(-math.inf, 5)))
    history.append(RatingInteraction(item="film", value=1e308, scale=(-1e308, 1e308)))
    assert all(math.isfinite(value) for value in scores(folded(history), "", (dear, cheap)))


def test_two_hundred_shown_items_are_one_events_worth():
    one = folded([ClickInteraction(clicked=HIKE, shown=(PERFUME,))])
    many = folded([ClickInteraction(clicked=HIKE, shown=tuple(PERFUME for _ in range(200)))])
    assert scores(many, "", (HIKE, PERFUME))[0] <= scores(one, "", (HIKE, PERFUME))[0] + 1e-6
