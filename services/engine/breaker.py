"""The circuit breaker of a server that calls go to."""

import math
import time
from collections.abc import Callable

from services.engine.wire import SILENT
from services.errors import EngineUnavailable


class Breaker:
    """A circuit breaker: opens after `failures` in a row for `cooldown_s`, then lets a single probe through."""

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._failures = 0
        self._opened_at = -math.inf
        self._probing = False
        self.fault: Callable[[], str] = lambda: ""
        """Why no call may go out, however the latest ones ended; empty for nothing."""

    @property
    def open(self) -> bool:
        """Whether calls are refused, until a probe succeeds."""
        return self._failures >= self._limit or bool(self.fault())

    def check(self) -> None:
        """Raises EngineUnavailable, with the seconds to wait, unless a call may go out now."""
        if fault := self.fault():
            raise EngineUnavailable(fault, retry_after=self._cooldown_s)
        if self._failures < self._limit:
            return
        left = self._opened_at + self._cooldown_s - self._clock()
        if left > 0 or self._probing:
            raise EngineUnavailable(SILENT, retry_after=max(left, 1.0))

    def admit(self) -> None:
        """As `check`, for a call that goes out; report its end by one of the methods below."""
        self.check()
        self._probing = self._failures >= self._limit

    def record_success(self) -> None:
        self._failures, self._probing = 0, False

    def record_failure(self) -> None:
        self._failures, self._probing = self._failures + 1, False
        if self._failures >= self._limit:
            self._opened_at = self._clock()

    def release(self) -> None:
        """The call ended without evidence about the engine."""
        self._probing = False
