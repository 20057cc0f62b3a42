"""What one tenant and one key may hold at once, and as how many requests a large one counts."""

import asyncio
import io
from contextlib import AsyncExitStack, ExitStack

import pytest

from gateway.routing import CHAT, RoutingTable, Service
from gateway.shares import _MOST_SEEN, BULK_BYTES, CallersSeen, Kind, Shares, kind_of
from services.errors import Overloaded, RateLimited, TooManyAtOnce
from services.server.app import COST_HEADER
from services.server.load_shedding import FEWEST
from services.server.state import Process, state_of
from services.settings import GatewaySettings
from tests.unit.gateway.conftest import Suite, http_answer, stay_silent
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

READ = "/v1/users/ada/preferences"
EVENTS = "/v1/users/ada/events"
ITEMS = "/v1/items"
LIVE = "/v1/users/ada/preferences/stream"


def shares(**settings: int) -> Shares:
    return Shares(GatewaySettings(**{"tenant_requests": 4, "service_requests": 6, **settings}))


def test_a_key_has_half_of_its_tenants_places() -> None:
    places = shares()
    with ExitStack() as held:
        for key in ("a", "a", "b"):
            held.enter_context(places.take("request", "shop", key, "preference"))
        with (
            pytest.raises(TooManyAtOnce, match="One API key may have 2 requests"),
            places.take("request", "shop", "a", "preference"),
        ):
            pass
        held.enter_context(places.take("request", "shop", "b", "preference"))
        with (
            pytest.raises(TooManyAtOnce, match="One tenant may have 4 requests"),
            places.take("request", "shop", "c", "preference"),
        ):
            pass
        held.enter_context(places.take("request", "books", "d", "response"))
    assert not places._taken


def test_kinds_are_counted_apart() -> None:
    places = shares(tenant_bulk=2, tenant_waiting=2, tenant_streams=2)
    kinds: tuple[Kind, ...] = ("request", "bulk", "wait", "stream")
    with ExitStack() as held:
        for kind in kinds:
            held.enter_context(places.take(kind, "shop", "a", "preference"))
        for kind in kinds[1:]:
            with pytest.raises(TooManyAtOnce), places.take(kind, "shop", "a", "preference"):
                pass


def test_a_service_has_places_for_all_tenants_together() -> None:
    places = shares()
    with ExitStack() as held:
        for tenant in range(3):
            for key in ("a", "b"):
                held.enter_context(places.take("request", f"t{tenant}", key, "preference"))
        with pytest.raises(Overloaded), places.take("request", "t0", "c", "preference"):
            pass
        held.enter_context(places.take("request", "another", "a", "preference"))  # six places for four tenants
        with pytest.raises(Overloaded), places.take("request", "another", "b", "preference"):
            pass
        other: Service = "response"
        held.enter_context(places.take("request", "other", "a", other))
        held.enter_context(places.take("stream", "other", "a", "preference"))


def test_who_was_let_in_is_known_again_and_all_others_are_one() -> None:
    seen = CallersSeen()
    seen.note("ax_a_secret", "shop")
    assert (seen.tenant_of("ax_a_secret"), seen.tenant_of("ax_a_guess"), seen.tenant_of(None)) == ("shop", "", "")
    for number in range(_MOST_SEEN):
        seen.note(str(number), "books")
    assert seen.tenant_of("ax_a_secret") == ""
    assert len(seen._tenants) == _MOST_SEEN


def test_a_spent_rate_limit_is_known_until_there_is_a_token_and_for_a_second_at_most() -> None:
    now = 100.0
    seen, refusal = CallersSeen(lambda: now), RateLimited()
    seen.note_limited("ax_a_secret", refusal, 0.5)
    seen.note_limited("ax_b_secret", refusal, 60.0)
    assert (seen.refusal_of("ax_a_guess"), seen.refusal_of(None)) == (None, None)
    now = 100.49
    assert (seen.refusal_of("ax_a_secret"), seen.refusal_of("ax_b_secret")) == (refusal, refusal)
    now = 100.5
    assert (seen.refusal_of("ax_a_secret"), seen.refusal_of("ax_b_secret")) == (None, refusal)
    now = 101.0
    assert seen.refusal_of("ax_b_secret") is None


@pytest.mark.parametrize(
    ("path", "fields", "kind"),
    [
        (READ, {}, "request"),
        (READ, {b"prefer": b"wait=10"}, "request"),
        (EVENTS, {b"content-length": b"%d" % BULK_BYTES}, "request"),
        (EVENTS, {b"content-length": b"%d" % (BULK_BYTES + 1)}, "bulk"),
        (EVENTS, {b"transfer-encoding": b"chunked"}, "bulk"),
        (EVENTS, {b"content-length": b"9", b"prefer": b"wait=10"}, "wait"),
        (EVENTS, {b"content-length": b"9", b"prefer": b"respond-async, nowait"}, "request"),
        (EVENTS, {b"content-length": b"9999999", b"prefer": b"wait=10"}, "bulk"),
        (EVENTS, {b"prefer": b"wait=10", b"content-length": b"9999999"}, "bulk"),
        (ITEMS, {b"content-length": b"9", b"prefer": b"wait=10"}, "request"),
        (CHAT, {b"content-length": b"9999999"}, "wait"),
        (LIVE, {}, "stream"),
    ],
)
def test_kinds_of_calls(path: str, fields: dict[bytes, bytes], kind: Kind) -> None:
    assert kind_of(RoutingTable().find(path.encode()), "POST", fields.items()) == kind


