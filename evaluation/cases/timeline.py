"""The events of a recommendation benchmark, and the targets to predict in it.

Events take 28 bytes each in arrays, so that millions fit. A moment is an event that a user liked, of an item new to
the user; its history is what the same user did strictly before it, and popularity counts events of all users
strictly before it. Nothing later enters a row, except that a rejected item is one that the user never takes.
"""

import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Item
from evaluation.cases.benchmark import UNMATCHED, Plan, Tally, make_target
from evaluation.cases.benchmark_rows import BenchmarkRow

Ints = Any
"""A NumPy array of integers."""
DRAWS = 1_000
"""Most draws for an item that the user never takes."""


class Moment(NamedTuple):
    """Items by their number in `Timeline.names`, events by the order in which they were added."""

    user: str
    history: list[int]
    """Events, oldest first."""
    chosen: int
    rejected: int
    popularity: tuple[float, float]


class Timeline:
    """Filled with `add`, then read once with `moments`."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self._user = array("i")
        self._item = array("i")
        self._time = array("d")
        self._value = array("d")

    def __len__(self) -> int:
        return len(self._time)

    def add(self, user: str, item: str, time: float, value: float) -> None:
        """`time` in any increasing unit; `value` on the scale of `Plan.liked`."""
        self._user.append(self.users.setdefault(user, len(self.users)))
        self._item.append(self.items.setdefault(item, len(self.items)))
        self._time.append(time)
        self._value.append(value)

    @property
    def names(self) -> list[str]:
        return list(self.items)

    def event(self, number: int) -> tuple[int, float, float]:
        """Item, time and value."""
        return self._item[number], self._time[number], self._value[number]

    def moments(self, plan: Plan, tally: Tally) -> Iterator[Moment]:
        """User by user in the order of their first events; each user's moments in the order of time."""
        if not len(self):
            return
        ordered = _Ordered(self, plan)
        if ordered.repeated:
            tally.left_out["repeated events"] = ordered.repeated
        for name, user in self.users.items():
            events = ordered.events_of(user)
            targets = ordered.targets(events)
            if not targets:
                tally.left_out["users without a liked item after other events"] += 1
            for index in targets:
                moment = ordered.moment(name, events, index, plan.rng("moment", name, index))
                if moment is None:
                    matched = plan.negatives == "matched"
                    tally.left_out[UNMATCHED if matched else "targets without another item to draw"] += 1
                else:
                    yield moment


def make_rows(
    moments: Iterable[Moment],
    benchmark: str,
    query: str,
    items: Sequence[Item],
    event: Callable[[int], Interaction],
    tally: Tally,
) -> Iterator[BenchmarkRow]:
    """`items` by their number; `event` gives the interaction by its number."""
    for moment in moments:
        target = make_target(query, items[moment.chosen], items[moment.rejected], tally)
        if target:
            yield BenchmarkRow(
                userid=moment.user,
                benchmark=benchmark,
                history=tuple(map(event, moment.history)),
                target=target,
                popularity=moment.popularity,
            )


class _Ordered:
    """The events of a timeline by time, by user and by item."""

    def __init__(self, timeline: Timeline, plan: Plan) -> None:
        self.plan = plan
        self.count = len(timeline.items)
        self.times = np.frombuffer(timeline._time, dtype=np.float64)
        self.items = np.frombuffer(timeline._item, dtype=np.int32)
        self.values = np.frombuffer(timeline._value, dtype=np.float64)
        users = np.frombuffer(timeline._user, dtype=np.int32)
        in_time = np.argsort(self.times, kind="stable")
        once = _first_of_each(users, self.items, self.times)
        self.repeated = int(len(once) - once.sum())
        in_time = in_time[once[in_time]]
        self._all_items, self._all_times = self.items[in_time], self.times[in_time]
        self._by_user = in_time[np.argsort(users[in_time], kind="stable")]
        self._user_ends = np.cumsum(np.bincount(users[once], minlength=len(timeline.users)))
        by_item = in_time[np.argsort(self.items[in_time], kind="stable")]
        self._item_times = self.times[by_item]
        self._item_ends = np.cumsum(np.bincount(self.items[once], minlength=self.count))
        liked = in_time[self.values[in_time] >= plan.liked]
        self._liked, self._liked_times = self.items[liked], self.times[liked]

    def events_of(self, user: int) -> Ints:
        start = self._user_ends[user - 1] if user else 0
        return self._by_user[start : self._user_ends[user]]

    def targets(self, events: Ints) -> list[int]:
        """Indices in `events`, at most `Plan.targets`, the last ones, by time."""
        times, items = self.times[events], self.items[events]
        _, firsts = np.unique(items, return_index=True)  # an item is new to its user once
        new = sorted(index for index in firsts if times[index] > times[0])
        return [int(index) for index in new if self.values[events[index]] >= self.plan.liked][-self.plan.targets :]

    def moment(self, user: str, events: Ints, index: int, rng: random.Random) -> Moment | None:
        now = self.times[events[index]]
        before = int(np.searchsorted(self.times[events], now, side="left"))
        chosen = int(self.items[events[index]])
        taken = frozenset(self.items[events].tolist())
        matched = self.plan.negatives == "matched"
        rejected = self._draw_matched(chosen, taken, now, rng) if matched else self._draw(taken, now, rng)
        if rejected is None:
            return None
        history = [int(event) for event in events[max(0, before - self.plan.history) : before]]
        counts = (self._popularity(chosen, now), self._popularity(rejected, now))
        return Moment(user, history, chosen, rejected, counts)

    def _draw(self, taken: frozenset[int], now: float, rng: random.Random) -> int | None:
        earlier = int(np.searchsorted(self._liked_times, now, side="left"))
        by_popularity = self.plan.negatives == "popular"
        most = earlier if by_popularity else self.count
        for _ in range(DRAWS if most else 0):
            number = rng.randrange(most)
            item = int(self._liked[number]) if by_popularity else number
            if item not in taken:
                return item
        return None

    def _draw_matched(self, chosen: int, taken: frozenset[int], now: float, rng: random.Random) -> int | None:
        """An item that the user never takes, as popular as `chosen`; None without one."""
        earlier = int(np.searchsorted(self._all_times, now, side="left"))
        counts = np.bincount(self._all_items[:earlier], minlength=self.count)
        unseen = np.setdiff1d(np.arange(self.count), np.fromiter(taken, dtype=np.int64))
        matching = unseen[counts[unseen] == counts[chosen]].tolist()
        return int(rng.choice(matching)) if matching else None

    def _popularity(self, item: int, now: float) -> float:
        """Events of the item strictly before `now`."""
        start = self._item_ends[item - 1] if item else 0
        return float(np.searchsorted(self._item_times[start : self._item_ends[item]], now, side="left"))


def _first_of_each(*columns: Ints) -> Ints:
    """Whether each event is the first with its values in all columns."""
    order = np.lexsort(columns)  # stable
    same = np.ones(max(0, len(order) - 1), dtype=bool)
    for column in columns:
        same &= column[order[1:]] == column[order[:-1]]
    first = np.ones(len(order), dtype=bool)
    first[order[1:][same]] = False
    return first
