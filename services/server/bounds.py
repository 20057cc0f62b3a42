"""Bounds on what a connection may cost before a request is known: bytes, lines and seconds of its head, and
connections from one address. Here too calls are refused that would only wait (load_shedding.py).

httptools, which parses requests for uvicorn, has none of them, and the gateway reads heads before it knows who calls.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any, ClassVar, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.errors import AlignXError, HeadTooLarge, MalformedHead, TooManyConnections
from services.server.load_shedding import LoadShedding

HEAD_BYTES: Final = 32 * 1024
"""Of the request line and all header fields together."""
HEAD_LINES: Final = 100
HEAD_S: Final = 10.0
"""Longest time from a connection, or from the first byte of a further request, to the end of the head."""

Fields = Iterable[tuple[bytes, bytes]]
CrossOrigin = Callable[[Fields], Fields]
"""From a request's header fields those by which a page of another origin may read the answer: the app, which adds them
to its own answers, does not see what is refused here."""


def same_origin(_: Fields) -> Fields:
    return ()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within bounds; what is not within them gets a problem and a closed connection."""

    # Beyond 30 names the instances of a class no longer share the keys of their dictionaries: 1.5 KB a connection.
    __slots__ = ("_address", "_advanced", "_bytes", "_deadline", "_held_back", "_in_head", "_lines", "_refusal")

    most_of_address: ClassVar[int]
    """Connections that one address may hold; an IPv6 address counts with its network of 64 bits."""
    held: ClassVar[Counter[str]]
    shedding: ClassVar[LoadShedding]
    cross_origin = staticmethod(same_origin)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bytes = self._lines = 0
        self._in_head = True
        self._advanced = False
        self._held_back = 0
        """Bytes since the parser last gave something: it keeps the part of a line that it has."""
        self._deadline: asyncio.TimerHandle | None = None
        self._refusal: AlignXError | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._address = group_of(self.client[0] if self.client else "")
        self.held[self._address] += 1
        if self._address and self.held[self._address] > self.most_of_address:
            self._refuse(TooManyConnections(retry_after=1.0))
            return
        self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self.held[self._address] -= 1
        if not self.held[self._address]:
            del self.held[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._advanced = False
        super().data_received(data)
        self._held_back = 0 if self._advanced else self._held_back + len(data)
        if self.transport.is_closing():
            return
        if self._held_back > HEAD_BYTES:
            self._refuse(_head_too_large())
        elif self._in_head and self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.close)
        elif not self._in_head and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # A blank line, or the rest of a body that was answered early: uvicorn has ended the wait for a request.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        self._in_head = True
        self._bytes = self._lines = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also for the fields behind a chunked body, which count with the head."""
        self._count(len(name) + len(value) + len(b": \r\n"), lines=1)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._advanced, self._in_head = True, False
        self._end_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Called when the parser, or one of the callbacks above, has raised."""
        self._refuse(self._refusal or MalformedHead())

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Private, for want of a public hook between a request's head and its task. test_bounds fails if this goes."""
        scope: Any = cycle.scope  # uvicorn's own types of ASGI are not Starlette's
        refuse: Any = self.shedding.refusal(scope)
        if refuse is None:
            counted: Any = self.shedding.count(scope, app)
            super()._start_asgi_task(cycle, counted)
            return
        cycle.default_headers = [*cycle.default_headers, *self.cross_origin(scope["headers"])]
        answer = cycle.run_asgi(refuse)
        try:
            answer.send(None)  # a task would begin in the loop's next turn, and the loop is late
        except StopIteration:
            return
        answer.close()  # the caller does not take earlier answers
        self.transport.abort()

    def _count(self, size: int, lines: int = 0) -> None:
        self._advanced = True
        self._bytes += size
        self._lines += lines
        if self._bytes > HEAD_BYTES or self._lines > HEAD_LINES:
            self._refusal = _head_too_large()
            raise self._refusal

    def _refuse(self, error: AlignXError) -> None:
        self._end_deadline()
        self.transport.write(_last_answer(error, self.cross_origin(self.headers or ())))
        self.transport.close()

    def _end_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None


def bounded_protocol(
    most_of_address: int, shedding: LoadShedding, cross_origin: CrossOrigin = same_origin
) -> type[HttpToolsProtocol]:
    """The protocol of one server, with a count of addresses of its own."""
    own = {"most_of_address": most_of_address, "held": Counter(), "shedding": shedding}
    own["cross_origin"] = staticmethod(cross_origin)
    return type("Protocol", (BoundedProtocol,), own)


def raise_file_limit() -> None:
    """To as many as the system lets this process open: each connection is a file."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError):  # where no limit is not allowed either
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def group_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or the IPv6 network of 64 bits, which is one customer's."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed if not isinstance(parsed, IPv6Address) else IPv6Address(int(parsed) >> 64 << 64))


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"The request line and the header fields may have {HEAD_BYTES:,} bytes in {HEAD_LINES} lines.",
        limit_bytes=HEAD_BYTES,
        limit_lines=HEAD_LINES,
    )


def _last_answer(error: AlignXError, fields: Fields) -> bytes:
    body = orjson.dumps(error.problem())
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(f"{name.decode()}: {value.decode('latin-1')}" for name, value in fields),
    ]
    if error.retry_after is not None:
        lines.append(f"Retry-After: {max(1, round(error.retry_after))}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
