"""Long work on the loop and in threads, by a clock that the work itself moves."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from services.slices import (
    SLICE_S,
    THREAD_SLICE_S,
    FairTurns,
    call_in_thread,
    map_in_slices,
    run_in_slices,
    run_in_thread,
)

pytestmark = pytest.mark.anyio


class Work:
    """Steps that each take `seconds`, noted with the turns that others had before."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds, self.now, self.others = count, seconds, 0.0, 0
        self.turns: list[int] = []

    def steps(self) -> Iterator[None]:
        for _ in range(self.count):
            self.now += self.seconds
            self.turns.append(self.others)
            yield

    async def other(self) -> None:
        while len(self.turns) < self.count:
            self.others += 1
            await asyncio.sleep(0)

    def clock(self) -> float:
        return self.now

    def most_at_once(self) -> int:
        return max(map(self.turns.count, self.turns))


async def test_the_loop_has_a_turn_after_each_slice() -> None:
    work = Work(100, SLICE_S / 4)
    await asyncio.gather(run_in_slices(work.steps(), work.clock), work.other())
    assert len(work.turns) == 100
    assert work.most_at_once() <= 5  # a step at the end of a slice may count to the next


async def test_a_long_step_is_a_slice_by_itself() -> None:
    work = Work(10, 3 * SLICE_S)
    await asyncio.gather(run_in_slices(work.steps(), work.clock), work.other())
    assert work.most_at_once() == 1


async def test_results_are_in_the_order_of_the_entries() -> None:
    ticks = iter(range(1_000))
    doubled = await map_in_slices(lambda entry: 2 * entry, range(50), lambda: float(next(ticks)))
    assert doubled == list(range(0, 100, 2))


async def test_an_error_ends_the_work() -> None:
    worked = list[int]()

    def work(entry: int) -> None:
        worked.append(entry)
        if entry == 3:
            raise ValueError(entry)

    with pytest.raises(ValueError, match="3"):
        await map_in_slices(work, range(10))
    assert worked == [0, 1, 2, 3]


async def test_those_who_share_a_thread_work_by_turns() -> None:
    order = list[str]()
    seconds = {"a": 0.0, "b": 0.0}

    def steps(name: str) -> Iterator[None]:
        for _ in range(6):
            seconds[name] += THREAD_SLICE_S / 2
            order.append(name)
            yield

    await asyncio.gather(*(run_in_thread(name, steps(name), partial(seconds.__getitem__, name)) for name in "ab"))
    assert "".join(order) == "aabb" * 3


async def test_who_brings_much_work_for_threads_is_not_served_before_all_others() -> None:
    order = list[str]()
    await asyncio.gather(*(call_in_thread(name, partial(order.append, name)) for name in "aaaabc"))
    assert "".join(order) == "aabcaa"


async def test_a_turn_that_is_given_up_goes_to_the_next() -> None:
    turns, order = FairTurns(), list[str]()

    async def work(name: str) -> None:
        async with turns.turn(name):
            order.append(name)
            await asyncio.sleep(0)

    async with turns.turn("first"):
        waiting, given_up, last = (asyncio.create_task(work(name)) for name in "abc")
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
    waiting.cancel()  # the turn is its own already
    await asyncio.wait([waiting, given_up, last], timeout=10)
    assert order == ["c"]
    async with asyncio.timeout(10), turns.turn("next"):
        pass


async def test_a_turn_of_the_loop_has_one_slice_of_all_long_work() -> None:
    works = [Work(40, SLICE_S) for _ in range(5)]
    slices, most = 0, 0

    def steps(work: Work) -> Iterator[None]:
        nonlocal slices
        for _ in work.steps():
            slices += 1
            yield

    async def watch() -> None:
        nonlocal most
        await asyncio.sleep(0)  # the first slices of all are no long work yet
        while not all(len(work.turns) == work.count for work in works):
            before = slices
            await asyncio.sleep(0)
            most = max(most, slices - before)

    await asyncio.gather(*(run_in_slices(steps(work), work.clock) for work in works), watch())
    assert most == 1
