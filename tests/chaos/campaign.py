"""Seed after seed of users who send events while faults come every few hundred milliseconds.

    make chaos-campaign                              # 20 seeds: 100,000 events of 2,000 users, about 15 minutes
    python -m tests.chaos.campaign --seeds 7         # replays the faults of one seed
    python -m tests.chaos.campaign --seeds 1-20 --report docs/results/chaos.md

A fault kills a process, or stops one for longer than its lease, or has Redis crash, hang, dawdle, fill up, become
read-only or find its disk full; the engine refuses, breaks off and dawdles by itself. Some users are read all along,
and some are erased in the midst. Then everything must be there once and in order, versions must only have grown, and
the erased stay so.
"""

import argparse
import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from redis import Redis
from redis.exceptions import RedisError

from tests.chaos import crowd as people
from tests.chaos.crowd import Crowd
from tests.chaos.mock_engine import MARKER
from tests.conftest import fill_disk
from tests.live.suite import Suite, day_and_commit, mock_engine

PAUSE_S = (0.2, 0.6)
"""Between two faults."""
STOPPED_S = (0.5, 2.5)
"""How long a process is stopped: a lease of `people.FAST` is 1.5 s."""
DOWN_S = 0.3
ERASED = 5
"""Users who are erased."""


@dataclass
class Faults:
    """What goes wrong, by the seed."""

    suite: Suite
    counts: Counter[str]
    dice: random.Random
    busy: set[str] = field(default_factory=set)
    """Processes that a fault has in hand."""

    def kinds(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """By the process that each is for, and its name."""
        kinds: dict[str, Callable[[], Awaitable[None]]] = {}
        for name in ("worker", "preference", "gateway", "redis"):
            kinds[f"{name} killed"] = lambda name=name: self._kill(name)
            kinds[f"{name} stopped"] = lambda name=name: self._stop(name)
        kinds["redis slow"] = self._slow
        kinds["redis full"] = lambda: self._set("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0")
        kinds["redis disk full"] = self._fill_disk
        kinds["redis read-only"] = lambda: self._set("REPLICAOF 127.0.0.1 9", "REPLICAOF NO ONE")
        return kinds

    async def run(self, until: float) -> None:
        kinds, begun = self.kinds(), list[asyncio.Task[None]]()
        while time.monotonic() < until:
            await asyncio.sleep(self.dice.uniform(*PAUSE_S))
            unmet = [kind for kind in sorted(kinds) if not self.counts[f"fault {kind}"]]
            fault = self.dice.choice(unmet or sorted(kinds))
            name = fault.partition(" ")[0]
            if name in self.busy:
                continue
            self.busy.add(name)
            self.counts[f"fault {fault}"] += 1
            task = asyncio.create_task(kinds[fault]())
            begun.append(task)
            task.add_done_callback(lambda _, name=name: self.busy.discard(name))
        await asyncio.gather(*begun)

    async def _kill(self, name: str) -> None:
        await asyncio.to_thread(self.suite.kill, name, signal.SIGKILL)
        await asyncio.sleep(DOWN_S)
        self.suite.start(name)
        if name == "redis":
            await self._answers()
        else:
            await asyncio.to_thread(self.suite.wait_alive, name)

    async def _stop(self, name: str) -> None:
        process = self.suite.processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.dice.uniform(*STOPPED_S))
        finally:
            process.send_signal(signal.SIGCONT)

    async def _fill_disk(self) -> None:
        """Redis, which syncs always, ends with the first write that does not fit: a sender's, or else this one."""
        process, room = self.suite.processes["redis"], self.dice.randrange(4_096)
        fill_disk(process, self.suite.home, room)
        await asyncio.sleep(self.dice.uniform(*STOPPED_S) / 2)
        with suppress(RedisError):
            await asyncio.to_thread(self._command, f"SET filler {'x' * 8_192}")
        assert await asyncio.to_thread(process.wait, 20) == 1
        self.suite.start("redis")
        await self._answers()

    async def _slow(self) -> None:
        await asyncio.to_thread(self._command, "CLIENT PAUSE 700 ALL")
        await asyncio.sleep(0.7)

    async def _set(self, before: str, after: str) -> None:
        await asyncio.to_thread(self._command, before)
        await asyncio.sleep(self.dice.uniform(*STOPPED_S) / 2)
        await asyncio.to_thread(self._command, after)

    async def _answers(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._command, "PING")
            except RedisError:
                await asyncio.sleep(0.05)
            else:
                return

    def _command(self, words: str) -> None:
        client: Any
        with Redis.from_url(self.suite.redis_url) as client:
            client.execute_command(*words.split())


