"""The events that a claim rests on: how many spoke for it, the numbers of a few, and what was taken in them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from alignx.schemas.items import Item
from services.profile.item_features import clean
from services.profile.stated.clauses import mask_identifiers
from services.profile.statistics import HALF_LIFE, PRICE
from services.profile.style_features import FEATURES

MAX_EVENTS: Final = 3
"""Numbers kept of the events of one claim; a new one takes the place of the oldest once that has faded to half."""
MAX_TITLES, MAX_TITLE = 18, 96
_LEAST_TITLE, _CUT = 16, 72
_PART: Final = re.compile(r"(?:\s[-–—|(\[/]|[,:;。、，：；|（【])")
_NEWEST: Final = 8
"""Titles kept whatever they speak for."""
TELLING: Final = 0.5
"""Contrast, and weight of an event, from which the event is named as evidence for a style or a price."""
_SHOWN: Final = tuple(
    (f"style:{{}}{feature.name}", position) for position, feature in enumerate(FEATURES) if feature.high
)
Support = Mapping[str, tuple[int, ...]]


def speak(
    support: dict[str, tuple[int, ...]],
    keys: Iterable[str],
    event: int,
    titles: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """One more event speaks for each claim. It is not named where another has the same title."""
    title = titles.get(event)
    for key in keys:
        count, *events = support.get(key, (0,))
        if event in events[-1:]:
            continue
        if not title or all(titles.get(other) != title for other in events):
            if len(events) == MAX_EVENTS and event - events[0] >= HALF_LIFE:
                del events[0]
            if len(events) < MAX_EVENTS:
                events.append(event)
        support[key] = (count + 1, *events)


def style_keys(difference: Sequence[float], weight: float) -> Iterator[str]:
    """The claims on style and price that a contrast of WIDTH entries speaks for; against itself with a `weight` below
    0."""
    for key, position in (*_SHOWN, ("price:{}", PRICE)):
        if abs(difference[position]) >= TELLING:
            yield key.format("+" if difference[position] * weight > 0 else "-")


def title_of(item: Item) -> str:
    """What an item is called; "" for a text that has no title."""
    if isinstance(item, str) and (len(item) > MAX_TITLE or "\n" in item):
        return ""
    title = clean(mask_identifiers(item if isinstance(item, str) else item.title), 4 * MAX_TITLE)
    return title if len(title) <= MAX_TITLE else _shorten(title)


def _shorten(title: str) -> str:
    """Up to the last mark that ends its name, as shops write names and properties in one; else to a whole word."""
    ends = [found.start() for found in _PART.finditer(title, _LEAST_TITLE, MAX_TITLE)]
    return title[: ends[-1]] if ends else f"{title[:_CUT].rpartition(' ')[0] or title[:_CUT]}…"


def prune_support(support: Support, categories: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Without topics that are forgotten."""
    return {
        key: events
        for key, events in support.items()
        if not key.startswith(("topic:", "rated:")) or key[7:] in categories
    }


def prune_titles(titles: Mapping[int, str], support: Support) -> dict[int, str]:
    """The newest, and those of events that speak for a topic."""
    if len(titles) <= _NEWEST:
        return dict(titles)
    kept = {event for key, (_, *events) in support.items() if key.startswith("topic:+") for event in events}
    newest = sorted(titles)[-_NEWEST:]
    return {event: titles[event] for event in sorted({*kept.intersection(titles), *newest})[-MAX_TITLES:]}


class Sentence(NamedTuple):
    """One sentence of the text, or what the user wrote over it."""

    key: str
    """The same for as long as the claim is made."""
    kind: str
    """As `alignx.schemas.summaries.Claim.kind`."""
    text: str
    events: tuple[int, ...] = ()
    """Numbers of events that speak for it, newest last, at most MAX_SUPPORT."""
    counted: int = 0
    """How many there were in all."""
    since: int = 0
    """Number of the event from which on it was claimed; 0 for none."""
    day: int = 0
    """Of that event; 0 where it is not known."""
    about: tuple[str, ...] = ()
    """The claims that it holds, each by its key."""
