"""What every process answers: problems, health, metrics, the gateway's word, and the way out."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import orjson
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from prometheus_client import CollectorRegistry
from redis import Redis

from alignx.schemas.requests import EventsRequest
from services.errors import EngineUnavailable, StoreUnavailable, UserUnknown
from services.server.app import TENANT_HEADER, TOKEN_HEADER, Check, create_app, create_server, sse, tenant_of
from services.server.request_bodies import JsonRoute
from services.server.state import Process, state_of
from services.settings import LimitSettings, RedisSettings, ServerSettings, Settings
from services.storage.connection import open_redis
from tests.unit.running_server import running_server

TOKEN = "internal-token-of-the-tests"
TRUSTED = {TOKEN_HEADER: TOKEN, TENANT_HEADER: "acme"}
Make = Callable[..., FastAPI]

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/users/{user}/events")
async def append(user: str, body: EventsRequest, limit: int = 1, prefer: Annotated[int, Header()] = 1) -> int:
    return len(body.events)


@router.post("/v1/chat/completions")
async def chat(body: EventsRequest) -> None: ...


@router.get("/v1/whoami")
async def whoami(tenant: Annotated[str, Depends(tenant_of)]) -> str:
    return tenant


@router.get("/v1/raise/{name}")
@router.get("/v1/chat/raise/{name}")
async def fail(name: str) -> None:
    raise {
        "unknown": UserUnknown(),
        "soon": StoreUnavailable(retry_after=0.2),
        "later": EngineUnavailable(retry_after=2.6),
        "teapot": HTTPException(418, "I am a teapot."),
        "crash": ValueError("a canary"),
    }[name]


def settings(**blocks: Any) -> Settings:
    return Settings(internal_token=TOKEN, **blocks)


def app_with(
    configured: Settings | None = None,
    checks: Mapping[str, Check] | None = None,
    routes: Callable[[FastAPI], None] | None = None,
    one_of: Collection[str] = (),
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_app(
        service="test",
        title="test",
        settings=configured or settings(),
        registry=CollectorRegistry(),
        checks=lambda _: checks or {},
        lifespan=lifespan,
        one_of=one_of,
    )
    app.include_router(router)
    if routes:
        routes(app)
    return app


def ask(app: FastAPI, method: str, path: str, **fields: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, **fields)

    return asyncio.run(main())


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer's problem document, which must say `status` and `code`."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["type"]) == (status, f"urn:alignx:problem:{code}")
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    return document


def send(body: Any, path: str = "/v1/users/ada/events", **fields: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {"Content-Type": "application/json", **fields.pop("headers", {})}
    return ask(app_with(), "POST", path, content=content, headers=headers, **fields)


# --- a request that is not right ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "field", "message"),
    [
        ([{"type": "rating", "item": "a", "value": 9}], "events.0", "value 9 is outside the scale [1, 5]"),
        ([{"type": "post", "text": "t"}, {"type": "post", "txt": "t"}], "events.1.text", "Field required"),
        ([{"type": "dialogue", "messages": [{"role": "x", "content": "y"}]}], "events.0.messages.0.role", "Input sh"),
        ([], "events", "Tuple should have at least 1 item"),
    ],
)
def test_a_field_is_named_by_its_path_as_the_caller_wrote_it(events: list[Any], field: str, message: str) -> None:
    document = problem(send({"events": events}), 422, "invalid_request")
    first = document["errors"][0]
    assert first["field"] == field
    assert first["message"].startswith(message)
    assert document["detail"].startswith(f"{field}: {first['message']}")
    assert document["instance"] == "/v1/users/ada/events"


def test_fields_outside_the_body_are_named_too_and_many_are_counted() -> None:
    event = {"type": "post", "text": "t"}
    for field, request in (("limit", {"params": {"limit": "x"}}), ("prefer", {"headers": {"prefer": "x"}})):
        document = problem(send({"events": [event]}, **request), 422, "invalid_request")
        assert [error["field"] for error in document["errors"]] == [field]
    assert problem(send(b""), 422, "invalid_request")["errors"][0]["field"] == "body"
    document = problem(send({"events": [event, *[{"type": "post"}] * 30]}), 422, "invalid_request")
    assert len(document["errors"]) == 20
    assert document["detail"].endswith("(and 29 more)")


@pytest.mark.parametrize("body", [b"{", b"nonsense", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_json_or_nested_endlessly_is_malformed(body: bytes) -> None:
    document = problem(send(body), 400, "malformed_body")
    assert document["detail"] == "The body is not valid JSON, or is nested too deeply."


@pytest.mark.parametrize("media", [None, "", "text/plain", "application/jsonl", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_said_to_be_json_is_refused(media: str | None) -> None:
    body = orjson.dumps({"events": [{"type": "post", "text": "t"}]})
    headers = {} if media is None else {"Content-Type": media}
    problem(ask(app_with(), "POST", "/v1/users/ada/events", content=body, headers=headers), 415, "unsupported_media")
    for json in ("application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"):
        headers = {"Content-Type": json}
        assert ask(app_with(), "POST", "/v1/users/ada/events", content=body, headers=headers).json() == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_read_up_to_its_limit(chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 1_000

    app = app_with(settings(limits=LimitSettings(body_bytes=2_048)))
    headers = {"Content-Type": "application/json"}
    content = pieces() if chunked else b" " * 3_000
    answer = ask(app, "POST", "/v1/users/ada/events", content=content, headers=headers)
    document = problem(answer, 413, "payload_too_large")
    assert (document["limit_bytes"], document["detail"]) == (2_048, "The body may have at most 2,048 bytes.")
    exact = orjson.dumps({"events": [{"type": "post", "text": "t"}]}).ljust(2_048)
    assert ask(app, "POST", "/v1/users/ada/events", content=exact, headers=headers).json() == 1


def test_paths_methods_and_other_http_errors_are_problems() -> None:
    app = app_with()
    problem(ask(app, "GET", "/v1/nothing"), 404, "route_unknown")
    refused = ask(app, "DELETE", "/v1/whoami")
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET"
    assert problem(ask(app, "GET", "/v1/raise/teapot"), 400, "bad_request")["detail"] == "I am a teapot."


def test_openais_clients_get_errors_in_their_shape() -> None:
    for answer, status, code in (
        (send({"events": []}, "/v1/chat/completions"), 422, "invalid_request"),
        (send(b"{", "/v1/chat/completions"), 400, "malformed_body"),
        (ask(app_with(), "GET", "/v1/chat/raise/later"), 503, "engine_unavailable"),
        (ask(app_with(), "GET", "/v1/models/none"), 404, "route_unknown"),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["code"], error["type"]) == (code, "server_error" if status == 503 else "invalid_request_error")
    assert send({"events": []}, "/v1/chat/completions").json()["error"]["param"] == "events"


@pytest.mark.parametrize(
    ("name", "status", "code", "retry_after"),
    [
        ("unknown", 404, "user_unknown", None),
        ("soon", 503, "store_unavailable", "1"),
        ("later", 503, "engine_unavailable", "3"),
    ],
)
def test_our_errors_carry_their_status_and_when_to_retry(
    name: str, status: int, code: str, retry_after: str | None
) -> None:
    answer = ask(app_with(), "GET", f"/v1/raise/{name}")
    problem(answer, status, code)
    assert answer.headers.get("retry-after") == retry_after


def test_a_crash_is_a_problem_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    app = app_with()
    answer = ask(app, "GET", "/v1/raise/crash")
    problem(answer, 500, "internal_error")
    assert "canary" not in answer.text
    assert 'alignx_problems_total{code="internal_error"} 1.0' in ask(app, "GET", "/metrics").text
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == ["request failed"]


# --- Redis -------------------------------------------------------------------------------------


def on_redis(url: str, command: Callable[[Any], Awaitable[None]], **options: Any) -> httpx.Response:
    """The answer of a route that runs `command` on the Redis at `url`."""

    def routes(app: FastAPI) -> None:
        @app.get("/v1/redis")
        async def run() -> None:
            async with open_redis(RedisSettings(url=url, **options)) as redis:
                await command(redis)

    return ask(app_with(routes=routes), "GET", "/v1/redis")


async def write(redis: Any) -> None:
    await redis.execute_command("SET", "k", "v")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "9"), ("REPLICAOF", "NO", "ONE")),
        (("CLIENT", "PAUSE", "60000", "WRITE"), ("CLIENT", "UNPAUSE")),
    ],
    ids=["full", "read-only", "slow"],
)
def test_a_redis_that_cannot_serve_is_a_503(redis_url: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    admin: Any
    with Redis.from_url(redis_url) as admin:
        admin.execute_command(*before)
        try:
            answer = on_redis(redis_url, write, timeout_s=0.1)
        finally:
            admin.execute_command(*after)
    problem(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"


def test_a_redis_that_is_gone_is_a_503_and_logged_by_its_class(caplog: pytest.LogCaptureFixture) -> None:
    problem(on_redis("redis://127.0.0.1:9/0", write), 503, "store_unavailable")
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (record.message, vars(record)["error"]) == ("redis cannot serve", "ConnectionError")


def test_a_mistake_of_ours_in_redis_is_a_500(redis_url: str) -> None:
    async def wrong_type(redis: Any) -> None:
        await write(redis)
        await redis.execute_command("LPUSH", "k", "v")

    problem(on_redis(redis_url, wrong_type), 500, "internal_error")


# --- health ------------------------------------------------------------------------------------


async def well() -> None: ...


async def ill() -> None:
    raise StoreUnavailable


@pytest.mark.parametrize(
    ("checks", "one_of", "is_ready"),
    [
        ({"redis": well}, (), True),
        ({"redis": ill, "engine": well}, (), False),
        ({"redis": well, "a": ill, "b": well}, ("a", "b"), True),
        ({"redis": well, "a": ill, "b": ill}, ("a", "b"), False),
        ({"redis": ill, "a": well, "b": well}, ("a", "b"), False),
        ({"redis": ill, "a": ill, "b": well}, ("a", "b"), False),
    ],
)
def test_ready_when_all_checks_pass_and_of_some_one(
    checks: dict[str, Check], one_of: tuple[str, ...], is_ready: bool
) -> None:
    answer = ask(app_with(checks=checks, one_of=one_of), "GET", "/readyz")
    states = {name: "ok" if check is well else "Redis does not answer" for name, check in checks.items()}
    assert answer.json() == {"status": "ready" if is_ready else "not_ready", "checks": {"drain": "ok"} | states}
    assert answer.status_code == (200 if is_ready else 503)


def test_not_ready_while_draining() -> None:
    app = app_with(checks={"redis": well})
    state_of(app, Process).drain.begin()
    answer = ask(app, "GET", "/readyz")
    assert (answer.status_code, answer.json()["checks"]["drain"]) == (503, "This instance is shutting down")
    assert ask(app, "GET", "/livez").json() == {"status": "alive"}


def test_metrics_count_by_route_and_by_problem() -> None:
    app = app_with()
    for path in ("/v1/raise/unknown", "/v1/raise/soon", "/v1/a-canary"):
        ask(app, "GET", path)
    answer = ask(app, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'alignx_http_requests_total{method="GET",route="/v1/raise/{name}",status="404"} 1.0',
        'alignx_http_requests_total{method="GET",route="/v1/raise/{name}",status="503"} 1.0',
        'alignx_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'alignx_problems_total{code="user_unknown"} 1.0',
    ):
        assert line in answer.text
    assert "canary" not in answer.text


# --- the gateway's word ------------------------------------------------------------------------


def test_the_gateway_names_the_tenant() -> None:
    assert ask(app_with(), "GET", "/v1/whoami", headers=TRUSTED).json() == "acme"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({TOKEN_HEADER: ""}, "call the gateway"),
        ({TOKEN_HEADER: TOKEN + "x"}, "call the gateway"),
        ({TOKEN_HEADER: "ä"}, "call the gateway"),
        ({TENANT_HEADER: ""}, "X-AlignX-Tenant is missing"),
    ],
)
def test_nobody_else_does(changes: dict[str, str], said: str) -> None:
    headers = {name: value.encode() for name, value in (TRUSTED | changes).items()}
    answer = ask(app_with(), "GET", "/v1/whoami", headers=headers)
    assert said in problem(answer, 401, "unauthenticated")["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert problem(ask(app_with(), "GET", "/v1/whoami"), 401, "unauthenticated")


def test_a_server_sent_event_is_its_lines() -> None:
    assert sse(b"{}") == b"data: {}\n\n"
    assert sse(b"{}", event="delta", event_id="1-0") == b"id: 1-0\nevent: delta\ndata: {}\n\n"


# --- the way out -------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_draining_server_answers_until_its_time_is_up_and_ends_its_streams() -> None:
    configured = settings(server=ServerSettings(port=0, drain_s=1.0, shutdown_s=5))
    app = app_with(configured)

    @app.get("/v1/until-the-end")
    async def until_the_end() -> str:
        await state_of(app, Process).drain.wait()
        return "over"

    server = create_server(app, configured, port=1)
    async with asyncio.timeout(10), running_server(server) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/readyz")).status_code == 200
        stream = asyncio.create_task(client.get("/v1/until-the-end"))
        await asyncio.sleep(0.05)
        server.should_exit, started = True, time.monotonic()
        while not state_of(app, Process).drain.begun:  # noqa: ASYNC110  # uvicorn looks at its flag
            await asyncio.sleep(0.01)
        assert (await client.get("/readyz")).status_code == 503
        alive = await client.get("/livez")
        assert (alive.status_code, alive.headers["connection"]) == (200, "close")
        assert not state_of(app, Process).drain.over
        assert not stream.done()
        assert (await stream).json() == "over"
    assert time.monotonic() - started >= 1.0


def test_the_settings_name_the_port_else_the_service_does() -> None:
    app = app_with()
    assert create_server(app, settings(), port=8101).config.port == 8101
    assert create_server(app, settings(server=ServerSettings(port=9000)), port=8101).config.port == 9000
    assert create_server(app, settings(server=ServerSettings(port=0)), port=8101).config.port == 0
