"""What the gateway costs: the same requests to a mock service, directly and through the gateway.

    python -m bench.gateway_overhead

Starts Redis, the mock service (bench/mock_upstream.py) and one gateway process, with access logs, and
measures for about half a minute:

    added latency   one request at a time, direct and through the gateway by turns, so that a change
                    of the machine's speed hits both; the difference of each pair is kept
    requests/s      32 connections that send the next request when the answer is there
    CPU a chunk     32 event streams at once; the gateway's own CPU time, from its /metrics

Load generator, mock, Redis and gateway share the machine's cores: requests/s is a lower bound.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
import uvloop

from bench.harness import mock_service
from bench.mock_upstream import EVENTS
from bench.page import Row, percentile, render_table
from tests.live.suite import ROOT, Suite

CONNECTIONS = 32
JSON_PAIRS, STREAM_PAIRS = 2_000, 8
THROUGHPUT_S = 4.0
STREAM_ROUNDS = 6


class Target(NamedTuple):
    """Where requests go, and the key they carry; the mock ignores it."""

    port: int
    key: str


class Targets(NamedTuple):
    direct: Target
    through: Target


@contextmanager
def gateway_before(url: str, suite_of: Callable[[Path, dict[str, str], Path], Suite], root: Path) -> Iterator[Target]:
    """The gateway of the checkout at `root`, with both services at `url`."""
    services = {"ALIGNX_GATEWAY__PREFERENCE_URL": url, "ALIGNX_GATEWAY__RESPONSE_URL": url}
    limits = {"ALIGNX_GATEWAY__RATE": "1000000", "ALIGNX_GATEWAY__BURST": "1000000", "PYTHONPATH": str(root)}
    with tempfile.TemporaryDirectory() as home:
        suite = suite_of(Path(home), {"ALIGNX_LOG__ACCESS": "true", **services, **limits}, root)
        try:
            suite.start("redis")
            suite.start("gateway")
            suite.wait_ready(["gateway"])
            yield Target(suite.ports["gateway"], suite.new_key("bench", admin=True))  # reads the gateway's metrics too
        finally:
            suite.down()


# --- the client --------------------------------------------------------------------------------


def request(key: str, *, stream: bool) -> bytes:
    question = {"model": "mock", "messages": [{"role": "user", "content": "z" * 400}], "stream": stream}
    body = orjson.dumps(question)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Timing(NamedTuple):
    first: float
    """Seconds to the first byte of the answer's body."""
    total: float
    """Seconds to its last."""


class Connection:
    """One keep-alive connection; just enough HTTP to know where an answer ends."""

    def __init__(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.key = key
        self.reader = reader
        self.writer = writer
        self.json_request = request(key, stream=False)
        self.stream_request = request(key, stream=True)

    @classmethod
    async def open(cls, target: Target) -> "Connection":
        return cls(target.key, *await asyncio.open_connection("127.0.0.1", target.port))

    async def get(self, path: str) -> bytes:
        head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.key}\r\n\r\n"
        self.writer.write(head.encode())
        return await self.reader.readexactly(await self._head())

    async def json(self) -> Timing:
        started = time.perf_counter()
        self.writer.write(self.json_request)
        length = await self._head()
        first = time.perf_counter()
        await self.reader.readexactly(length)
        return Timing(first - started, time.perf_counter() - started)

    async def stream(self) -> Timing:
        started = time.perf_counter()
        self.writer.write(self.stream_request)
        await self._head()
        first, tail = 0.0, b""
        while not tail.endswith(b"0\r\n\r\n"):
            data = await self.reader.read(65_536)
            assert data, "the stream broke off"
            first = first or time.perf_counter()
            tail = (tail + data)[-5:]
        return Timing(first - started, time.perf_counter() - started)

    async def _head(self) -> int:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 "), head
        _, separator, rest = head.partition(b"\r\ncontent-length: ")
        return int(rest.split(b"\r\n", 1)[0]) if separator else 0

    def close(self) -> None:
        self.writer.close()


