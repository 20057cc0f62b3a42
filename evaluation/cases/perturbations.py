"""Perturbed histories, for robustness: reversed choices, a different past, events of another user.

Targets stay as they are, so a perturbed user is scored on the same choice as the original.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, TypeVar

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    Interaction,
    PurchaseInteraction,
    RatingInteraction,
)
from alignx.schemas.items import Item
from evaluation.cases.cases import User
from training.exceptions import ConfigError

Drift = Literal["reversed", "other"]
"""What replaces the older half of a history: its reversed events, or the older half of another user's."""
UserType = TypeVar("UserType", bound=User)


def flip_choices(users: Sequence[UserType], share: float, *, seed: int) -> list[UserType]:
    """The users with `share` of all choices reversed.

    The share is exact over all users up to half a choice: of 12 choices 3 or 4 are reversed at .3, and the
    remainder passes to the next user. Events that cannot be reversed, such as a post, stay and do not count.
    """
    rng = random.Random(seed)
    perturbed, choices, reversed_count = [], 0, 0
    for user in users:
        reversible = [index for index, event in enumerate(user.history) if is_reversible(event)]
        choices += len(reversible)
        chosen = set(rng.sample(reversible, round(share * choices) - reversed_count))
        reversed_count += len(chosen)
        history = (reverse_event(event, rng) if index in chosen else event for index, event in enumerate(user.history))
        perturbed.append(replace(user, history=tuple(history)))
    return perturbed


def is_reversible(event: Interaction) -> bool:
    """Whether `reverse_event` changes the event."""
    if isinstance(event, RatingInteraction):
        return event.liking != 0
    return bool(event.pairs())


def reverse_event(event: Interaction, rng: random.Random) -> Interaction:
    """The event of a user with the opposite preference.

    A comparison swaps its sides, a rating is mirrored on its scale, a click or a purchase takes another item
    of the page; anything else stays.
    """
    if not is_reversible(event):
        return event
    if isinstance(event, ComparisonInteraction):
        return event.model_copy(update={"chosen": event.rejected, "rejected": event.chosen})
    if isinstance(event, RatingInteraction):
        return event.model_copy(update={"value": sum(event.scale) - event.value})
    other = rng.choice(event.pairs()).rejected
    if isinstance(event, ClickInteraction):
        return event.model_copy(update={"clicked": other, "shown": _swap(event.shown, other, event.clicked)})
    assert isinstance(event, PurchaseInteraction)
    return event.model_copy(update={"item": other, "considered": _swap(event.considered, other, event.item)})


def _swap(page: Sequence[Item], taken: Item, rejected: Item) -> tuple[Item, ...]:
    """The page with `rejected` on it, if need be in place of `taken`."""
    return tuple(page) if rejected in page else tuple(rejected if item == taken else item for item in page)


def split_history(user: User, count: int) -> list[tuple[Interaction, ...]]:
    """The history in `count` parts of equal length, oldest first; a short history has fewer parts."""
    history = user.history
    cuts = [round(index * len(history) / count) for index in range(count + 1)]
    return [history[start:end] for start, end in pairwise(cuts) if start < end]


def have_different_histories(users: Sequence[User]) -> bool:
    return len({user.history_digest for user in users}) > 1


def pick_other_users(users: Sequence[User]) -> list[int]:
    """For each user the index of the next one with another history. Raises ConfigError where all have the same."""
    if not have_different_histories(users):
        raise ConfigError("another user's history or summary needs users with different histories")
    count = len(users)

    def next_other(index: int) -> int:
        following = ((index + step) % count for step in range(1, count))
        return next(other for other in following if users[other].history_digest != users[index].history_digest)

    return list(map(next_other, range(count)))


def replace_past(users: Sequence[UserType], drift: Drift, *, seed: int) -> list[UserType]:
    """The users with the older half of each history reversed, or replaced by that of another user.

    Raises ConfigError where another user's past is needed and all users have the same history.
    """
    rng, others = random.Random(seed), pick_other_users(users) if drift == "other" else None
    perturbed = []
    for index, user in enumerate(users):
        middle = len(user.history) // 2
        past = user.history[:middle]
        if others is None:
            past = tuple(reverse_event(event, rng) for event in past)
        else:
            other = users[others[index]].history
            past = other[: len(other) // 2]
        perturbed.append(replace(user, history=(*past, *user.history[middle:])))
    return perturbed


def mix_histories(users: Sequence[UserType], share: float, *, seed: int) -> list[UserType]:
    """The users with the latest events of another user inserted at random positions, `share` of their own number.

    The order of each user's events stays. Raises ConfigError where all users have the same history.
    """
    rng, perturbed = random.Random(seed), []
    for user, index in zip(users, pick_other_users(users), strict=True):
        other = users[index].history
        count = min(round(share * len(user.history)), len(other))
        perturbed.append(replace(user, history=_interleave(user.history, other[len(other) - count :], rng)))
    return perturbed


def _interleave(
    own: Sequence[Interaction], inserted: Sequence[Interaction], rng: random.Random
) -> tuple[Interaction, ...]:
    total = len(own) + len(inserted)
    positions = set(rng.sample(range(total), len(inserted)))
    left, right = iter(own), iter(inserted)
    return tuple(next(right) if index in positions else next(left) for index in range(total))
