"""What an open summary stream costs while nothing happens, and how soon a delta reaches its reader.

python -m bench.event_loop.idle_streams [STREAMS]     (default: 10,000)

Each stream is of a user of its own and passes through one gateway process to one preference process. Memory is
resident memory over that of before, divided by the streams. A delta is written as a worker writes it and read at the
other side of the gateway; one at a time. As many streams are opened as the limit of open files allows: the gateway
needs two for each.
"""

import asyncio
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from bench.harness import resident_mb
from bench.page import Row, percentile, render_table
from services.preference.queue import Queue
from services.preference.queue_records import Claim
from services.settings import QueueSettings, RedisSettings, SummarySettings
from services.storage.connection import open_redis
from tests.live.suite import Suite
from tests.unit.services.preference.rig import record

STREAMS: Final = 10_000
WARM: Final = 50
"""Streams that are opened and closed before memory is read."""
DELTAS: Final = 300
OPENED_AT_ONCE: Final = 16
USERS_AT_ONCE: Final = 200
IDLE_S: Final = 31.0
"""For which the processor time of idle streams is read: two keep-alives of each."""
SPARE_FILES: Final = 200
TENANT = "bench"
PROCESSES = ("preference", "gateway")
BOUNDS = ("SERVER__CONNECTIONS_PER_ADDRESS", "GATEWAY__TENANT_STREAMS", "LIMITS__STREAMS", "REDIS__MAX_CONNECTIONS")
NO_BOUNDS = {f"ALIGNX_{name}": "100000" for name in BOUNDS}


class Reader(asyncio.Protocol):
    """One stream: the text that has come since `expect`."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.text = self.last = b""
        self.wanted = b"}"  # the end of the first event, or of a problem
        self.come = asyncio.get_running_loop().create_future()
        self.transport: Any = None  # uvloop's derives from none of asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self.head)

    def data_received(self, data: bytes) -> None:
        self.last = data
        if self.come.done():
            return  # a comment
        self.text += data
        if self.wanted in self.text:
            self.come.set_result(time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.come.done():
            self.come.set_exception(ConnectionError(f"the stream ended: {self.text[-200:]!r}"))

    def expect(self, wanted: bytes) -> "asyncio.Future[float]":
        self.text, self.wanted = b"", wanted
        self.come = asyncio.get_running_loop().create_future()
        return self.come


class Streams:
    """Open streams through one gateway."""

    def __init__(self, suite: Suite, key: str) -> None:
        self.port = suite.ports["gateway"]
        self.key = key
        self.readers: dict[int, Reader] = {}
        self._slots = asyncio.Semaphore(OPENED_AT_ONCE)

    async def open(self, number: int) -> None:
        head = (
            f"GET /v1/users/u{number}/preferences/stream HTTP/1.1\r\nHost: bench\r\n"
            f"Authorization: Bearer {self.key}\r\nAccept: text/event-stream\r\n\r\n"
        )
        async with self._slots:
            while True:
                _, reader = await asyncio.get_running_loop().create_connection(
                    lambda: Reader(head.encode()), "127.0.0.1", self.port
                )
                await reader.come
                if b" 200 " in reader.text[:20]:
                    break
                assert b" 503 " in reader.text[:20], reader.text  # it sheds load
                reader.transport.close()
                await asyncio.sleep(0.1)
        self.readers[number] = reader

    def close(self) -> None:
        for reader in self.readers.values():
            reader.transport.close()
        self.readers.clear()


class Worker:
    """Writes to the live streams as a worker does."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.queue = Queue(redis, QueueSettings(), SummarySettings())

    async def add_user(self, number: int) -> None:
        user = f"u{number}"
        await self.queue.edit(TENANT, user, 0, record("Likes tea."))
        await self.redis.hset(self.queue.keys.user(TENANT, user).state, "tok", TENANT)

    async def write(self, number: int, text: str) -> None:
        member = self.queue.keys.user(TENANT, f"u{number}").member
        claim = Claim(TENANT, f"u{number}", member, TENANT, "0-0", 1, 0, 0, False, "", "", "0-0")
        assert await self.queue.publish(claim, "delta", orjson.dumps({"text": text}).decode())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def fill(streams: Streams, numbers: range) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(streams.open(number))


