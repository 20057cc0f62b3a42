"""How many updates a worker has under way at once: fewer when the engine fails, one now and then when it
fails update after update.

The limit halves at a fault of the engine and grows by one a round of successes (additive increase,
multiplicative decrease). The breaker counts updates where the engine client's counts calls: to be refused
is an answer there, but it makes no summary.
"""

import logging

from prometheus_client import Gauge

from services.core.breaker import Breaker
from services.core.errors import EngineUnavailable
from services.core.settings import Settings

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


class Pace:
    """When the next update may start. Each that is admitted ends by one of the methods behind `admit`."""

    def __init__(self, settings: Settings, gauge: Gauge) -> None:
        self.limit = AdaptiveLimit(settings.summary.workers, gauge)
        self._breaker = Breaker(settings.engine.breaker_failures, settings.engine.breaker_cooldown_s)
        self._fault = ""

    @property
    def held_back(self) -> bool:
        """Whether updates wait because the engine has failed one after another."""
        return self._breaker.open

    @property
    def most(self) -> int:
        """How many updates may run at once while the engine is well."""
        return int(self.limit.value)

    def allows(self, running: int) -> bool:
        """Whether a further update may start beside those `running`."""
        return running < self.most and self._breaker.allows

    def admit(self) -> None:
        self._breaker.admit()

    def succeeded(self) -> None:
        self.limit.succeed()
        if self.held_back:
            logger.info("the engine writes summaries again")
        self._breaker.succeeded()

    def engine_failed(self, fault: str) -> None:
        """`fault` says in words what the engine did, without a user's text."""
        self.limit.fail()
        self._count(fault)

    def data_failed(self, fault: str) -> None:
        """The engine failed this update, but others pass: no reason to run fewer at once."""
        self._count(fault)

    def ended(self) -> None:
        """Without telling anything about the engine."""
        self._breaker.released()

    def _count(self, fault: str) -> None:
        before, self._fault = self.held_back, fault
        self._breaker.failed()
        if self.held_back and not before:
            logger.warning("the engine fails update after update; events wait", extra={"cause": fault})

    async def ready(self) -> None:
        """Raises EngineUnavailable with the cause while updates are held back."""
        if self.held_back:
            raise EngineUnavailable(self._fault)
