"""Calls at given times, whether earlier ones have been answered or not, as real callers make them.

A closed loop would wait for a slow service and so hide how slow it is. Times count from when a call was due.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp


class Request(NamedTuple):
    method: str
    path: str
    body: bytes | None = None


@dataclass
class Outcome:
    """The calls of one run."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By status, or by the class of an error."""

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


async def call_at_rate(
    url: str, keys: Sequence[str], requests: Callable[[int], Request], *, rate: float, seconds: float
) -> Outcome:
    """Makes the n-th of `requests` at n / rate seconds, with the keys by turns."""
    outcome = Outcome()
    fields = [{"Authorization": f"Bearer {key}", "Content-Type": "application/json"} for key in keys]
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        start, tasks = time.perf_counter(), set[asyncio.Task[None]]()
        for number in range(int(rate * seconds)):
            due = start + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(_call(session, requests(number), fields[number % len(keys)], due, outcome))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return outcome


async def _call(
    session: aiohttp.ClientSession, request: Request, headers: dict[str, str], due: float, outcome: Outcome
) -> None:
    try:
        async with session.request(request.method, request.path, data=request.body, headers=headers) as answer:
            await answer.read()
            status = str(answer.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        status = type(error).__name__
    outcome.add(status, time.perf_counter() - due)
