"""Histories for the tests of the fast profile: any there may be, and a few plain ones."""

from hypothesis import strategies as st

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
from alignx.schemas.items import Item, ItemFields
from services.profile.claims.explain import reasons
from services.profile.fold import fold
from services.profile.render import render
from services.profile.scoring import scores
from services.profile.statistics import EMPTY, Profile

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
    year=st.none() | st.integers(0, 3000) | st.sampled_from(["1994-05-01", "unknown"]),
    popularity=st.none() | st.integers(-1, 10**15) | st.floats(),
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


def stated(*texts: str) -> Profile:
    return folded([StatementInteraction(text=text) for text in texts])


def told(*texts: str) -> str:
    """The profile's words after these statements."""
    return render(stated(*texts))


def lead(profile: Profile, query: str, first: Item, second: Item) -> float:
    """By how much the first scores higher."""
    here, there = scores(profile, query, (first, second))
    return here - there


def reason(profile: Profile, query: str, item: Item) -> str:
    return reasons(profile, query, (item,), (0,))[0]


HIKE = ItemFields(title="Mountain hiking boots", category="Outdoor", price=80)
PERFUME = ItemFields(title="Rose perfume", category="Beauty", price=60)
