"""When updates go out and when they wait, by a clock that stands where the test puts it."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry, Gauge

from services.errors import EngineRejected, EngineUnavailable
from services.preference.updates.backoff import Backoff
from tests.unit.services.preference.working import settings_for

REFUSED = EngineRejected("The engine refused this input (status 400)")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def backoff(clock: Clock) -> Backoff:
    settings = settings_for(
        "redis://127.0.0.1", "http://engine/v1", engine={"breaker_failures": 3, "breaker_cooldown_s": 5}
    )
    return Backoff(settings, Gauge("limit", "limit", registry=CollectorRegistry()), clock=clock)


def test_the_limit_halves_at_a_fault_and_grows_by_one_a_round() -> None:
    updates, limits = backoff(Clock()), []
    for record, times in (
        (lambda: updates.record_engine_failure("status 503"), 2),
        (updates.record_success, 4),
        (updates.record_success, 1),
        (updates.record_success, 200),
        (lambda: updates.record_engine_failure("status 503"), 10),
    ):
        for _ in range(times):
            record()
        limits.append(updates.limit)
    assert limits == [4, 4, 5, 16, 1]


def test_an_engine_that_refuses_the_probe_too_is_asked_every_cooldown() -> None:
    clock = Clock()
    updates = backoff(clock)
    for _ in range(3):
        assert updates.allows(0)
        updates.admit()
        updates.record_fault("status 400")
    calls, trials = 0, 0
    for tenth in range(600):
        clock.now = tenth / 10
        if updates.is_probe_due:
            updates.record_probe(REFUSED)
            calls += 1
        if updates.allows(0):
            updates.admit()
            updates.record_fault("status 400")
            trials += 1
    assert (calls, trials) == (12, 2)
    with pytest.raises(EngineUnavailable, match="status 400"):
        asyncio.run(updates.check())
    updates.record_probe(None)
    assert updates.allows(0)
    asyncio.run(updates.check())


def test_a_probe_that_passes_lets_all_go_on_at_once(caplog: pytest.LogCaptureFixture) -> None:
    updates = backoff(Clock())
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            updates.record_fault("status 400")
        assert updates.is_probe_due
        assert not updates.allows(0)
        updates.record_probe(None)
    assert updates.allows(0)
    assert not updates.is_probe_due
    assert caplog.records == [], "users whose data are refused are no fault of the engine's"


def test_a_probe_heeds_what_the_engine_says_of_waiting() -> None:
    clock = Clock()
    updates = backoff(clock)
    for _ in range(3):
        updates.record_engine_failure("The engine is overloaded (status 503)")
    assert updates.limit == 2
    updates.record_probe(EngineUnavailable("The engine is overloaded (status 503)", retry_after=30))
    clock.now = 29.0
    assert not updates.is_probe_due
    clock.now = 30.0
    assert updates.is_probe_due


def test_an_update_that_succeeds_ends_the_wait() -> None:
    updates = backoff(Clock())
    for _ in range(3):
        updates.record_fault("status 400")
    updates.record_success()
    assert updates.allows(0)
    assert not updates.is_probe_due


def test_updates_wait_while_the_engine_refuses_canaries() -> None:
    refusal = ["status 400: no system role"]
    settings = settings_for("redis://127.0.0.1", "http://engine/v1", engine={"breaker_failures": 1})
    updates = Backoff(settings, Gauge("limit", "limit", registry=CollectorRegistry()), lambda: refusal[0])
    updates.record_engine_failure("status 400")
    assert not updates.allows(0)
    assert not updates.is_probe_due
    with pytest.raises(EngineUnavailable, match="degraded: status 400: no system role"):
        asyncio.run(updates.check())
    refusal[0] = ""
    assert updates.allows(0)
    assert updates.limit == settings.summary.workers
