"""Refuses requests at once while more arrive than can be answered in time.

A request waits for the event loop at each of its steps. So the loop's own delay says how long they queue: a timer
that is due every `_TICK_S` is late by it. A single late turn is work; a delay that no turn of `WINDOW_S` was without is
a queue that stands, after the rule of CoDel (RFC 8289). As soon as one turn is in time, requests are let in again.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

_TICK_S: Final = 0.005
TARGET_S: Final = 0.02
"""A standing delay that is too long."""
WINDOW_S: Final = 0.1


class LoopDelay:
    """How late the running event loop is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._delays: deque[tuple[float, float]] = deque()
        """(when, delay) of the window; each delay is below those after it, so the first is the least."""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        gauge = Gauge(
            "alignx_event_loop_delay_seconds",
            "Least delay of the event loop within the last tenth of a second",
            registry=registry,
        )
        gauge.set_function(self.standing_s)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def standing_s(self) -> float:
        return self._delays[0][1] if self._delays else 0.0

    def note(self, now: float, delay: float) -> None:
        while self._delays and self._delays[-1][1] >= delay:
            self._delays.pop()
        self._delays.append((now, delay))
        while self._delays[0][0] < now - WINDOW_S:
            self._delays.popleft()

    def _schedule(self) -> None:
        self._due = self._loop.time() + _TICK_S
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self.note(now, now - self._due)
        self._schedule()


class LoadShedding:
    """ASGI middleware: lets `refuse` answer requests under /v1 while the loop's delay stands above the target."""

    def __init__(self, app: ASGIApp, *, delay: LoopDelay, refuse: Callable[[Scope], ASGIApp]) -> None:
        self.app = app
        self.delay = delay
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and scope["path"].startswith("/v1/") and self.delay.standing_s() > TARGET_S:
            app = self.refuse(scope)
        await app(scope, receive, send)
