"""Refuses calls at once while more arrive than can be answered in time, those of whoever has most under way first.

A call waits for the event loop at each of its steps. So the loop's own delay says how long calls queue: a timer that
is due every `_TICK_S` is late by it. A single late turn is work; a delay that none of the last `TURNS` was without is
a queue that stands, after the rule of CoDel (RFC 8289). Then the calls that may be under way at once become fewer than
there are, and as long as turns are in time they become more again. Who is refused is a matter of shares (`FairShare`).
bounds.py asks before a call has a task, a body or a log line.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import AlignXError, Overloaded

_TICK_S: Final = 0.005
TARGET_S: Final = 0.025
"""A standing delay that is too long: a call takes about six turns."""
TURNS: Final = 3
FEWEST: Final = 64
"""Calls that may be under way at once however late the loop is."""
FEW: Final = 16
"""The same of each holder beyond the limit, while there are few holders."""
_OVER: Final = 4
"""Times the limit, up to which holders of few calls may go."""
MOST: Final = 1_024
"""The same while it is in time."""
_WORK: Final = ("/v1/", "/mcp")
"""Paths of calls that may be refused."""
_GROWTH: Final = 0.1
"""Further calls after each turn in time."""
_BYTES_OF_ONE: Final = 4_096
"""Of a body that takes the time of a further call; appends and recommendations of a thousand take that of many."""
_HEAVIEST: Final = 16
COUNTED_S: Final = 1.0
"""From then on a call counts no more: it waits, for an engine or for news, and does not work."""


class FairShare:
    """Calls under way, within a limit that their holders share: beyond it only those are let in who hold less than an
    equal part of it, or few, as long as there are not many such. A heavy call counts as several."""

    def __init__(self, limit: float, few: int = 0) -> None:
        self.limit = limit
        self._few = few
        self.total = 0
        self._held: Counter[str] = Counter()

    def admits(self, holder: str) -> bool:
        if self.total < self.limit:
            return True
        held = self._held[holder]
        is_fair = (held + 1) * (len(self._held) + (not held)) <= self.limit
        return is_fair or (held < self._few and self.total < _OVER * self.limit)

    def take(self, holder: str, weight: int = 1) -> None:
        self.total += weight
        self._held[holder] += weight

    def release(self, holder: str, weight: int = 1) -> None:
        self.total -= weight
        self._held[holder] -= weight
        if not self._held[holder]:
            del self._held[holder]


class LoadShedding:
    """The calls under way in a process, and how late its event loop is."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        holder_of: Callable[[Scope], str],
        refuse: Callable[[Scope, AlignXError], ASGIApp],
        known_refusal: Callable[[Scope], AlignXError | None] = lambda _scope: None,
    ) -> None:
        self._holder_of = holder_of
        self._known_refusal = known_refusal
        self._refuse = refuse
        self.calls = FairShare(MOST, few=FEW)
        self._counted: deque[tuple[float, list[tuple[str, int]]]] = deque()
        """When each call came, and its holder and weight while it counts, in the order of the times."""
        self._delays = deque([0.0] * TURNS, maxlen=TURNS)
        self._timer: asyncio.TimerHandle | None = None
        gauge = Gauge(
            "alignx_event_loop_delay_seconds",
            f"Least delay of the event loop in its last {TURNS} turns",
            registry=registry,
        )
        gauge.set_function(self.standing_s)
        limit = Gauge("alignx_calls_limit", "Calls under way from which on shares count", registry=registry)
        limit.set_function(lambda: self.calls.limit)

    def start(self) -> None:
        self._schedule()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def standing_s(self) -> float:
        return min(self._delays)

    def note(self, delay_s: float) -> None:
        """Takes a turn's delay into account."""
        self._delays.append(delay_s)
        standing, calls = self.standing_s(), self.calls
        if standing > TARGET_S:
            calls.limit = max(FEWEST, min(calls.limit, calls.total) * max(0.5, TARGET_S / standing))
            self._delays[-1] = TARGET_S  # the next turns show what that has done
        elif delay_s <= TARGET_S:
            calls.limit = min(MOST, calls.limit + _GROWTH)

    def refusal(self, scope: Scope) -> ASGIApp | None:
        """What answers a call that is not let in."""
        if not _is_work(scope):
            return None
        error = self._known_refusal(scope)
        if error is None and not self.calls.admits(self._holder_of(scope)):
            error = Overloaded(retry_after=1.0)
        return self._refuse(scope, error) if error else None

    def count(self, scope: Scope, app: ASGIApp) -> ASGIApp:
        """`app` for a call that counts from now on, until it ends."""
        if not _is_work(scope):
            return app
        holder, weight = self._holder_of(scope), _weight(scope)
        self.calls.take(holder, weight)
        held = [(holder, weight)]
        self._counted.append((time.monotonic(), held))

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self._leave(held)

        return serve

    def _leave(self, held: list[tuple[str, int]]) -> None:
        if held:
            self.calls.release(*held.pop())

    def _schedule(self) -> None:
        self._due = time.monotonic() + _TICK_S
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        while self._counted and self._counted[0][0] < now - COUNTED_S:
            self._leave(self._counted.popleft()[1])
        self.note(now - self._due)
        self._schedule()


def _is_work(scope: Scope) -> bool:
    """A browser's question before its call is none."""
    path: str = scope["path"]
    return path.startswith(_WORK) and scope["method"] != "OPTIONS"


def _weight(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return min(_HEAVIEST, 1 + int(value) // _BYTES_OF_ONE)
        if name == b"transfer-encoding":
            return _HEAVIEST
    return 1
