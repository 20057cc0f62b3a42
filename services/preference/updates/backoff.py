"""How many updates a worker has under way at once, and when it holds them back.

The limit halves when the engine is overloaded or away and grows by one a round of successes (additive
increase, multiplicative decrease). After several failed updates in a row a prompt of our own, the probe,
tells whether the engine or the users' data are at fault: if it passes, work goes on; if not, updates wait
and the probe is sent again every few seconds. Now and then an update may go out all the same, in case the
probe alone fails.
"""

import logging
import math
import time
from collections.abc import Callable

from prometheus_client import Gauge

from services.errors import AlignXError, EngineUnavailable
from services.preference.queue_records import Claim
from services.settings import Settings

_TRIAL_EVERY = 6
"""Failed probes between two updates that go out although updates are held back."""

logger = logging.getLogger("alignx.worker")


class AdaptiveLimit:
    """How many updates may run at once."""

    def __init__(self, most: int, gauge: Gauge) -> None:
        self.most = most
        self.value = float(most)
        self.gauge = gauge
        gauge.set(most)

    def succeed(self) -> None:
        self._set(min(self.most, self.value + 1 / self.value))

    def fail(self) -> None:
        self._set(max(1.0, self.value / 2))

    def _set(self, value: float) -> None:
        self.value = value
        self.gauge.set(int(value))


class Backoff:
    """When the next update, or the next probe, may start. `clock` gives seconds."""

    def __init__(self, settings: Settings, gauge: Gauge, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = AdaptiveLimit(settings.summary.workers, gauge)
        self._failures_allowed = settings.engine.breaker_failures
        self._cooldown_s = settings.engine.breaker_cooldown_s
        self._clock = clock
        self._failures = 0
        self._fault = ""
        self._probe_at = math.inf
        self._failed_probes = 0
        self._trial = False

    @property
    def is_paused(self) -> bool:
        """Whether updates wait because the engine has failed one after another."""
        return self._failures >= self._failures_allowed

    @property
    def limit(self) -> int:
        """How many updates may run at once while the engine is well."""
        return int(self._limit.value)

    def allows(self, running: int) -> bool:
        """Whether a further update may start beside those `running`."""
        return running < self.limit and (self._trial or not self.is_paused)

    def admit(self) -> None:
        """An update starts. One of the three methods below records its end, unless the engine had no part in it."""
        self._trial = False

    def record_success(self) -> None:
        self._limit.succeed()
        self._failures = 0

    def record_engine_failure(self, fault: str) -> None:
        """The engine is away, overloaded or broke off. `fault` says so without a user's text."""
        self._limit.fail()
        self.record_refusal(fault)

    def record_refusal(self, fault: str) -> None:
        """The engine refused a prompt or wrote no summary, whatever the cause."""
        before, self._fault = self.is_paused, fault
        self._failures += 1
        if self.is_paused and not before:
            self._probe_at, self._failed_probes = self._clock(), 0

    @property
    def is_probe_due(self) -> bool:
        return self.is_paused and self._clock() >= self._probe_at

    def record_probe(self, error: AlignXError | None) -> None:
        """Updates go on if the probe passed; else they wait for the next one."""
        if error is None:
            if self._failed_probes and self.is_paused:
                logger.info("the engine writes summaries again")
            self._failures = 0
            return
        if not self._failed_probes:
            logger.warning("the engine fails update after update; events wait", extra={"cause": error.detail})
        self._failed_probes += 1
        self._fault = error.detail
        self._trial = self._failed_probes % _TRIAL_EVERY == 0
        self._probe_at = self._clock() + (error.retry_after or self._cooldown_s)

    async def ready(self) -> None:
        """Raises EngineUnavailable with the cause while updates are held back."""
        if self.is_paused:
            raise EngineUnavailable(self._fault)


class ServedUsers:
    """The latest users whom the engine has served. A refusal of another user is the data's fault only if the
    engine has served one of these since."""

    def __init__(self) -> None:
        self._claimed_ms: dict[str, int] = {}

    def add(self, claim: Claim) -> None:
        self._claimed_ms[claim.member] = max(claim.at_ms, self._claimed_ms.pop(claim.member, 0))
        if len(self._claimed_ms) > 2:  # of two users at least one is another
            del self._claimed_ms[min(self._claimed_ms, key=self._claimed_ms.__getitem__)]

    def latest_except(self, claim: Claim) -> int:
        """When the latest of them but the claim's user was claimed, ms; 0 for none."""
        return max((at_ms for member, at_ms in self._claimed_ms.items() if member != claim.member), default=0)
