"""Histories with something in them that is not, or no longer, the user: what summaries must stand.

`cases.flipped` turns round single choices, as noise does. Here the whole past is another one (drift), or
another user's events stand among the own (irrelevant history, as on a shared account). Targets stay.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from alignx.schemas.interactions import Interaction
from evaluation.cases.cases import OneUser, User, turned_round

Drift = Literal["reversed", "other"]
"""What the older half of a history becomes: its own opposite, or what another user did."""


def others(users: Sequence[User]) -> list[int] | None:
    """For each user the place of the next one with another history; none where all have the same."""
    if len({user.history_digest for user in users}) < 2:
        return None
    count = len(users)

    def next_one(place: int) -> int:
        following = ((place + step) % count for step in range(1, count))
        return next(other for other in following if users[other].history_digest != users[place].history_digest)

    return list(map(next_one, range(count)))


def drifted(users: Sequence[OneUser], drift: Drift, *, seed: int) -> list[OneUser]:
    """The users with another past: the older half of each history reversed event by event, or in its
    place the older half of another user's. What has no other side cannot be reversed and stays.

    Raises ValueError where another user's past is asked for and all have the same history.
    """
    rng, strangers = random.Random(seed), others(users) if drift == "other" else None
    if drift == "other" and strangers is None:
        raise ValueError("the past of another user needs users with different histories")
    changed = []
    for place, user in enumerate(users):
        middle = len(user.history) // 2
        past = user.history[:middle]
        if strangers is None:
            past = tuple(turned_round(event, rng) for event in past)
        else:
            stranger = users[strangers[place]].history
            past = stranger[: len(stranger) // 2]
        changed.append(replace(user, history=(*past, *user.history[middle:])))
    return changed


def mixed(users: Sequence[OneUser], share: float, *, seed: int) -> list[OneUser]:
    """The users with events of another one among their own: of that user the latest, as many as `share` of
    the own events, at places that are drawn; the order of each user's events stays.

    Raises ValueError where all have the same history.
    """
    strangers = others(users)
    if strangers is None:
        raise ValueError("events of another user need users with different histories")
    rng, changed = random.Random(seed), []
    for user, place in zip(users, strangers, strict=True):
        stranger = users[place].history
        count = min(round(share * len(user.history)), len(stranger))
        foreign = stranger[len(stranger) - count :]
        changed.append(replace(user, history=_woven(user.history, foreign, rng)))
    return changed


def _woven(own: Sequence[Interaction], foreign: Sequence[Interaction], rng: random.Random) -> tuple[Interaction, ...]:
    whole = len(own) + len(foreign)
    places = set(rng.sample(range(whole), len(foreign)))
    left, right = iter(own), iter(foreign)
    return tuple(next(right) if place in places else next(left) for place in range(whole))