def test_a_list_of_events_waits_for_nothing() -> None:
    route = RoutingTable().find(EVENTS.encode())
    assert kind_of(route, "GET", [(b"prefer", b"wait=10")]) == "request"


@with_settings(gateway={"tenant_requests": 4})
async def test_who_holds_too_many_gets_429_and_others_go_on(suite: Suite) -> None:
    suite.preference.handler = stay_silent
    other = (await suite.make_key(tenant="books"))["key"]
    async with AsyncExitStack() as held:
        tasks = [asyncio.create_task(suite.json("GET", READ)) for _ in range(2)]
        held.callback(lambda: [task.cancel() for task in tasks])
        while len(suite.preference.seen) < 2:  # noqa: ASYNC110  # raw sockets have no event for it
            await asyncio.sleep(0.01)
        status, headers, problem = await suite.json("GET", READ)
        assert (status, headers["Retry-After"], problem["limit"]) == (429, "1", 2)
        suite.preference.answer(http_answer())
        assert (await suite.json("GET", READ, key=other))[0] == 200
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(10):
        while (await suite.json("GET", READ))[0] != 200:  # noqa: ASYNC110  # until the places are free again
            await asyncio.sleep(0.05)


async def test_a_tenant_with_most_calls_under_way_is_refused_before_redis_is_asked(suite: Suite) -> None:
    other = (await suite.make_key(tenant="books"))["key"]
    assert (await suite.json("GET", READ))[0] == 200
    assert (await suite.json("GET", READ, key=other))[0] == 200
    shedding = state_of(suite.app, Process).shedding
    shedding.stop()  # the loop is as late as the test says
    shedding.calls.limit = FEWEST
    shedding.calls.take("shop", FEWEST)
    status, headers, problem = await suite.json("GET", READ)
    assert (status, problem["type"]) == (503, "urn:alignx:problem:overloaded")
    assert "RateLimit" not in headers  # no bucket was asked
    assert (await suite.json("GET", READ, key=other))[0] == 200


@with_settings(gateway={"rate": 10.0, "burst": 20})
async def test_what_a_service_says_of_the_cost_is_charged(suite: Suite) -> None:
    suite.preference.answer(http_answer(b"{}", "200 OK", f"{COST_HEADER}: 60.000"))
    status, headers, _ = await suite.json("POST", EVENTS, data=b"{}")
    assert status == 200
    assert COST_HEADER not in headers
    status, headers, problem = await suite.json("GET", READ)
    assert (status, problem["type"]) == (429, "urn:alignx:problem:rate_limited")
    assert 3 <= int(headers["Retry-After"]) <= 5  # 41 tokens short at 10 a second
    assert headers["RateLimit"].startswith('"key";r=0;')
    other = (await suite.make_key())["key"]
    assert (await suite.json("GET", READ, key=other))[0] == 200


@with_settings(gateway={"rate": 10.0, "burst": 20})
async def test_a_large_body_counts_as_several(suite: Suite) -> None:
    assert (await suite.json("POST", EVENTS, data=io.BytesIO(b"x" * (25 << 16))))[0] == 200
    assert (await suite.json("GET", READ))[0] == 429


@with_settings(gateway={"rate": 10.0, "burst": 20})
async def test_a_users_tokens_pay_from_their_own_bucket_too(suite: Suite) -> None:
    async def mint(user: str) -> str:
        body = {"user": user, "scopes": ["preferences:read", "events:write"]}
        _, _, minted = await suite.json("POST", "/v1/tokens", json=body)
        token: str = minted["token"]
        return token

    ada = await mint("ada")
    suite.preference.answer(http_answer(b"{}", "200 OK", f"{COST_HEADER}: 10.0"))
    assert (await suite.json("POST", EVENTS, key=ada, data=b"{}"))[0] == 200
    suite.preference.answer(http_answer())
    status, headers, _ = await suite.json("GET", READ, key=ada)
    assert status == 200
    assert headers["RateLimit"].startswith('"user";r=28;')  # 40 less two and ten


async def test_a_debt_is_bounded(suite: Suite) -> None:
    suite.preference.answer(http_answer(b"{}", "200 OK", f"{COST_HEADER}: 1000000"))
    assert (await suite.json("POST", EVENTS, data=b"{}"))[0] == 200
    _, headers, _ = await suite.json("GET", READ)
    assert int(headers["Retry-After"]) <= 21  # ten bursts at 200 a second
