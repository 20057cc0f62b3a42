"""One call for all who need its outcome at the same time.

Without it, the first selection after a start would ask for each letter once per order: hundreds of connections at once,
more than the engine's listen queue need hold.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class SharedCalls(Generic[Key, Value]):
    """The calls under way, by what they ask."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Value]] = {}

    async def call(self, key: Key, function: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """The outcome of `function()`, called anew unless a call with this key is under way. It goes on for
        the others when one who waits is cancelled."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(function())
            task.add_done_callback(partial(self._forget, key))
        return await asyncio.shield(task)

    def _forget(self, key: Key, task: asyncio.Task[Value]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # counts as seen, also when all who asked have gone
