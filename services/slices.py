"""Runs long work a slice at a time, so that the event loop answers others in between.

Work is an iterator that does a little at each step: one event, one item. On the loop a slice is a few steps, and the
loop has a turn after each; all long work of a loop takes turns, so that a turn has one slice. In a thread, which takes
turns with the loop anyway, a slice is longer, and who shares the `turn` works by turns: several threads would each make
the loop wait.

    encoded = await map_in_slices(encode, events)
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

SLICE_S: Final = 0.001
"""On the loop."""
THREAD_SLICE_S: Final = 0.02
_turns: Final = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]()
"""Whose slice it is, of each loop."""
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


async def run_in_thread(steps: Iterator[object], turn: asyncio.Lock, clock: Clock = time.perf_counter) -> None:
    """All steps, in threads."""
    is_left = True
    while is_left:
        async with turn:
            is_left = await asyncio.to_thread(_advance, steps, THREAD_SLICE_S, clock)


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


def _advance(steps: Iterator[object], slice_s: float, clock: Clock) -> bool:
    """Takes steps until `slice_s` seconds have passed; False after the last one."""
    end = clock() + slice_s
    return any(clock() >= end for _ in steps)
