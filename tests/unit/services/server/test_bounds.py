"""The bounds of a connection, by raw bytes against a real server on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from services.server import bounds
from services.server.bounds import HEAD_BYTES, HEAD_LINES, CrossOrigin, bounded_protocol, group_of, same_origin
from services.server.load_shedding import LoadShedding

pytestmark = pytest.mark.anyio

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of header fields and of bytes of the body."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d %d" % (len(scope["headers"]), size)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def running(
    most_of_address: int = 100,
    served: ASGIApp = app,
    shedding: LoadShedding | None = None,
    cross_origin: CrossOrigin = same_origin,
    keep_alive_s: int = 5,
) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    shedding = shedding or LoadShedding(CollectorRegistry(), holder_of=lambda _: "", refuse=lambda *_: app)
    protocol = bounded_protocol(most_of_address, shedding, cross_origin)
    config = uvicorn.Config(served, http=protocol, lifespan="off", log_config=None, timeout_keep_alive=keep_alive_s)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def exchange(port: int, *parts: bytes) -> bytes:
    """What the server says until it closes, or is silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.002)
        while piece := await asyncio.wait_for(reader.read(65_536), 0.5):
            answer += piece
    except (TimeoutError, OSError):
        pass
    finally:
        writer.close()
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem(answer: bytes) -> Any:
    return orjson.loads(answer.partition(b"\r\n\r\n")[2])


async def test_an_ordinary_head_passes_in_any_pieces() -> None:
    head = GET + b"".join(b"X-%d: %d\r\n" % (index, index) for index in range(HEAD_LINES - 1)) + b"\r\n"
    async with running() as port:
        assert status(await exchange(port, head)) == 200
        assert status(await exchange(port, *(head[at : at + 37] for at in range(0, len(head), 37)))) == 200
        large = GET + b"X-A: " + b"a" * (HEAD_BYTES - 100) + b"\r\n\r\n"
        assert status(await exchange(port, large[:20_000], large[20_000:])) == 200


@pytest.mark.parametrize(
    "head",
    [
        GET + b"".join(b"X-%d: 1\r\n" % index for index in range(HEAD_LINES)) + b"\r\n",
        GET + b"X-A: " + b"a" * HEAD_BYTES + b"\r\n\r\n",
        b"GET /?a=" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["lines", "a field", "the URL"],
)
async def test_a_long_head_gets_431(head: bytes) -> None:
    async with running() as port:
        for pieces in ([head], [head[at : at + 8_192] for at in range(0, len(head), 8_192)]):
            answer = await exchange(port, *pieces)
            assert status(answer) == 431
            assert problem(answer)["limit_bytes"] == HEAD_BYTES
            assert problem(answer)["limit_lines"] == HEAD_LINES


@pytest.mark.parametrize("start", [b"GET /?a=", GET + b"X-A: ", GET + b"a"], ids=["URL", "value", "name"])
async def test_a_line_without_end_is_cut(start: bytes) -> None:
    async with running() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        sent = 0
        with suppress(OSError):
            while sent < 1 << 26:
                writer.write(b"a" * 65_536)
                await writer.drain()
                sent += 65_536
        assert sent < 1 << 23  # what the sockets of both sides hold
        writer.close()


async def test_fields_behind_a_body_are_bounded_too() -> None:
    chunked = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    async with running() as port:
        assert (await exchange(port, chunked + b"\r\n")).endswith(b"2 3")
        endless = [chunked + b"X-A: ", *[b"a" * 8_192] * 6]
        assert status(await exchange(port, *endless)) == 431


async def test_a_body_is_not_counted() -> None:
    size = 4 * HEAD_BYTES
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    async with running() as port:
        assert (await exchange(port, head, *[b"a" * 1_024] * (size // 1_024))).endswith(b"2 %d" % size)


async def test_what_is_no_http_gets_400() -> None:
    async with running() as port:
        answer = await exchange(port, b"\x16\x03\x01 hello\r\n\r\n")
        assert status(answer) == 400
        assert problem(answer)["type"].endswith("malformed_head")


@pytest.fixture
def short_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HEAD_S", 0.2)


@pytest.mark.usefixtures("short_head")
@pytest.mark.parametrize("sent", [b"", b"GET /a HT", GET], ids=["nothing", "half a line", "half a head"])
async def test_a_head_that_does_not_end_is_cut(sent: bytes) -> None:
    async with running() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


@pytest.mark.usefixtures("short_head")
async def test_a_further_request_has_its_own_time_and_an_idle_connection_stays() -> None:
    async with running() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(GET + b"\r\n")
            assert status(await asyncio.wait_for(reader.read(65_536), 5)) == 200
            await asyncio.sleep(0.4)
        writer.write(b"GET /")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def answer_early(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


UNREAD = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("served", "sent", "then"),
    [(app, GET + b"\r\n", b"\r\n"), (answer_early, UNREAD, b"a"), (answer_early, UNREAD, b"a" * 9)],
    ids=["a blank line", "part of a body", "the rest of a body"],
)
async def test_what_begins_no_request_leaves_an_idle_connection_its_time(
    served: ASGIApp, sent: bytes, then: bytes
) -> None:
    async with running(served=served, keep_alive_s=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(65_536), 5)
        writer.write(then)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()


async def test_blank_lines_before_a_request_count_for_nothing() -> None:
    async with running() as port:
        answer = await exchange(port, b"\r\n", GET + b"\r\n\r\n", b"\r\n", b"\r\n" + GET, b"\r\n")
        assert answer.count(b"HTTP/1.1 200") == 2


async def test_connections_of_one_address_are_bounded() -> None:
    async with running(most_of_address=2) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        answer = await exchange(port, GET + b"\r\n")
        assert status(answer) == 503
        assert problem(answer)["type"].endswith("too_many_connections")
        assert b"Retry-After: 1" in answer
        held[0][1].close()
        await asyncio.sleep(0.1)
        assert status(await exchange(port, GET + b"\r\n")) == 200
        held[1][1].close()


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_groups_of_addresses(address: str, group: str) -> None:
    assert group_of(address) == group
