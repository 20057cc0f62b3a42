"""Refuses requests at once while more arrive than can be answered in time.

A request waits for the event loop at each of its steps. So the loop's own delay says how long they queue: a timer
that is due every `_TICK_S` is late by it. A single late turn is work; a delay that none of the last `TURNS` was without
is a queue that stands, after the rule of CoDel (RFC 8289). As soon as one turn is in time, requests are let in again.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

_TICK_S: Final = 0.005
TARGET_S: Final = 0.025
"""A standing delay that is too long: a request takes about six turns."""
TURNS: Final = 4


class LoopDelay:
    """How late the running event loop is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._delays = deque([0.0] * TURNS, maxlen=TURNS)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        gauge = Gauge(
            "alignx_event_loop_delay_seconds",
            "Least delay of the event loop in its last four turns",
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
        return min(self._delays)

    def note(self, delay_s: float) -> None:
        self._delays.append(delay_s)

    def _schedule(self) -> None:
        self._due = self._loop.time() + _TICK_S
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self.note(self._loop.time() - self._due)
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
