"""A service with several replicas: who is asked, and what happens when one is not there."""

import asyncio
import io
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from gateway.__main__ import GatewayState
from gateway.liveness import Hung, Watched
from gateway.upstreams import Upstreams
from services.errors import Unavailable
from services.server.app import DRAINING_HEADER
from services.server.state import state_of
from services.settings import GatewaySettings
from tests.unit.gateway.conftest import FakeService, Suite, http_answer, stay_silent
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

EVENTS = "/v1/users/ada/events"
CLOSED = "http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3"
"""Where nothing listens."""
WATCHED = {"preference_url": "http://127.0.0.1:1,http://127.0.0.1:2", "replica_check_s": 0.02}
DRAINING = http_answer(b"{}", "503 Service Unavailable", f"{DRAINING_HEADER}: true")


def test_requests_go_round_and_the_unfit_come_last() -> None:
    upstreams = Upstreams(GatewaySettings(preference_url="http://a:1, http://b:1/ ,http://c:1"))
    firsts = [upstreams.order("preference")[0].url for _ in range(6)]
    assert sorted(firsts[:3]) == ["http://a:1", "http://b:1", "http://c:1"]
    assert firsts[:3] == firsts[3:]
    next(replica for replica in upstreams.order("preference") if replica.url == "http://b:1").is_healthy = False
    for _ in range(4):
        assert [replica.url for replica in upstreams.order("preference")][-1] == "http://b:1"


@pytest.mark.parametrize("url", ["", ",", "http://a:1,b:2"])
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="preference_url"):
        GatewaySettings(preference_url=url)


@with_settings(gateway={"preference_url": CLOSED, "replica_check_s": 60})
async def test_a_replica_that_refuses_or_drains_is_passed_over(suite: Suite) -> None:
    draining = FakeService()
    draining.answer(DRAINING)
    async with draining.running():
        replicas = state_of(suite.app, GatewayState).upstreams._replicas["preference"]
        replicas[1].url, replicas[2].url = draining.url, suite.preference.url
        for body in (b"{}", b"x" * (3 << 20)):
            for _ in range(6):
                for replica in replicas:
                    replica.is_healthy = True
                assert (await suite.json("POST", EVENTS, data=io.BytesIO(body)))[0] == 200
            assert suite.preference.seen[-1].body == body
        assert any(seen.line.startswith("POST") for seen in draining.seen)
        assert not replicas[1].is_healthy


async def test_the_last_replica_s_word_is_passed_on(suite: Suite) -> None:
    suite.preference.answer(DRAINING)
    async with suite.call("POST", EVENTS, data=b"{}") as answer:
        assert answer.status == 503
        assert DRAINING_HEADER not in answer.headers
    posts = [seen for seen in suite.preference.seen if seen.line.startswith("POST")]
    assert len(posts) == 2  # one URL may stand for many


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@with_settings(gateway=WATCHED)
async def test_a_replica_is_left_when_it_is_not_ready_and_asked_again_when_it_is(suite: Suite) -> None:
    other = FakeService()
    other.answer(http_answer(b"{}", "503 Service Unavailable"))
    async with other.running():
        first, replica = state_of(suite.app, GatewayState).upstreams._replicas["preference"]
        first.url, replica.url = suite.preference.url, other.url
        await until(lambda: first.is_healthy and not replica.is_healthy)
        for _ in range(4):
            assert (await suite.json("GET", EVENTS))[0] == 200
        assert all("/readyz" in seen.line for seen in other.seen)
        state = state_of(suite.app, GatewayState)
        await state.check_service("preference")  # one that is ready is enough
        state.looks.clear()
        first.url = replica.url
        with pytest.raises(Unavailable):
            await state.check_service("preference")
        first.url = suite.preference.url
        other.answer(http_answer())
        await until(lambda: first.is_healthy and replica.is_healthy)
        for _ in range(4):
            assert (await suite.json("GET", EVENTS))[0] == 200
        assert sum("/readyz" not in seen.line for seen in other.seen) == 2


@with_settings(gateway=WATCHED)
async def test_a_replica_that_hangs_does_not_hold_up_the_look_at_the_others(suite: Suite) -> None:
    hung = FakeService()
    hung.handler = stay_silent
    async with hung.running():
        first, replica = state_of(suite.app, GatewayState).upstreams._replicas["preference"]
        first.url, replica.url = suite.preference.url, hung.url
        await until(lambda: bool(hung.seen))
        suite.preference.seen.clear()
        checks = len(hung.seen)
        await until(lambda: len(suite.preference.seen) >= 5)
        assert len(hung.seen) - checks < 2


HANGS = {"replica_check_s": 0.02, "hung_after_s": 0.9}


@with_settings(gateway=HANGS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_waits_for_a_service_that_hangs_gets_503(suite: Suite, method: str) -> None:
    suite.preference.handler = stay_silent
    waiting = asyncio.create_task(suite.json(method, EVENTS))
    while not suite.preference.seen:  # noqa: ASYNC110  # raw sockets have no event for it
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.5)
    assert not waiting.done()  # slow, and alive
    suite.preference.hangs = True
    status, headers, problem = await asyncio.wait_for(waiting, 5)
    assert (status, problem["type"]) == (503, "urn:alignx:problem:upstream_unavailable")
    assert headers["Retry-After"] == "1"
    seen = len(suite.preference.seen)
    assert (await suite.json(method, EVENTS))[0] == 503
    assert len(suite.preference.seen) == seen  # nobody is sent there
    assert (await suite.json("POST", "/v1/chat/completions", data=b"{}"))[0] == 200  # the other service goes on
    suite.preference.hangs = False
    suite.preference.answer(http_answer())
    async with asyncio.timeout(5):
        while (await suite.json(method, EVENTS))[0] != 200:  # noqa: ASYNC110  # until it is asked again
            await asyncio.sleep(0.02)


@with_settings(gateway=HANGS)
async def test_a_service_that_is_away_does_not_hang(suite: Suite) -> None:
    replica = state_of(suite.app, GatewayState).upstreams.order("preference")[0]
    alive, replica.url = replica.url, "http://127.0.0.1:1"
    await asyncio.sleep(1.5)
    assert not replica.is_hung
    replica.url = alive
    assert (await suite.json("GET", EVENTS))[0] == 200


@with_settings(gateway={"preference_url": CLOSED, **HANGS})
async def test_a_read_goes_on_to_a_replica_that_does_not_hang(suite: Suite) -> None:
    silent = FakeService()
    silent.handler, silent.hangs = stay_silent, True
    async with silent.running():
        replicas = state_of(suite.app, GatewayState).upstreams._replicas["preference"]
        for replica in replicas:
            replica.url = silent.url
        replicas[2].url = suite.preference.url
        for _ in range(3):
            assert (await suite.json("GET", EVENTS))[0] == 200


async def test_a_caller_that_leaves_while_its_service_hangs_stays_cancelled() -> None:
    replica = Watched()

    async def request() -> None:
        with replica.wait():
            await asyncio.sleep(60)

    task = asyncio.create_task(request())
    await asyncio.sleep(0)
    replica.hang()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Hung):
        await request()
