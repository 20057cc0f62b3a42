"""Notices what hangs: it takes connections and answers nothing, so that callers would wait for as long as a timeout.

Who waits for it is told at once, and so is who comes later, until it answers again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

LOOKS: Final = 3
"""Looks in a row without an answer after which something hangs. They are counted, not timed: a process that was
stopped itself must not blame others for its own silence."""


class Hung(Exception):
    """It takes connections and does not answer."""


@dataclass(slots=True)
class Watched:
    """Something that may hang, and the tasks that wait for it."""

    is_hung: bool = False
    waiting: set["asyncio.Task[object]"] = field(default_factory=set)

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Around a call. Raises Hung once it hangs."""
        if self.is_hung:
            raise Hung
        task = asyncio.current_task()
        assert task is not None
        self.waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self.waiting or task.uncancel():
                raise  # by somebody else, too
            raise Hung from None
        finally:
            self.waiting.discard(task)

    def hang(self) -> None:
        self.is_hung = True
        while self.waiting:
            self.waiting.pop().cancel()

    def recover(self) -> None:
        self.is_hung = False

    async def watch(self, responds: Callable[[float], Awaitable[bool]], *, hung_after_s: float, every_s: float) -> None:
        """Looks every `every_s` until it is cancelled; `responds` is told how many seconds it may take."""
        silent = 0
        while True:
            if await responds(hung_after_s / LOOKS):
                silent = 0
                self.recover()
                await asyncio.sleep(every_s)
                continue
            silent += 1
            if silent == LOOKS:
                self.hang()
