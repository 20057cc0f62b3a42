"""While the event loop is late, calls are refused at once: first those of whoever has most under way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import AlignXError, RateLimited
from services.server.app import TENANT_HEADER
from services.server.load_shedding import COUNTED_S, FEWEST, MOST, TARGET_S, TURNS, FairShare, LoadShedding
from services.server.state import Process, state_of
from tests.unit.services.server.test_app import app_with
from tests.unit.services.server.test_bounds import exchange, running

pytestmark = pytest.mark.anyio


async def serve_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError


def path(holder: str) -> Scope:
    return {"type": "http", "method": "POST", "path": "/v1/work", "holder": holder, "headers": []}


def refuse(_scope: Scope, error: AlignXError) -> ASGIApp:
    return PlainTextResponse("later", error.status)


def shedding(
    refuse: Callable[[Scope, AlignXError], ASGIApp] = refuse,
    known: Callable[[Scope], AlignXError | None] = lambda _scope: None,
) -> LoadShedding:
    return LoadShedding(
        CollectorRegistry(), holder_of=lambda scope: str(scope["holder"]), refuse=refuse, known_refusal=known
    )


def fill(load: LoadShedding, holder: str, calls: int) -> None:
    for _ in range(calls):
        load.count(path(holder), serve_nothing)


def delay(load: LoadShedding, seconds: float, turns: int = TURNS) -> None:
    for _ in range(turns):
        load.note(seconds)


def test_beyond_the_limit_only_who_has_less_than_a_fair_share_is_admitted() -> None:
    calls = FairShare(8)
    for _ in range(8):
        assert calls.admits("flooder")
        calls.take("flooder")
    assert not calls.admits("flooder")
    for _ in range(4):
        assert calls.admits("victim")
        calls.take("victim")
    assert not calls.admits("victim")  # four of eight for each of two
    calls.release("flooder")
    assert not calls.admits("flooder")


def test_of_more_holders_than_the_limit_no_further_one_is_admitted() -> None:
    calls = FairShare(4)
    for number in range(4):
        assert calls.admits(f"tenant {number}")
        calls.take(f"tenant {number}")
    assert not calls.admits("another")


def test_who_holds_few_is_admitted_up_to_a_bound() -> None:
    calls = FairShare(4, few=4)
    for _ in range(4):
        calls.take("flooder")
    for number in range(3):
        for _ in range(4):
            assert calls.admits(f"tenant {number}")
            calls.take(f"tenant {number}")
        assert not calls.admits(f"tenant {number}")
    assert not calls.admits("flooder")
    assert not calls.admits("another")  # 16 calls are four times the limit


def test_a_few_late_turns_are_work() -> None:
    load = shedding()
    fill(load, "a", 100)
    delay(load, 4 * TARGET_S, TURNS - 1)
    assert load.standing_s() == 0
    assert load.refusal(path("a")) is None
    load.note(4 * TARGET_S)
    assert load.refusal(path("a")) is not None


def test_the_flooder_is_refused_and_the_victim_is_not_while_the_loop_is_late() -> None:
    load = shedding()
    fill(load, "flooder", 240)
    fill(load, "victim", 1)
    assert load.refusal(path("flooder")) is None
    delay(load, 2 * TARGET_S)
    assert load.refusal(path("flooder")) is not None
    assert load.refusal(path("victim")) is None
    assert load.refusal({"type": "http", "method": "GET", "path": "/readyz"}) is None
    assert load.refusal(path("flooder") | {"method": "OPTIONS"}) is None


def test_what_is_sure_to_be_refused_is_refused_at_once() -> None:
    errors: dict[str, AlignXError] = {"spent": RateLimited(retry_after=1.0)}
    refused = list[AlignXError]()

    def note(_scope: Scope, error: AlignXError) -> ASGIApp:
        refused.append(error)
        return serve_nothing

    load = shedding(note, lambda scope: errors.get(scope["holder"]))
    assert load.refusal(path("spent")) is serve_nothing
    assert load.refusal(path("another")) is None
    assert load.refusal(path("spent") | {"path": "/readyz"}) is None
    assert refused == [errors["spent"]]


def test_the_later_the_loop_the_fewer_calls_and_in_time_more_again() -> None:
    load = shedding()
    fill(load, "a", 400)
    delay(load, 1.25 * TARGET_S)
    assert load.calls.limit == 320
    delay(load, 20 * TARGET_S)
    assert load.calls.limit == 160
    for _ in range(20):
        delay(load, 20 * TARGET_S)
    assert load.calls.limit == FEWEST
    for _ in range(10 * MOST):
        load.note(0.001)
    assert load.calls.limit == MOST
    assert load.refusal(path("a")) is None


@pytest.mark.parametrize(
    ("name", "value", "weight"),
    [
        (b"content-length", b"100", 1),
        (b"content-length", b"9000", 3),
        (b"content-length", b"9" * 9, 16),
        (b"x", b"", 1),
    ],
)
def test_a_call_weighs_as_its_body_does(name: bytes, value: bytes, weight: int) -> None:
    load = shedding()
    load.count({**path("a"), "headers": [(name, value)]}, serve_nothing)
    load.count({**path("b"), "headers": [(b"transfer-encoding", b"chunked")]}, serve_nothing)
    assert load.calls._held == {"a": weight, "b": 16}


async def test_a_call_that_waits_for_long_counts_no_more() -> None:
    load = shedding()
    fill(load, "a", 3)
    came, holder = load._counted[0]
    load._counted[0] = came - COUNTED_S, holder
    load.start()
    async with asyncio.timeout(30):
        while load.calls.total > 2:  # noqa: ASYNC110  # a timer has no event
            await asyncio.sleep(0.01)
    load.stop()
    assert not holder


async def test_a_call_counts_until_it_ends_however_that_is() -> None:
    load = shedding()
    serve = load.count(path("a"), serve_nothing)
    assert load.calls.total == 1

    async def nothing(*_: object) -> None: ...

    with pytest.raises(AssertionError):
        await serve({}, nothing, nothing)  # type: ignore[arg-type]  # neither is called
    assert load.calls.total == 0


@asynccontextmanager
async def a_service() -> AsyncIterator[tuple[LoadShedding, list[str], int]]:
    """A server of `create_app`, its load, the tenants whose calls its route has seen, and its port."""
    seen: list[str] = []

    def add_route(app: FastAPI) -> None:
        @app.post("/v1/work")
        async def work(request: Request) -> str:
            seen.append(request.headers[TENANT_HEADER])
            return "done"

    app = app_with(routes=add_route)
    load = state_of(app, Process).shedding
    async with running(served=app, shedding=load) as port:
        yield load, seen, port


def head(tenant: str, *fields: str) -> bytes:
    lines = ["POST /v1/work HTTP/1.1", "Host: test", f"{TENANT_HEADER}: {tenant}", "X-Request-Id: mine", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_server_refuses_before_it_reads_a_body_and_goes_on_with_the_connection() -> None:
    async with a_service() as (load, seen, port):
        load.calls.limit = FEWEST
        load.calls.take("flooder", FEWEST)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = await client.post("/v1/work", headers={TENANT_HEADER: "victim"})
            assert (answer.status_code, seen) == (200, ["victim"])
            answer = await client.post("/v1/work", headers={TENANT_HEADER: "flooder"})
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json()["type"] == "urn:alignx:problem:overloaded"
            assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
        # Ten bytes are announced, and none has come when the answer does; the next call follows them.
        early = await exchange(port, head("flooder", "Content-Length: 10"))
        assert early.startswith(b"HTTP/1.1 503 ")
        assert b"x-request-id: mine" in early.lower()
        both = await exchange(port, head("flooder", "Content-Length: 10") + b"0123456789" + head("victim"))
        assert both.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 200 OK" in both
        assert seen == ["victim", "victim"]
        assert load.calls.total == FEWEST
