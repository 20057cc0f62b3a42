"""A breaker: stops asking an engine that does not answer, so that callers hear so at once."""

import math
import time
from collections.abc import Callable

from services.core.errors import EngineUnavailable

SILENT = "The engine does not answer"


class Breaker:
    """Refuses calls for `cooldown_s` after `failures` in a row, then lets a single one try."""

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._failures = 0
        self._opened_at = -math.inf
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether calls are held back, until one that may try succeeds."""
        return self._failures >= self._limit

    def check(self) -> None:
        """Raises EngineUnavailable, with the seconds to wait, unless a call may go out now."""
        if self._failures < self._limit:
            return
        left = self._opened_at + self._cooldown_s - self._clock()
        if left > 0 or self._probing:
            raise EngineUnavailable(SILENT, retry_after=max(left, 1.0))

    def admit(self) -> None:
        """As `check`, for a call that goes out; report its end by one of the methods below."""
        self.check()
        self._probing = self._failures >= self._limit

    def succeeded(self) -> None:
        self._failures, self._probing = 0, False

    def failed(self) -> None:
        self._failures, self._probing = self._failures + 1, False
        if self._failures >= self._limit:
            self._opened_at = self._clock()

    def released(self) -> None:
        """The call ended without telling anything about the engine."""
        self._probing = False
