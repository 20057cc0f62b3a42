"""Calls at given times, whether earlier ones have been answered or not, as real callers make them.

A closed loop would wait for a slow service and so hide how slow it is. A generator that shares the machine is late
itself: how late a call was sent is told apart from how long its answer took. So that it is seldom late, it speaks no
more of HTTP than it needs: what it sends is made before, of an answer it reads status and length.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

_TIMEOUT_S = 60.0


class Request(NamedTuple):
    method: str
    path: str
    body: bytes | None = None


@dataclass
class Outcome:
    """The calls of one run."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """From when a call was sent to the end of its answer, by status, or by the class of an error."""
    late: list[float] = field(default_factory=list)
    """From when each call was due to when it was sent: the generator's own lag."""

    def add(self, status: str, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def statuses(self) -> Counter[str]:
        return Counter({status: len(found) for status, found in self.seconds.items()})

    @property
    def admitted(self) -> list[float]:
        """Seconds of the calls that were served, in order of size."""
        return sorted(second for status, found in self.seconds.items() if status.startswith("2") for second in found)

    @property
    def refused(self) -> list[float]:
        """The same of those that got 429 or 503."""
        return sorted(second for status in ("429", "503") for second in self.seconds.get(status, ()))


class _Connection(asyncio.Protocol):
    """One call at a time; the answer's length must be announced."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.answer: asyncio.Future[str] | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        fields = head.lower()
        length = fields.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length or 0) or (not length and not fields.startswith(b"http/1.1 204")):
            return
        self._read = b""
        if b"\r\nconnection: close" in fields:
            self.transport.close()
        if self.answer and not self.answer.done():
            self.answer.set_result(head[9:12].decode())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError())


async def call_at_rate(
    url: str, keys: Sequence[str], requests: Callable[[int], Request], *, rate: float, seconds: float
) -> Outcome:
    """Makes the n-th of `requests` at n / rate seconds, with the keys by turns."""
    outcome, idle, tasks = Outcome(), list[_Connection](), set[asyncio.Task[None]]()
    calls = [_as_sent(url, keys[number % len(keys)], requests(number)) for number in range(int(rate * seconds))]
    start = time.perf_counter()
    for number, call in enumerate(calls):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(_call(url, idle, call, due, outcome))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.transport.close()
    return outcome


def _as_sent(url: str, key: str, request: Request) -> bytes:
    lines = [
        f"{request.method} {request.path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(request.body or b'')}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (request.body or b"")


async def _call(url: str, idle: list[_Connection], call: bytes, due: float, outcome: Outcome) -> None:
    sent = time.perf_counter()
    outcome.late.append(sent - due)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            connection = await _connected(url, idle)
            connection.answer = asyncio.get_running_loop().create_future()
            connection.transport.write(call)
            status = await connection.answer
            idle.append(connection)
    except (OSError, TimeoutError) as error:
        status = type(error).__name__
    outcome.add(status, time.perf_counter() - sent)


async def _connected(url: str, idle: list[_Connection]) -> _Connection:
    while idle:
        if not (connection := idle.pop()).transport.is_closing():
            return connection
    address = urlsplit(url)
    _, connection = await asyncio.get_running_loop().create_connection(
        _Connection, address.hostname or "", address.port or 80
    )
    return connection
