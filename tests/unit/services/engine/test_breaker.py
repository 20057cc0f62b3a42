"""The breaker: what opens it, and what closes it again."""

import asyncio

import pytest

from services.engine.limits import Breaker, Engine
from services.engine.wire import Completion
from services.errors import AlignXError, EngineUnavailable
from tests.unit.services.engine.fake_engine import MESSAGES, SAMPLING, Calls, FakeEngine, fails, refused, reply
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio


@with_settings(url="http://127.0.0.1:9/v1", model="tiny", breaker_failures=2, breaker_cooldown_s=30)
async def test_nobody_there_is_unavailable_and_opens_the_breaker(engine: Engine, calls: Calls) -> None:
    await refused(engine.ready(), EngineUnavailable)
    await refused(engine.choose(MESSAGES, [" A"], tenant="acme"), EngineUnavailable)
    for _attempt in range(2):
        error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
        assert error.retry_after is None
    error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    assert 0 < (error.retry_after or 0) <= 30
    assert len(calls) == 2  # the third was refused before it went out


@with_settings(breaker_failures=1, breaker_cooldown_s=1)
async def test_the_breaker_lets_one_call_try_and_closes_on_success(fake: FakeEngine, engine: Engine) -> None:
    fake.chat = fails(500)
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    assert len(fake.bodies) == 1
    await asyncio.sleep(1.1)
    fake.chat = reply("back")
    outcomes = await asyncio.gather(*(engine.complete(MESSAGES, **SAMPLING) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(outcome, Completion) for outcome in outcomes) == 1
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "back"


@with_settings(breaker_failures=1)
async def test_refused_input_and_overload_leave_the_breaker_closed(fake: FakeEngine, engine: Engine) -> None:
    for status in (400, 429, 404, 401):
        fake.chat = fails(status)
        with pytest.raises(AlignXError):
            await engine.complete(MESSAGES, **SAMPLING)
    fake.chat = reply("fine")
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "fine"


def test_a_cancelled_probe_frees_the_way_for_the_next() -> None:
    now = [0.0]
    breaker = Breaker(1, 5.0, lambda: now[0])
    breaker.admit()
    breaker.record_failure()
    with pytest.raises(EngineUnavailable) as caught:
        breaker.check()
    assert caught.value.retry_after == 5.0
    now[0] = 6.0
    breaker.admit()
    with pytest.raises(EngineUnavailable):
        breaker.check()
    breaker.release()
    breaker.admit()
    breaker.record_failure()
    with pytest.raises(EngineUnavailable):
        breaker.admit()
