"""How many updates a worker has under way at once, and when it holds them back.

The limit halves when the engine is overloaded or away and grows by one a round of successes (additive
increase, multiplicative decrease). Updates wait while the engine refuses canaries (services/engine/capabilities.py).
After several failed updates in a row a prompt of our own, the probe, tells whether the engine writes summaries: if
it passes, work goes on; if not, updates wait and the probe is sent again every few seconds. Now and then an update
may go out all the same, in case the probe alone fails.
"""

import logging
import math
import time
from collections.abc import Callable

from prometheus_client import Gauge

from services.errors import AlignXError, EngineUnavailable
from services.settings import Settings

_TRIAL_EVERY = 6
"""Failed probes between two updates that go out although updates are held back."""

logger = logging.getLogger("alignx.worker")


class Backoff:
    """When the next update, or the next probe, may start. `gauge` shows how many updates may run at once; `refusal`
    says why the engine refuses canaries, empty while it does not; `clock` gives seconds."""

    def __init__(
        self,
        settings: Settings,
        gauge: Gauge,
        refusal: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = settings.summary.workers
        self._gauge = gauge
        self._set_limit(float(self._most))
        self._failures_allowed = settings.engine.breaker_failures
        self._cooldown_s = settings.engine.breaker_cooldown_s
        self._refusal = refusal
        self._clock = clock
        self._failures = 0
        self._fault = ""
        self._probe_at = math.inf
        self._failed_probes = 0
        self._trial = False

    @property
    def is_paused(self) -> bool:
        """Whether updates wait because the engine refuses canaries or has failed one after another."""
        return bool(self._refusal()) or self._has_failed

    @property
    def _has_failed(self) -> bool:
        return self._failures >= self._failures_allowed

    @property
    def limit(self) -> int:
        """How many updates may run at once while the engine is well."""
        return int(self._limit)

    def _set_limit(self, value: float) -> None:
        self._limit = value
        self._gauge.set(int(value))

    def allows(self, running: int) -> bool:
        """Whether a further update may start beside those `running`."""
        return running < self.limit and not self._refusal() and (self._trial or not self._has_failed)

    def admit(self) -> None:
        """An update starts. One of the three methods below records its end, unless the engine had no part in it."""
        self._trial = False

    def record_success(self) -> None:
        self._set_limit(min(self._most, self._limit + 1 / self._limit))
        self._failures = 0

    def record_engine_failure(self, fault: str) -> None:
        """The engine is away, overloaded or broke off. `fault` says so without a user's text."""
        if not self._refusal():  # else it is asked again with canaries alone
            self._set_limit(max(1.0, self._limit / 2))
            self.record_fault(fault)

    def record_fault(self, fault: str) -> None:
        """The engine wrote no summary, whatever the cause."""
        before, self._fault = self._has_failed, fault
        self._failures += 1
        if self._has_failed and not before:
            self._probe_at, self._failed_probes = self._clock(), 0

    @property
    def is_probe_due(self) -> bool:
        return self._has_failed and not self._refusal() and self._clock() >= self._probe_at

    def record_probe(self, error: AlignXError | None) -> None:
        """Updates go on if the probe passed; else they wait for the next one."""
        if error is None:
            if self._failed_probes and self._has_failed:
                logger.info("the engine writes summaries again")
            self._failures = 0
            return
        if not self._failed_probes:
            logger.warning("the engine fails update after update; events wait", extra={"cause": error.detail})
        self._failed_probes += 1
        self._fault = error.detail
        self._trial = self._failed_probes % _TRIAL_EVERY == 0
        self._probe_at = self._clock() + (error.retry_after or self._cooldown_s)

    @property
    def cause(self) -> str:
        """Why updates are held back; empty while they are not."""
        return (self._refusal() or self._fault) if self.is_paused else ""

    async def check(self) -> None:
        """Raises EngineUnavailable with the cause while updates are held back."""
        if self.is_paused:
            raise EngineUnavailable(f"degraded: {self.cause}")
