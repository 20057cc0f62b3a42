"""Graceful shutdown: fail readiness, drain requests, close the listener.

After SIGTERM the drain begins: /readyz answers 503 and each answer closes its connection, but everything is still
served, so that load balancers can look elsewhere. After `drain_s` the drain is over: endless streams end, for
their readers to continue at another instance, and the server closes its listener.
"""

import asyncio

from services.errors import Draining


class Drain:
    """The state of a process's shutdown. `create_app` makes it part of `Process`; `serve` advances it."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    @property
    def over(self) -> bool:
        """The listener closes now."""
        return self._over.is_set()

    def begin(self) -> None:
        self._begun.set()

    def end(self) -> None:
        self.begin()
        self._over.set()

    async def wait(self) -> None:
        """Returns once the drain is over."""
        await self._over.wait()

    async def check(self) -> None:
        """Readiness: raises Draining once the drain has begun."""
        if self.begun:
            raise Draining

    def refuse(self) -> None:
        """Raises Draining once the drain is over."""
        if self.over:
            raise Draining
