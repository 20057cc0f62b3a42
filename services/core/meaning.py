"""What sentence embeddings add to the fast profile: how near an item is in meaning to what was taken before.

Optional, and nothing of it is stored: the texts of the latest events are embedded when items are scored.
Each choice points from the texts passed over to the text taken; the mean of these directions, drawn to
nothing by PRIOR choices without any, is what an item is compared with. It is added to the log-odds of
`services.core.profile.scores`. Everything here is pure; who embeds is the caller's business.
"""

from collections.abc import Sequence
from math import isfinite, sqrt
from operator import mul
from typing import NamedTuple

from services.core.items import trust
from services.core.profile import FADE, clip
from services.core.schemas import ClickInteraction, Interaction, Item, PurchaseInteraction, RatingInteraction, item_text
from services.core.style import words

SCALE = 10.0
"""Log-odds of a cosine of 1: two texts of one kind differ by a tenth, which a reader notices."""
PRIOR = 1.0
"""Choices without any direction that everybody starts with."""
MAX_MEANING = 4.0
MAX_EVENTS = 24
"""Latest events that are read."""
MAX_OTHERS = 3
"""Items passed over that one event teaches from."""
MAX_TEXT = 1_000
"""Characters of a text that are embedded: more than small models read."""

Vector = Sequence[float]


class Lesson(NamedTuple):
    """A text that was taken, or with a weight below 0 passed over."""

    text: str
    weight: float


def lessons(history: Sequence[Interaction]) -> list[Lesson]:
    """What the latest events teach; the newest counts most. Nothing where no event is a choice."""
    found: list[Lesson] = []
    for age, event in enumerate(reversed(history[-MAX_EVENTS:])):
        fade = FADE**age
        if pairs := event.pairs()[:MAX_OTHERS]:
            found.append(Lesson(text_of(pairs[0].chosen), fade))
            found += [Lesson(text_of(pair.rejected), -fade / len(pairs)) for pair in pairs]
        elif isinstance(event, RatingInteraction):
            if event.liking and isfinite(event.liking):
                found.append(Lesson(text_of(event.item), fade * event.liking))
        elif isinstance(event, PurchaseInteraction):
            found.append(Lesson(text_of(event.item), fade))
        elif isinstance(event, ClickInteraction):
            found.append(Lesson(text_of(event.clicked), fade))
    return found


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
    total = sum(lesson.weight for lesson in taught if lesson.weight > 0) + PRIOR
    direction = [0.0] * width
    for lesson, vector in zip(taught, vectors, strict=True):
        share = lesson.weight / total / _length(vector)
        direction = [have + share * more for have, more in zip(direction, vector, strict=True)]
    near = [sum(map(mul, direction, vector)) / _length(vector) for vector in items]
    middle = sum(near) / len(near)
    if not isfinite(middle):
        raise ValueError("embeddings that are no finite numbers")
    scale = SCALE * min(trust(words(text)) for text in offered)
    return [clip(scale * (value - middle), MAX_MEANING) for value in near]


def _length(vector: Vector) -> float:
    return sqrt(sum(map(mul, vector, vector))) or 1.0
