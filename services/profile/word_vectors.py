"""What the meaning of words adds to the fast profile: how near an item is to what was taken before.

A choice points from the texts passed over to the text taken, an item taken by itself to its text. The sum of these
directions fades with age and is kept with the profile. Items are compared by their cosine with it, which counts less
after few choices, or after choices that contradict each other.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from services.profile.item_features import ItemFeatures
from services.profile.statistics import FADE, Profile, Tallies, clip
from services.profile.word_table import WIDTH, Vectors, load

NEARNESS = 4.0
"""Log-odds of a cosine of 1: two texts of one kind differ by a tenth, which a reader notices."""
PRIOR = 1.0
"""Squared length by which a choice makes the direction longer, of which it keeps as much as choices agree."""
MAX_NEARNESS = 4.0
_TOP = 127
"""Largest number of a signed byte."""


def embed_items(views: Sequence[ItemFeatures]) -> Vectors:
    return load().embed([view.text for view in views])


def turn(direction: bytes, tallies: Tallies, difference: Vectors, weight: float) -> tuple[bytes, Tallies]:
    """The direction, with its tallies, after one more `difference` of two vectors, or one more vector."""
    turned = weight * difference + FADE * _unpack(direction, tallies)
    reach = float(np.abs(turned).max())
    packed = np.rint(turned * (_TOP / reach if reach else 0.0)).astype(np.int8).tobytes()
    return packed, tallies._replace(embedded=FADE * tallies.embedded + abs(weight), reach=reach)


def _unpack(direction: bytes, tallies: Tallies) -> Vectors:
    if not direction:
        return np.zeros(WIDTH, np.float32)
    return np.frombuffer(direction, np.int8).astype(np.float32) * np.float32(tallies.reach / _TOP)


def nearness(profile: Profile, vectors: Vectors) -> list[float]:
    """Log-odds of each vector, before they are compared."""
    direction, count = _unpack(profile.direction, profile.tallies), profile.tallies.embedded
    length = sqrt(direction @ direction + PRIOR * count)
    near = vectors @ direction * (NEARNESS / length if length else 0.0)
    odds: list[float] = near.astype(float).round(4).tolist()  # alike on processors that sum in another order
    return odds


def nearer(first: float, second: float, trust: float) -> float:
    """By how much the `nearness` of an item speaks for it against another's. Of few words, such as a name, the meaning
    counts less."""
    return clip(trust * (first - second), MAX_NEARNESS)
