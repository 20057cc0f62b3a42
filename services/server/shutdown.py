"""How a process takes its leave: a drain, then the door.

After SIGTERM the drain begins: /readyz answers 503, each answer closes its connection, everything is
still served, so that whoever spreads the requests can look elsewhere. When `drain_s` is over, streams
without an end are ended, to be taken up at another instance, and the server closes its door.
"""

import asyncio

from services.errors import Draining


class Drain:
    """Where a process is in it. `create_app` puts one into `app.state.drain`; `serve` moves it on."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    @property
    def over(self) -> bool:
        """The door closes now."""
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
        """Raises Draining once shutdown has begun: not ready any more."""
        if self.begun:
            raise Draining

    def refuse(self) -> None:
        """Raises Draining once the door closes."""
        if self.over:
            raise Draining