async def measure_in(suite: Suite, count: int) -> list[Row]:
    key = suite.new_key(TENANT)
    pids = {name: suite.processes[name].pid for name in (*PROCESSES, "redis")}
    streams = Streams(suite, key)
    async with open_redis(RedisSettings(url=suite.redis_url)) as redis:
        worker = Worker(redis)
        for start in range(0, count, USERS_AT_ONCE):
            await asyncio.gather(*map(worker.add_user, range(start, min(start + USERS_AT_ONCE, count))))
        await asyncio.sleep(1)
        await fill(streams, range(min(WARM, count)))
        streams.close()
        await asyncio.sleep(1)
        before = {name: resident_mb(pids[name]) for name in PROCESSES}
        begun = time.perf_counter()
        await fill(streams, range(count))
        opened_s = time.perf_counter() - begun
        await asyncio.sleep(2)
        rows = [Row("streams opened", count / opened_s, "streams/s")]
        for name in PROCESSES:
            grown = resident_mb(pids[name]) - before[name]
            rows.append(Row(f"{name}: memory of {count:,} idle streams", grown, "MB", "≤ 200"))
            rows.append(Row(f"{name}: memory of a stream", 1024 * grown / count, "KB"))
        client: Any = redis
        rows.append(Row("connections to Redis", float((await client.info("clients"))["connected_clients"]), ""))
        used = {name: cpu_s(pid) for name, pid in pids.items()}
        calls = int((await client.info("stats"))["total_commands_processed"])
        await asyncio.sleep(IDLE_S)
        calls = int((await client.info("stats"))["total_commands_processed"]) - calls
        rows += [
            Row(f"{name}: processor while they are idle", 100 * (cpu_s(pid) - used[name]) / IDLE_S, "%")
            for name, pid in pids.items()
        ]
        rows.append(Row("commands of Redis while they are idle", calls / IDLE_S, "a second"))
        ended = [number for number, reader in streams.readers.items() if reader.transport.is_closing()]
        rows.append(Row("streams that have ended meanwhile", len(ended), "", "0"))
        for last in {streams.readers.pop(number).last[-200:] for number in ended}:
            print(last.decode())
        rows += await time_deltas(worker, streams)
    streams.close()
    return rows


async def time_deltas(worker: Worker, streams: Streams) -> list[Row]:
    rng = random.Random(0)
    took = []
    for number in range(DELTAS):
        user = rng.choice(list(streams.readers))
        text = f"delta-{number}-"
        come = streams.readers[user].expect(text.encode())
        begun = time.perf_counter()
        await worker.write(user, text)
        took.append(1000 * (await asyncio.wait_for(come, 30) - begun))
    return [
        Row("a delta from the worker to the reader, p50", statistics.median(took), "ms"),
        Row("a delta from the worker to the reader, p99", percentile(took, 0.99), "ms"),
    ]


def measure(count: int = STREAMS) -> list[Row]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and 2 * count + SPARE_FILES > most:
        count = (most - SPARE_FILES) // 2
        print(f"{most:,} open files of a process: {count:,} streams", flush=True)
    with tempfile.TemporaryDirectory() as home:
        suite = Suite(Path(home), {"ALIGNX_LOG__ACCESS": "false", **NO_BOUNDS})
        try:
            for name in ("redis", *PROCESSES):
                suite.start(name)
            suite.wait_ready(PROCESSES)
            rows = uvloop.run(measure_in(suite, count))
            print(render_table(rows), flush=True)  # a shutdown that hangs must not lose them
            return rows
        finally:
            suite.down()


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS)
