import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from tests.unit.gateway.conftest import Seen, Suite, hang_up, http_answer, stay_silent
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

PATH = "/v1/users/ann/preferences"


def request(suite: Suite, line: str, *fields: str, body: bytes = b"") -> bytes:
    head = [line, "Host: test", f"Authorization: Bearer {suite.key}", "Connection: close", *fields]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


async def test_a_request_reaches_its_service_as_it_was_sent(suite: Suite) -> None:
    path = "/v1/users/a%20%3F%c3%a9%25~+@x/events"
    body = b'{"events": [1.50,  "\xc3\xa9"]}'
    sent = {"Idempotency-Key": "k-1", "Prefer": "wait=3", "Content-Type": "application/json; charset=utf-8"}
    status, _, _ = await suite.json("POST", f"{path}?a=%2F&a=b+c", data=body, headers=sent)
    assert status == 200
    (seen,) = suite.preference.seen
    assert seen.line == f"POST {path}?a=%2F&a=b+c HTTP/1.1"
    assert seen.body == body
    assert {name: seen.header(name) for name in sent} == sent
    assert not suite.response.seen
    await suite.json("POST", "/v1/users/ann/select", data=b"{}")
    assert suite.response.seen[0].line == "POST /v1/users/ann/select HTTP/1.1"


async def test_conditional_and_resuming_fields_pass(suite: Suite) -> None:
    sent = {"If-Match": '"3"', "If-None-Match": '"4", "5"', "Last-Event-ID": "7-0", "Accept": "text/plain"}
    await suite.json("GET", PATH, headers={**sent, "X-User-Id": "ann", "Accept-Encoding": "gzip"})
    seen = suite.preference.seen[0]
    assert {name: seen.header(name) for name in sent} == sent
    assert seen.header("x-user-id") == "ann"
    assert seen.header("accept-encoding") is None


@with_settings(response={"user_headers": ["X-OpenWebUI-User-Id"]})
async def test_a_header_that_names_the_user_passes_where_the_operator_says_so(suite: Suite) -> None:
    sent = {"X-OpenWebUI-User-Id": "ann", "X-LibreChat-User-Id": "bob"}
    await suite.json("POST", "/v1/chat/completions", data=b"{}", headers=sent)
    seen = suite.response.seen[0]
    assert (seen.header("x-openwebui-user-id"), seen.header("x-librechat-user-id")) == ("ann", None)


async def test_hop_by_hop_fields_end_here(suite: Suite) -> None:
    suite.preference.answer(
        http_answer(
            b"hello",
            "200 OK",
            "Connection: keep-alive, X-Hop",
            "Keep-Alive: timeout=5",
            "X-Hop: 1",
            "Proxy-Authenticate: Basic",
            "Server: secret/1.0",
            "Set-Cookie: a=b",
            "X-Request-Id: another",
            "X-AlignX-Internal: token",
            "X-AlignX-Tenant: shop",
            'ETag: "3"',
            "Retry-After: 4",
            "X-AlignX-Summary-Version: 3",
            "Preference-Applied: wait=3",
            'RateLimit: "tokens-day";r=5;t=60',
            "Content-Type: text/plain",
        )
    )
    fields = ("TE: trailers", "Upgrade: h2c", "Proxy-Authorization: x", "X-Hop: 1", "X-Request-Id: mine-1")
    reply = await suite.raw(request(suite, f"GET {PATH} HTTP/1.1", *fields))
    seen = suite.preference.seen[0]
    for name in ("te", "upgrade", "proxy-authorization", "x-hop", "authorization"):
        assert seen.header(name) is None
    assert seen.header("x-request-id") == "mine-1"
    head, _, body = reply.partition(b"\r\n\r\n")
    names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    for field in (b"keep-alive", b"x-hop", b"proxy-authenticate", b"server", b"set-cookie", b"x-alignx-tenant"):
        assert field not in names
    assert b"x-alignx-internal" not in names
    for field in (b"etag", b"retry-after", b"x-alignx-summary-version", b"preference-applied", b"server-timing"):
        assert names.count(field) == 1
    limits = [line for line in head.split(b"\r\n") if line.lower().startswith(b"ratelimit:")]
    assert [b'"tokens-day";r=5;t=60' in limits[0], b'"key";r=' in limits[1]] == [True, True]
    assert names.count(b"x-request-id") == names.count(b"date") == 1
    assert b"x-request-id: mine-1" in head
    assert body == b"hello"