async def read_on(session: aiohttp.ClientSession, crowd: Crowd, counts: Counter[str]) -> None:
    """Reads some users until it is cancelled; a later answer may never know less than an earlier one."""
    known: dict[str, tuple[int, int]] = {}
    while True:
        for name in crowd.names()[: people.READ]:
            try:
                async with session.get(f"/v1/users/{name}/preferences") as answer:
                    counts[f"read {answer.status}"] += 1
                    found = await answer.json() if answer.status == 200 else None
            except (aiohttp.ClientError, TimeoutError):
                continue
            if found:
                seen = (found["version"], len(MARKER.findall(found["text"])))
                before = known.get(name, (0, 0))
                assert seen[0] >= before[0], f"version {seen[0]} after {before[0]}"
                assert seen[1] >= before[1], f"{seen[1]} events after {before[1]}"
                known[name] = seen
        await asyncio.sleep(0.05)


async def erase(session: aiohttp.ClientSession, names: Sequence[str]) -> None:
    """Erases the users, each until it is done."""
    for name in names:
        while True:
            try:
                async with session.delete(f"/v1/users/{name}") as answer:
                    if answer.status in (204, 404):
                        break
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.1)


async def send_under_faults(suite: Suite, crowd: Crowd, counts: Counter[str]) -> None:
    """All events of the crowd and the erasure of some, under faults to the end."""
    faults = Faults(suite, counts, random.Random(crowd.seed))
    until = time.monotonic() + crowd.sending_s

    async with people.open_session(suite) as session:
        reading = asyncio.create_task(read_on(session, crowd, counts))
        disturbing = asyncio.create_task(faults.run(until + 5.0))
        await people.send(suite, crowd, counts)
        await erase(session, crowd.names()[-ERASED:])
        await disturbing
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if not reading.cancelled() and (error := reading.exception()):
            raise error


def run_seed(suite: Suite, engine: str, crowd: Crowd) -> Counter[str]:
    """Raises AssertionError for what was lost, doubled, moved or brought back."""
    counts, started = Counter[str](), time.monotonic()
    asyncio.run(send_under_faults(suite, crowd, counts))
    suite.wait_ready(("preference", "worker", "gateway"))
    people.check_all(suite, engine, crowd, counts, started, erased=ERASED)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Seeds of faults under load; each must lose nothing.")
    parser.add_argument("--seeds", default="1-20", help="such as 1-20, or 7")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--report", type=Path, help="a page for the table")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    rows = list[str]()
    with TemporaryDirectory() as home, mock_engine(Path(home), "1") as engine:
        suite = Suite(Path(home), people.FAST | {"ALIGNX_ENGINE__URL": f"{engine}/v1"})
        with suite.running():
            for seed in range(int(first), int(last or first) + 1):
                crowd = Crowd(seed, options.users)
                rows.append(row(crowd, run_seed(suite, engine, crowd)))
    if options.report:
        options.report.write_text(page(rows))


def row(crowd: Crowd, counts: Counter[str]) -> str:
    faults = sum(count for name, count in counts.items() if name.startswith("fault "))
    cells = (crowd.seed, crowd.users, crowd.users * crowd.events, faults, counts["retries"], counts["versions"])
    return f"| {' | '.join(map(str, cells))} |"


def page(rows: Sequence[str]) -> str:
    head = (
        "# Chaos",
        "",
        "Written by `make chaos-campaign`. A seed that loses, doubles, moves or brings back anything ends the run, and",
        f"leaves no page. {day_and_commit()}.",
        "",
        "| seed | users | events | faults | tried again | versions |",
        "|---|---|---|---|---|---|",
    )
    return "\n".join([*head, *rows, ""])


if __name__ == "__main__":
    main()
