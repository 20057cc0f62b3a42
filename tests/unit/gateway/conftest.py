"""A whole gateway for a test: real uvicorn, real Redis, and two services made of raw sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI
from yarl import URL

from gateway.__main__ import GatewayState, build_app
from services.server.app import GracefulServer, create_server
from services.server.metrics import create_registry
from services.server.state import state_of
from services.settings import (
    GatewaySettings,
    LimitSettings,
    LogSettings,
    RedisSettings,
    ResponseSettings,
    ServerSettings,
    Settings,
)
from tests.contract.declared import check_status, problems_watched
from tests.unit.running_server import running_server

INTERNAL_TOKEN = "internal-token-of-the-tests"
ADMIN_KEY = "ax_root_" + "a" * 52
METRICS_TOKEN = "metrics-token-of-the-tests"


@dataclass
class Seen:
    """A request as a service got it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for other, value in self.headers if other == name.lower()), None)


def http_answer(body: bytes = b"{}", status: str = "200 OK", *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


Handler = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


class FakeService:
    """Answers every request with `handler`; keeps what it saw, and notices when a caller hangs up. To /livez it
    answers by itself, until it `hangs`."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.hung_up = asyncio.Event()
        self.url = ""
        self.hangs = False
        self.answer(http_answer())

    def answer(self, data: bytes) -> None:
        """From now on every request gets these bytes."""

        async def write(_: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()

        self.handler: Handler = write

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                seen = await self._read(reader)
                if seen.line.startswith("GET /livez "):
                    if self.hangs:
                        await reader.read()  # until the caller leaves
                        break
                    writer.write(http_answer())
                    continue
                self.seen.append(seen)
                handling = asyncio.ensure_future(self.handler(seen, writer))
                hang_up = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({handling, hang_up}, return_when=asyncio.FIRST_COMPLETED)
                if handling.done() and not writer.is_closing():
                    handling.result()
                    hang_up.cancel()
                    with suppress(asyncio.CancelledError):
                        await hang_up
                    continue
                handling.cancel()
                hang_up.cancel()
                self.hung_up.set()
                break
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(": ")[::2] for line in head[1:] if line]
        headers = [(name.lower(), value) for name, value in pairs]
        length = int(dict(headers).get("content-length", 0))
        return Seen(head[0], headers, await reader.readexactly(length))


async def hang_up(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def stay_silent(_: Seen, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@dataclass
class Suite:
    """The running gateway, its services, and a client."""

    url: str
    app: FastAPI
    server: GracefulServer
    preference: FakeService
    response: FakeService
    client: aiohttp.ClientSession
    key: str = ""

    @asynccontextmanager
    async def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> AsyncIterator[Any]:
        """A request with the test tenant's key, another one, or none (`key=""`)."""
        key = self.key if key is None else key
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
        url = URL(self.url + path, encoded=True)
        async with self.client.request(method, url, headers=headers, allow_redirects=False, **options) as answer:
            if "Server-Timing" not in answer.headers:  # the gateway's own answer, not that of a service made here
                check_status(method, path, answer.status)
            yield answer

    async def json(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        """Status, headers and JSON body of an answer."""
        async with self.call(method, path, **options) as answer:
            return answer.status, answer.headers, await answer.json(content_type=None)

    async def make_key(self, **request: Any) -> dict[str, Any]:
        body = {"name": "test", "tenant": "shop", **request}
        status, _, created = await self.json("POST", "/admin/keys", key=ADMIN_KEY, json=body)
        assert status == 201, created
        key: dict[str, Any] = created
        return key

    async def metrics(self) -> str:
        async with self.call("GET", "/metrics", key=METRICS_TOKEN) as answer:
            assert answer.status == 200
            text: str = await answer.text()
        return text

    async def raw(self, request: bytes) -> bytes:
        """Sends bytes as they are; everything that comes back until the connection closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(self.url).port)
        writer.write(request)
        try:
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()


def suite_settings(redis_url: str, preference: str, response: str, changes: dict[str, dict[str, Any]]) -> Settings:
    gateway = {
        "preference_url": preference,
        "response_url": response,
        "bootstrap_key": ADMIN_KEY,
        "metrics_token": METRICS_TOKEN,
        "connect_timeout_s": 1.0,
        **changes.get("gateway", {}),
    }
    return Settings(
        internal_token=INTERNAL_TOKEN,
        redis=RedisSettings(**{"url": redis_url, "timeout_s": 1.0, **changes.get("redis", {})}),
        gateway=GatewaySettings(**gateway),
        limits=LimitSettings(**changes.get("limits", {})),
        response=ResponseSettings(**changes.get("response", {})),
        server=ServerSettings(**{"port": 0, "shutdown_s": 2, **changes.get("server", {})}),
        log=LogSettings(access=False),
    )


@asynccontextmanager
async def running_suite(redis_url: str, **changes: dict[str, Any]) -> AsyncIterator[Suite]:
    preference, response = FakeService(), FakeService()
    async with preference.running(), response.running():
        settings = suite_settings(redis_url, preference.url, response.url, changes)
        app = build_app(settings, create_registry("gateway"))
        server = create_server(app, settings, port=0)
        async with running_server(server) as url, aiohttp.ClientSession() as client:
            suite = Suite(url, app, server, preference, response, client)
            if "redis" not in changes:
                await state_of(app, GatewayState).bootstrap.check()  # the first key may still be on its way
                suite.key = (await suite.make_key())["key"]
            with problems_watched():
                yield suite


@pytest.fixture
def settings() -> dict[str, dict[str, Any]]:
    """What differs from the suite's defaults, by block; see `with_settings`."""
    return {}


@pytest.fixture
async def suite(redis_url: str, settings: dict[str, dict[str, Any]]) -> AsyncIterator[Suite]:
    async with asyncio.timeout(120), running_suite(redis_url, **settings) as suite:
        yield suite