async def test_statuses_without_body_and_problems_pass(suite: Suite) -> None:
    suite.preference.answer(b'HTTP/1.1 304 Not Modified\r\nETag: "3"\r\n\r\n')
    async with suite.call("GET", PATH) as reply:
        assert (reply.status, reply.headers["ETag"]) == (304, '"3"')
    suite.preference.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    async with suite.call("DELETE", "/v1/users/ann") as reply:
        assert (reply.status, await reply.read()) == (204, b"")
    problem = b'{"type":"urn:alignx:problem:user_unknown"}'
    field = "Content-Type: application/problem+json"
    suite.preference.answer(http_answer(problem, "404 Not Found", field))
    async with suite.call("GET", PATH) as reply:
        assert (reply.status, await reply.read()) == (404, problem)
        assert reply.content_type == "application/problem+json"


async def test_compressed_answers_pass_as_they_are(suite: Suite) -> None:
    suite.preference.answer(http_answer(b"\x1f\x8bnot", "200 OK", "Content-Encoding: gzip"))
    reply = await suite.raw(request(suite, f"GET {PATH} HTTP/1.1"))
    assert reply.endswith(b"\r\n\r\n\x1f\x8bnot")


async def test_redirects_are_not_followed(suite: Suite) -> None:
    target = f"Location: {suite.response.url}/"
    suite.preference.answer(http_answer(b"", "307 Temporary Redirect", target))
    async with suite.call("GET", PATH) as reply:
        assert reply.status == 307
    assert not suite.response.seen


@with_settings(limits={"body_bytes": 1_024})
async def test_bodies_are_limited_in_both_forms(suite: Suite) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 512

    path = "/v1/users/ann/events"
    status, _, problem = await suite.json("POST", path, data=b"x" * 1_025)
    assert (status, problem["type"]) == (413, "urn:alignx:problem:payload_too_large")
    assert (problem["limit_bytes"], problem["detail"]) == (1_024, "The body may have at most 1,024 bytes.")
    status, _, problem = await suite.json("POST", path, data=pieces(3))
    assert (status, problem["limit_bytes"]) == (413, 1_024)
    assert not suite.preference.seen
    assert (await suite.json("POST", path, data=b"x" * 1_024))[0] == 200
    assert (await suite.json("POST", path, data=pieces(2)))[0] == 200
    assert [len(seen.body) for seen in suite.preference.seen] == [1_024, 1_024]
    status, _, error = await suite.json("POST", "/v1/chat/completions", data=b"x" * 1_025)
    assert (status, error["error"]["code"]) == (413, "payload_too_large")


async def test_large_bodies_pass(suite: Suite) -> None:
    body = b"0123456789abcdef" * 200_000
    suite.preference.answer(http_answer(body, "200 OK"))
    async with suite.call("POST", "/v1/users/ann/events", data=io.BytesIO(body)) as reply:
        assert await reply.read() == body
    assert suite.preference.seen[0].body == body


async def test_unknown_paths_methods_and_tricks(suite: Suite) -> None:
    for path, status in (
        ("/v1/nothing", b"404"),
        ("/v1/users/ann/../bob/preferences", b"404"),
        ("/v1/users/%2e%2e/quality", b"404"),
        ("/v1/users/%2e%2e/events", b"400"),
        ("/v1/users/ann%2fpreferences", b"400"),
        ("/v1/users//preferences", b"404"),
        ("//v1/users/ann/preferences", b"404"),
        ("/v1/users/ann/preferences/", b"404"),
        ("/users/ann/preferences", b"404"),
        ("http://other.example/v1/nothing", b"404"),
    ):
        reply = await suite.raw(request(suite, f"GET {path} HTTP/1.1"))
        assert reply.split(b" ")[1] in (status, b"400", b"404"), path
        assert b"problem+json" in reply, path
    reply = await suite.raw(request(suite, f"OPTIONS {PATH} HTTP/1.1"))
    assert reply.startswith(b"HTTP/1.1 405")
    assert b"allow: get, put\r\n" in reply.lower()
    assert not suite.preference.seen
    assert not suite.response.seen