# --- the measurements --------------------------------------------------------------------------


async def time_pairs(targets: Targets, pairs: int, *, stream: bool) -> list[tuple[Timing, Timing]]:
    """(direct, through the gateway), by turns."""
    direct, through = await Connection.open(targets.direct), await Connection.open(targets.through)
    timings: list[tuple[Timing, Timing]] = []
    for number in range(-max(1, pairs // 10), pairs):
        a, b = (
            (await direct.stream(), await through.stream()) if stream else (await direct.json(), await through.json())
        )
        if number >= 0:  # what comes before warms up
            timings.append((a, b))
    direct.close()
    through.close()
    return timings


async def throughput(target: Target, seconds: float) -> float:
    """Requests per second over CONNECTIONS connections."""
    connections = [await Connection.open(target) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    deadline = started + seconds

    async def send_requests(connection: Connection) -> int:
        count = 0
        while time.perf_counter() < deadline:
            await connection.json()
            count += 1
        return count

    counts = await asyncio.gather(*(send_requests(connection) for connection in connections))
    elapsed = time.perf_counter() - started
    for connection in connections:
        connection.close()
    return sum(counts) / elapsed


async def cpu_seconds(target: Target) -> float:
    """What the gateway has used since its start."""
    connection = await Connection.open(target)
    metrics = await connection.get("/metrics")
    connection.close()
    line = next(line for line in metrics.splitlines() if line.startswith(b"process_cpu_seconds_total "))
    return float(line.split()[1])


async def cpu_of_chunks(target: Target, rounds: int) -> float:
    """Microseconds of the gateway's CPU for each event, the requests' own share included."""
    connections = [await Connection.open(target) for _ in range(CONNECTIONS)]
    before = await cpu_seconds(target)
    for _ in range(rounds):
        await asyncio.gather(*(connection.stream() for connection in connections))
    after = await cpu_seconds(target)
    for connection in connections:
        connection.close()
    return (after - before) * 1e6 / (rounds * CONNECTIONS * EVENTS)


async def rows(targets: Targets) -> list[Row]:
    answers = await time_pairs(targets, JSON_PAIRS, stream=False)
    streams = await time_pairs(targets, STREAM_PAIRS, stream=True)
    added = [(through.total - direct.total) * 1e3 for direct, through in answers]
    added_first = [(through.first - direct.first) * 1e3 for direct, through in streams]
    added_stream = [(through.total - direct.total) * 1e3 for direct, through in streams]
    before = await cpu_seconds(targets.through)
    rate = await throughput(targets.through, THROUGHPUT_S)
    cpu = await cpu_seconds(targets.through) - before
    return [
        Row("a JSON answer directly, p50", statistics.median(direct.total for direct, _ in answers) * 1e3, "ms"),
        Row("added to a JSON answer, p50", statistics.median(added), "ms", "≤ 1"),
        Row("added to a JSON answer, p99", percentile(added, 0.99), "ms"),
        Row("added to the first byte of a stream, p50", statistics.median(added_first), "ms"),
        Row(f"added to a stream of {EVENTS} events, p50", statistics.median(added_stream), "ms"),
        Row("through the gateway, one worker", rate, "requests/s", "≥ 2,500"),
        Row("directly", await throughput(targets.direct, THROUGHPUT_S / 2), "requests/s"),
        Row("CPU of the gateway a request", cpu / (rate * THROUGHPUT_S) * 1e6, "µs"),
        Row("CPU of the gateway a streamed chunk", await cpu_of_chunks(targets.through, STREAM_ROUNDS), "µs", "≤ 40"),
    ]


def measure() -> list[Row]:
    with mock_service("bench.mock_upstream") as url, gateway_before(url, Suite, ROOT) as through:
        return uvloop.run(rows(Targets(Target(urlsplit(url).port or 0, through.key), through)))


if __name__ == "__main__":
    print(render_table(measure()))
