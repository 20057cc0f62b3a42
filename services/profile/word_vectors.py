"""What sentence embeddings add to the fast profile: how near an item is in meaning to what was taken before.

Optional, and nothing of it is stored: the texts of the latest events are embedded when items are scored.
A choice points from the texts passed over to the text taken, and items are compared with the mean of these
directions, drawn to nothing by PRIOR choices without any. Of items taken by themselves, such as purchases, a
user has several sorts: an item is as near as the NEAREST few of them. The sum is added to the log-odds of
`services.profile.scoring.scores`. Everything here is pure; who embeds is the caller's business.
"""

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import NamedTuple

from alignx.schemas.interactions import ClickInteraction, Interaction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import Item, item_text
from services.profile.item_features import trust
from services.profile.statistics import FADE, clip, dot
from services.profile.style_features import words

SCALE = 10.0
"""Log-odds of a cosine of 1: two texts of one kind differ by a tenth, which a reader notices."""
PRIOR = 1.0
"""Choices without any direction that everybody starts with."""
NEAREST = 3
MAX_MEANING = 4.0
MAX_EVENTS = 24
"""Latest events that are read."""
MAX_PRODUCTS = 1_000_000
"""Numbers that are multiplied to find the nearest of what was taken by itself: where vectors are long and
items many, only the newest of it are compared."""
MAX_OTHERS = 3
"""Items passed over that one event teaches from."""
MAX_TEXT = 1_000
"""Characters of a text that are embedded: more than small models read."""

Vector = Sequence[float]


class Lesson(NamedTuple):
    """A text that was taken, or with a weight below 0 passed over."""

    text: str
    weight: float
    alone: bool = False
    """Whether it was taken by itself rather than instead of another."""


def lessons(history: Sequence[Interaction]) -> list[Lesson]:
    """What the latest events teach; of choices the newest counts most. Nothing where no event is a choice."""
    result: list[Lesson] = []
    for age, event in enumerate(reversed(history[-MAX_EVENTS:])):
        if pairs := event.pairs()[:MAX_OTHERS]:
            fade = FADE**age
            result.append(Lesson(text_of(pairs[0].chosen), fade))
            result += [Lesson(text_of(pair.rejected), -fade / len(pairs)) for pair in pairs]
        elif (item := _taken_alone(event)) is not None:
            result.append(Lesson(text_of(item), 1.0, alone=True))
    return result


def _taken_alone(event: Interaction) -> Item | None:
    match event:
        case ClickInteraction():
            return event.clicked
        case PurchaseInteraction():
            return event.item
        case RatingInteraction() if event.liking > 0:
            return event.item
    return None


def text_of(item: Item) -> str:
    """What of an item is embedded."""
    return item_text(item)[:MAX_TEXT]


def nearness(
    taught: Sequence[Lesson], vectors: Sequence[Vector], offered: Sequence[str], items: Sequence[Vector]
) -> list[float]:
    """Log-odds of each item against the mean of all; `vectors` are of the lessons' texts and `items` of the
    texts `offered`. All 0 without lessons. Of few words, such as a name, the meaning counts less.

    Raises ValueError for vectors of several lengths, and for numbers past all bounds.
    """
    if not taught or not items:
        return [0.0] * len(items)
    width = len(items[0])
    if any(len(vector) != width for vector in (*vectors, *items)):
        raise ValueError("embeddings of several lengths")
    known = list(zip(taught, vectors, strict=True))
    direction = _direction([entry for entry in known if not entry[0].alone], width)
    most = max(NEAREST, MAX_PRODUCTS // (len(items) * max(width, 1)))
    alone = [_of_length_one(vector) for lesson, vector in known if lesson.alone][:most]
    near = [(dot(direction, vector) + _nearest(alone, vector)) / _length(vector) for vector in map(list, items)]
    middle = sum(near) / len(near)
    if not isfinite(middle):
        raise ValueError("embeddings that are no finite numbers")
    scale = SCALE * min(trust(words(text)) for text in offered)
    return [clip(scale * (value - middle), MAX_MEANING) for value in near]


def _direction(known: Sequence[tuple[Lesson, Vector]], width: int) -> list[float]:
    total = sum(lesson.weight for lesson, _ in known if lesson.weight > 0) + PRIOR
    direction = [0.0] * width
    for lesson, vector in known:
        share = lesson.weight / total / _length(vector)
        direction = [have + share * more for have, more in zip(direction, vector, strict=True)]
    return direction


def _nearest(taken: Sequence[Vector], item: Vector) -> float:
    """Mean cosine, times the item's length, of the nearest few, drawn to nothing as a direction is."""
    best = sorted((dot(vector, item) for vector in taken), reverse=True)[:NEAREST]
    return sum(best) / len(best) * len(taken) / (len(taken) + PRIOR) if best else 0.0


def _of_length_one(vector: Vector) -> list[float]:
    length = _length(vector)
    return [value / length for value in vector]


def _length(vector: Vector) -> float:
    return sqrt(dot(vector, vector)) or 1.0
