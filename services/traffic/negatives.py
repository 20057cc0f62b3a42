"""Items that a user was not shown, for events in which an item is taken by itself.

Such an event teaches the weights of features only against another item. It is drawn from a sample of all items that
the process has met: those with the smallest keys, which are hashes, so that each item has the same chance however often
it is met. The profile compares the two before it knows the event; the log keeps the result beside the event.
"""

import random
from bisect import insort
from collections.abc import Iterable
from threading import Lock
from typing import Final, NamedTuple

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import ItemFields
from services.profile.scoring import scores
from services.profile.statistics import Profile
from services.traffic.features import compare_popularity
from services.traffic.items import category_key, find_taken, item_key

_SAMPLE: Final = 512
_LEAST_SAMPLE: Final = 20
_TENANTS: Final = 256
"""Tenants of whom a sample is kept; the first of more goes."""
MOST_DRAWN: Final = 8
"""Draws for one call: each costs about as much as an event."""


class Drawn(NamedTuple):
    """An item to compare with the one taken."""

    key: str
    category: str
    odds: float
    """Log-odds of the item taken by the profile, popularity given by the caller aside."""
    given: float
    """Difference of the popularity that the caller gives."""

    @classmethod
    def parse(cls, text: str) -> "Drawn":
        key, category, odds, given = text.split()
        return cls(key, category, float(odds), float(given))

    def text(self) -> str:
        return f"{self.key} {self.category} {self.odds:.6g} {self.given:.6g}"


class _Sample:
    def __init__(self) -> None:
        self.order: list[str] = []
        """Keys read backwards, smallest first: their beginnings name buckets."""
        self.items: dict[str, ItemFields] = {}

    def choose(self) -> tuple[str, ItemFields]:
        key = random.choice(self.order)[::-1]  # noqa: S311  # no secret
        return key, self.items[key]

    def add(self, key: str, item: ItemFields) -> None:
        if key in self.items:
            return
        if len(self.order) >= _SAMPLE and key[::-1] >= self.order[-1]:
            return
        insort(self.order, key[::-1])
        self.items[key] = item
        if len(self.order) > _SAMPLE:
            del self.items[self.order.pop()[::-1]]


class Negatives:
    """Samples of the items of each tenant. One object a process."""

    def __init__(self) -> None:
        self._samples: dict[str, _Sample] = {}
        self._lock = Lock()

    def draw(self, tenant: str, profile: Profile, event: Interaction) -> Drawn | None:
        """An item against which the one that the event takes alone is compared; None where it takes none."""
        taken = find_taken(event)
        if taken is None or isinstance(taken, str):
            return None
        key = item_key(taken)
        assert key is not None
        with self._lock:  # long histories are folded in threads
            sample = self._sample(tenant)
            other, item = sample.choose() if len(sample.items) >= _LEAST_SAMPLE else (key, taken)
            sample.add(key, taken)
        if other == key:
            return None
        first, second = scores(profile, "", (taken, item))
        given = compare_popularity(taken, item)
        return Drawn(other, category_key(item), first - second - given, given)

    def add(self, tenant: str, items: Iterable[ItemFields]) -> None:
        """Items of a catalogue, which nobody may have met yet."""
        with self._lock:
            for item in items:
                if key := item_key(item):
                    self._sample(tenant).add(key, item)

    def _sample(self, tenant: str) -> _Sample:
        if tenant not in self._samples and len(self._samples) >= _TENANTS:
            del self._samples[next(iter(self._samples))]
        return self._samples.setdefault(tenant, _Sample())
