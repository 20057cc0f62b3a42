"""Ends a request's work as soon as its caller has gone.

    with CallerWatch(receive):
        …await the service…

The task inside is cancelled when the connection closes, and with it the request to the service;
the cancellation ends at the `with`. Fast requests cost a timer only: the connection is watched
from `_PATIENCE_S` on.
"""

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

_PATIENCE_S = 0.02


class CallerWatch:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False
        """The caller has closed the connection."""

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE_S, self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if not self.gone:
            return False
        # As in asyncio.timeout: a cancellation by somebody else, at the same time, goes on.
        return self._task.uncancel() == 0 and kind is asyncio.CancelledError

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()
