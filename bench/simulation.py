"""The update queue as a discrete-event simulation: who waits, what becomes one update, how long it takes.

The rules are those of services/preference/lua: an event makes its user due after the debounce, at the
latest `max_wait_s` after the first that waits; a due user needs a free place at a worker; events that
come during an update are due with its end. Nothing else of the suite is simulated: what the updates
cost is counted from their number and size (bench/scale.py).
"""

import heapq
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Traffic:
    """How users send events: in visits, some users far more often than others."""

    users: int = 1_000_000
    zipf: float = 0.8
    """A user's share of the visits falls with this power of the user's rank."""
    visit_events: float = 6.0
    """Mean events of a visit (geometric)."""
    gap_s: float = 20.0
    """Mean time between two events of a visit (exponential)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of the queue, in seconds; ALIGNX_QUEUE__* and ALIGNX_SUMMARY__*."""

    debounce_s: float = 0.2
    max_wait_s: float = 2.0
    batch_events: int = 256
    poll_s: float = 0.05
    places: int = 16
    """Updates under way at once, of all workers."""


@dataclass(slots=True)
class Outcome:
    """What a simulated stretch of time brought."""

    events: int = 0
    updates: int = 0
    delays: list[float] = field(default_factory=list)
    """Of each update, from its first event to its end."""
    waits: list[float] = field(default_factory=list)
    """Of each update, from falling due to a free place."""
    busy_s: float = 0.0

    @property
    def coalescing(self) -> float:
        """Events of one update."""
        return self.events / max(self.updates, 1)


def arrivals(
    traffic: Traffic, events_per_s: float, seconds: float, rng: random.Random, one_in: int = 1
) -> list[tuple[float, int]]:
    """(time, user) of every event up to `seconds`, in order; steady from the start on, since visits
    that began before it are there too. Of all users only every `one_in`-th is looked at."""
    weights = list(accumulate(rank**-traffic.zipf for rank in range(1, traffic.users + 1)))
    lead = 8 * traffic.visit_events * traffic.gap_s
    visits_per_s = events_per_s / traffic.visit_events
    found: list[tuple[float, int]] = []
    start = -lead
    more = 1 - 1 / traffic.visit_events
    while (start := start + rng.expovariate(visits_per_s)) < seconds:
        (user,) = rng.choices(range(traffic.users), cum_weights=weights)
        at = start if user % one_in == one_in // 2 else seconds
        while at < seconds:
            if at >= 0:
                found.append((at, user))
            if rng.random() >= more:
                break
            at += rng.expovariate(1 / traffic.gap_s)
    found.sort()
    return found


@dataclass(slots=True)
class _User:
    waiting: deque[float] = field(default_factory=deque)
    due: float = 0.0
    t0: float = 0.0
    """From when the longest wait is counted: the first waiting event, or the end of the last update."""
    leased: bool = False
    queued: bool = False


class Simulation:
    """One queue, run over arrivals that are given."""

    def __init__(self, policy: Policy, update_s: float, rng: random.Random) -> None:
        self.policy = policy
        self.update_s = update_s
        self.rng = rng
        self.outcome = Outcome()
        self._users: dict[int, _User] = {}
        self._calendar: list[tuple[float, int, str, int]] = []
        self._line: deque[tuple[float, int]] = deque()
        """Users who are due and found no place, with when they fell due."""
        self._free = policy.places
        self._number = 0

    def run(self, events: Sequence[tuple[float, int]], count_from: float = 0.0) -> Outcome:
        """Until every event is in a summary; updates that begin before `count_from` are not counted."""
        for at, step, name in self._in_order(events):
            match step:
                case "event":
                    self._arrive(at, name)
                case "due":
                    self._note(at + self.rng.uniform(0, self.policy.poll_s), "look", name)
                case "look":
                    self._look(at, name)
                case _:
                    self._finish(at, name)
            while self._free and self._line:
                self._start(at, *self._line.popleft(), counted=at >= count_from)
        return self.outcome

    def _in_order(self, events: Sequence[tuple[float, int]]) -> Iterator[tuple[float, str, int]]:
        """Arrivals and what the simulation itself puts into its calendar."""
        arriving = iter(events)
        ahead = next(arriving, None)
        while ahead or self._calendar:
            if ahead and (not self._calendar or ahead[0] <= self._calendar[0][0]):
                yield ahead[0], "event", ahead[1]
                ahead = next(arriving, None)
            else:
                at, _, step, name = heapq.heappop(self._calendar)
                yield at, step, name

    def _note(self, at: float, step: str, name: int) -> None:
        self._number += 1
        heapq.heappush(self._calendar, (at, self._number, step, name))

    def _arrive(self, at: float, name: int) -> None:
        user = self._users.setdefault(name, _User())
        if not user.waiting and not user.leased:
            user.t0 = at
        user.waiting.append(at)
        if not user.leased and not user.queued:
            user.due = min(at + self.policy.debounce_s, user.t0 + self.policy.max_wait_s)
            if len(user.waiting) == 1:
                self._note(user.due, "due", name)

    def _look(self, at: float, name: int) -> None:
        """A worker's look at a user who was due."""
        user = self._users[name]
        if user.due > at:  # another event came since
            self._note(user.due, "due", name)
        else:
            user.queued = True
            self._line.append((user.due, name))

    def _start(self, at: float, due: float, name: int, *, counted: bool) -> None:
        user = self._users[name]
        user.queued, user.leased = False, True
        self._free -= 1
        size = min(len(user.waiting), self.policy.batch_events)
        first = user.waiting[0]
        for _ in range(size):
            user.waiting.popleft()
        ends = at + self.update_s
        if counted:
            self.outcome.events += size
            self.outcome.updates += 1
            self.outcome.delays.append(ends - first)
            self.outcome.waits.append(at - due)
            self.outcome.busy_s += ends - at
        self._note(ends, "end", name)

    def _finish(self, at: float, name: int) -> None:
        user = self._users[name]
        user.leased = False
        self._free += 1
        if user.waiting:
            user.t0 = user.due = at
            self._note(at, "due", name)
        else:
            del self._users[name]
