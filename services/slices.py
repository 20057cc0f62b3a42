"""Runs long work a slice at a time, so that the event loop answers others in between.

Work is an iterator that does a little at each step: one event, one item. On the loop a slice is a few steps, and the
loop has a turn after each; all long work of a loop takes turns, so that a turn has one slice. In a thread, which takes
turns with the loop anyway, a slice is longer, and a loop has one such thread at work: each would make the loop wait.
Their turn goes round by holder, so that who brings much does not keep others waiting.

    encoded = await map_in_slices(encode, events)
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

SLICE_S: Final = 0.001
"""On the loop."""
THREAD_SLICE_S: Final = 0.02
_turns: Final = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]()
"""Whose slice it is, of each loop."""
_threads: Final = WeakKeyDictionary[asyncio.AbstractEventLoop, "FairTurns"]()
Given = TypeVar("Given")
Result = TypeVar("Result")
Clock = Callable[[], float]


async def run_in_slices(steps: Iterator[object], clock: Clock = time.perf_counter) -> None:
    """All steps, on the loop, which has a turn after the last of several slices too."""
    if not _advance(steps, SLICE_S, clock):
        return
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    is_left = True
    while is_left:
        async with turn:
            await asyncio.sleep(0)
            is_left = _advance(steps, SLICE_S, clock)
    await asyncio.sleep(0)


async def run_in_thread(holder: str, steps: Iterator[object], clock: Clock = time.perf_counter) -> None:
    """All steps, in threads."""
    is_left = True
    while is_left:
        is_left = await call_in_thread(holder, lambda: _advance(steps, THREAD_SLICE_S, clock))


async def call_in_thread(holder: str, work: Callable[[], Result]) -> Result:
    """What `work` gives, in a thread; raises what it raises."""
    async with _threads.setdefault(asyncio.get_running_loop(), FairTurns()).turn(holder):
        return await asyncio.to_thread(work)


async def map_in_slices(
    work: Callable[[Given], Result], entries: Iterable[Given], clock: Clock = time.perf_counter
) -> list[Result]:
    """What `work` gives for each of the entries, on the loop."""
    results: list[Result] = []

    def steps() -> Iterator[None]:
        for entry in entries:
            results.append(work(entry))
            yield

    await run_in_slices(steps(), clock)
    return results


class FairTurns:
    """A lock that goes round among the holders who wait for it, and to each of them in the order of its calls."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By holder; the first is next."""

    @asynccontextmanager
    async def turn(self, holder: str) -> AsyncIterator[None]:
        if self._is_taken:
            await self._wait(holder)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, holder: str) -> None:
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if not given.cancelled():  # it came in the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            holder = next(iter(self._waiting))
            calls = self._waiting.pop(holder)
            given = calls.popleft()
            if calls:
                self._waiting[holder] = calls
            if not given.done():
                given.set_result(None)
                return
        self._is_taken = False


def _advance(steps: Iterator[object], slice_s: float, clock: Clock) -> bool:
    """Takes steps until `slice_s` seconds have passed; False after the last one."""
    end = clock() + slice_s
    return any(clock() >= end for _ in steps)
