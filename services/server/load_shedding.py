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

_TICK_S: Final = 0.005
TARGET_S: Final = 0.025
"""A standing delay that is too long: a call takes about six turns."""
TURNS: Final = 3
FEWEST: Final = 8
"""Calls that may be under way at once however late the loop is."""
MOST: Final = 512
"""The same while it is in time."""
_WORK: Final = ("/v1/", "/mcp")
"""Paths of calls that may be refused."""
_GROWTH: Final = 0.25
"""Further calls after each turn in time."""
COUNTED_S: Final = 1.0
"""From then on a call counts no more: it waits, for an engine or for news, and does not work."""


class FairShare:
    """Calls under way, within a limit that their holders share: beyond it only those are let in whose calls, the new
    one with them, are at most an equal part of it. All of those together are never more than the limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.total = 0
        self._held: Counter[str] = Counter()

    def admits(self, holder: str) -> bool:
        if self.total < self.limit:
            return True
        held = self._held[holder]
        return (held + 1) * (len(self._held) + (not held)) <= self.limit

    def take(self, holder: str) -> None:
        self.total += 1
        self._held[holder] += 1

    def release(self, holder: str) -> None:
        self.total -= 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]


class LoadShedding:
    """The calls under way in a process, and how late its event loop is."""

    def __init__(
        self, registry: CollectorRegistry, *, holder_of: Callable[[Scope], str], refuse: Callable[[Scope], ASGIApp]
    ) -> None:
        self._holder_of = holder_of
        self._refuse = refuse
        self.calls = FairShare(MOST)
        self._counted: deque[tuple[float, list[str]]] = deque()
        """When each call came, and its holder while it counts, in the order of the times."""
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
        is_admitted = not scope["path"].startswith(_WORK) or self.calls.admits(self._holder_of(scope))
        return None if is_admitted else self._refuse(scope)

    def count(self, scope: Scope, app: ASGIApp) -> ASGIApp:
        """`app` for a call that counts from now on, until it ends."""
        if not scope["path"].startswith(_WORK):
            return app
        holder = [self._holder_of(scope)]
        self.calls.take(holder[0])
        self._counted.append((time.monotonic(), holder))

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self._leave(holder)

        return serve

    def _leave(self, holder: list[str]) -> None:
        if holder:
            self.calls.release(holder.pop())

    def _schedule(self) -> None:
        self._due = time.monotonic() + _TICK_S
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        while self._counted and self._counted[0][0] < now - COUNTED_S:
            self._leave(self._counted.popleft()[1])
        self.note(now - self._due)
        self._schedule()