async def test_fields_that_are_not_utf8_are_refused(suite: Suite) -> None:
    reply = await suite.raw(request(suite, f"GET {PATH} HTTP/1.1", "Idempotency-Key: \xff"))
    assert reply.startswith(b"HTTP/1.1 400")
    reply = await suite.raw(request(suite, f"GET {PATH}?q=\xff HTTP/1.1"))
    assert reply.startswith(b"HTTP/1.1 400")
    assert not suite.preference.seen


@with_settings(gateway={"preference_url": "http://127.0.0.1:1"})
async def test_a_service_that_is_down(suite: Suite) -> None:
    status, headers, problem = await suite.json("GET", PATH)
    assert (status, problem["type"]) == (503, "urn:alignx:problem:upstream_unavailable")
    assert headers["Retry-After"] == "1"
    assert problem["request_id"] == headers["X-Request-Id"]
    assert (await suite.json("GET", "/v1/models"))[0] == 200
    status, _, body = await suite.json("GET", "/readyz")
    assert (status, body["checks"]["preference"]) == (200, "The preference service does not answer.")


@with_settings(gateway={"read_timeout_s": 0.2})
async def test_a_service_that_hangs_up_or_stays_silent(suite: Suite) -> None:
    for handler in (hang_up, stay_silent):
        suite.response.handler = handler
        status, headers, error = await suite.json("POST", "/v1/chat/completions", data=b"{}")
        assert (status, error["error"]["code"]) == (503, "upstream_unavailable")
        assert error["error"]["type"] == "server_error"
        assert "Retry-After" in headers


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", PATH), ("DELETE", "/v1/users/ann"), ("POST", "/v1/users/ann/events")]
)
async def test_what_may_have_been_done_is_not_sent_again(suite: Suite, method: str, path: str) -> None:
    """The connection is one that was used before: over such a one the HTTP client would repeat."""

    assert (await suite.json("GET", PATH))[0] == 200

    suite.preference.handler = hang_up
    status, _, problem = await suite.json(method, path, data=b"{}")
    assert (status, problem["type"]) == (503, "urn:alignx:problem:upstream_unavailable")
    assert [seen.line.split()[0] for seen in suite.preference.seen] == ["GET", method]


async def test_reading_is_tried_again(suite: Suite) -> None:
    async def hang_up_once(_: Seen, writer: asyncio.StreamWriter) -> None:
        suite.preference.answer(http_answer(b"{}", "200 OK"))
        writer.close()

    suite.preference.handler = hang_up_once
    assert (await suite.json("GET", PATH))[0] == 200
    assert len(suite.preference.seen) == 2


async def test_a_cut_answer_never_looks_complete(suite: Suite) -> None:
    async def cut(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        writer.close()

    suite.preference.handler = cut
    reply = await suite.raw(request(suite, "GET /v1/users/ann/export HTTP/1.1"))
    assert reply.startswith(b"HTTP/1.1 200")
    assert not reply.endswith(b"0\r\n\r\n")


async def test_routes_are_templates_in_metrics(suite: Suite) -> None:
    await suite.json("GET", "/v1/users/secret-person/preferences")
    await suite.json("GET", "/v1/users/secret-person/nothing")
    text = await suite.metrics()
    assert 'route="/v1/users/{user}/preferences"' in text
    assert 'alignx_gateway_upstream_seconds_count{service="preference"} 1.0' in text
    assert "secret-person" not in text


async def test_timing_is_told(suite: Suite) -> None:
    _, headers, _ = await suite.json("GET", PATH)
    own, service = headers["Server-Timing"].split(", ")
    assert own.startswith("gateway;dur=")
    assert 0 < float(own.partition("=")[2]) < 1_000
    assert service.startswith("service;dur=")
