"""The features of items on offer, from the counts of a tenant's traffic.

Nothing is known of an item that fewer users have met than the tenant's least number, nor of two items that fewer users
have liked both.
"""

from collections.abc import Mapping, Sequence
from math import exp, log, log1p, sqrt
from typing import Final, NamedTuple

from alignx.schemas.items import POPULARITY_FIELD, Item
from services.profile.item_features import read_popularity
from services.traffic.counts import Counts
from services.traffic.items import Contact
from services.traffic.mixture import Features

_PRIOR: Final = 10.0
"""Showings that the rate of an item starts with, at the rate of its category; and that of a day, at the rate before."""
_USER_PRIOR: Final = 5.0
"""Items that a user is taken to have met beforehand, and to have liked at the rate of the category."""
_FEW: Final = 5.0
"""Likers added to each item, so that two rare items are no neighbours by chance."""
_NEAR: Final = 20.0
"""Scale of the nearness, in whose logarithm items of equal neighbours differ little."""


class View(NamedTuple):
    """What all users together say of an item."""

    popularity: float = 0.0
    rate: float = 0.0
    recent_rate: float = 0.0
    age: float = 0.0
    scale: float = 0.0
    """What nearness to it counts: less, the more users like it anyway."""
    base: float = 0.0
    """`rate` of its category."""
    is_known: bool = False

    def like(self, taken: int, met: int) -> float:
        """The probability that a user who took so many of the items they met takes this one."""
        share = (taken + _USER_PRIOR / (1 + exp(-self.base))) / (met + _USER_PRIOR)
        return 1 / (1 + exp(self.base - self.rate - _logit(share)))

    def features(self, nearness: float) -> Features:
        """All but what the profile and the caller say."""
        return Features(
            popularity=self.popularity,
            rate=self.rate,
            recent_rate=self.recent_rate,
            neighbours=log1p(_NEAR * self.scale * nearness),
            age=self.age,
        )

    def weigh(self, weights: Features, nearness: float) -> float:
        """`features` weighed, for a thousand items at once."""
        return (
            weights.popularity * self.popularity
            + weights.rate * self.rate
            + weights.recent_rate * self.recent_rate
            + weights.age * self.age
            + (weights.neighbours * log1p(_NEAR * self.scale * nearness) if nearness else 0.0)
        )


NO_VIEW: Final = View()


class Traffic(NamedTuple):
    """What is known of a tenant's items at one moment."""

    counts: Mapping[str, Counts]
    """Of items and categories."""
    hour: float
    """Since 1970."""
    least_users: int

    def view(self, contact: Contact | None) -> View:
        """What is known of an item, or else of its category; nothing of prose."""
        if contact is None:
            return NO_VIEW
        counts, category = self._find(contact.key), self._find(contact.category)
        rate = recent = 0.5
        if category:
            rate = (category.taken + 1) / (category.shown + 2)
            recent = (category.fast_taken + _PRIOR * rate) / (category.fast_shown + _PRIOR)
        base = _logit(rate)
        if counts is None:
            return View(rate=_logit(rate), recent_rate=_logit(recent))
        rate = (counts.taken + _PRIOR * rate) / (counts.shown + _PRIOR)
        recent = (counts.fast_taken + _PRIOR * rate) / (counts.fast_shown + _PRIOR)
        return View(
            log1p(counts.taken),
            _logit(rate),
            _logit(recent),
            log1p(max(0.0, self.hour - counts.first)),
            1 / sqrt(counts.likers + _FEW),
            base,
            is_known=True,
        )

    def _find(self, key: str) -> Counts | None:
        counts = self.counts.get(key)
        return None if counts is None or counts.users < self.least_users else counts.fade(self.hour)


def measure_nearness(
    likes: Sequence[str], views: Mapping[str, View], neighbours: Mapping[str, Mapping[str, str]], least_users: int
) -> dict[str, float]:
    """By item, how often users who liked what this user did liked it too."""
    near: dict[str, float] = {}
    for like in likes:
        view = views.get(like, NO_VIEW)
        if view.is_known:
            share = view.scale / sqrt(len(likes))
            for other, text in neighbours.get(like, {}).items():
                users = int(text)
                if users >= least_users:
                    near[other] = near.get(other, 0.0) + users * share
    return near


def center_popularity(items: Sequence[Item]) -> list[float]:
    """The popularity that the caller gives, less the mean of those that have one; 0 for the others."""
    given = list(map(_given_popularity, items))
    own = [value for value in given if value is not None]
    middle = sum(own) / len(own) if own else 0.0
    return [0.0 if value is None else value - middle for value in given]


def compare_popularity(first: Item, second: Item) -> float:
    """The difference of the popularity that the caller gives; 0 where it gives one of them none."""
    one, other = _given_popularity(first), _given_popularity(second)
    return 0.0 if one is None or other is None else one - other


def _given_popularity(item: Item) -> float | None:
    extra = None if isinstance(item, str) else item.model_extra
    return read_popularity(extra.get(POPULARITY_FIELD)) if extra else None


def _logit(share: float) -> float:
    share = max(1e-6, min(1 - 1e-6, share))
    return log(share / (1 - share))
