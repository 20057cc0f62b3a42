"""Has Redis forget erased users on disk too: after an erasure its append-only file is rewritten.

The file records writes, so an erased text stays in it until the next rewrite, which Redis itself
starts only when the file has grown enough. One rewrite serves all erasures of the while before it.

    async with Erasure.open(redis, settings.redis.rewrite_after_erase_s) as erasure:
        erasure.request()
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from redis.asyncio.cluster import ClusterNode
from redis.exceptions import RedisError, ResponseError

from services.storage.cluster import AWAY
from services.storage.connection import RedisClient, ask_server, servers

logger = logging.getLogger("alignx.erasure")
_LAST_PAUSE_S, _LAST_S = 0.5, 5.0
"""At shutdown, for a rewrite that must wait for another one."""


class Erasure:
    """One process's wish for a rewrite. `every_s = 0` turns it off."""

    def __init__(self, redis: RedisClient, every_s: float) -> None:
        self._redis = redis
        self._every_s = every_s
        self._due: asyncio.Task[None] | None = None
        self._wanted = False
        self._left: set[str] | None = None
        """The servers that still owe a rewrite; None stands for all."""
        self._open = True

    @classmethod
    @asynccontextmanager
    async def open(cls, redis: RedisClient, every_s: float) -> AsyncIterator[Self]:
        """At the end a rewrite that is still due is started at once."""
        erasure = cls(redis, every_s)
        try:
            yield erasure
        finally:
            await erasure._close()

    def request(self) -> None:
        """A user was erased: `every_s` seconds after the first such call, the file is rewritten."""
        self._wanted, self._left = True, None
        if self._every_s and (self._due is None or self._due.done()):
            self._due = asyncio.create_task(self._later())

    async def _later(self) -> None:
        while self._wanted and self._open:
            await asyncio.sleep(self._every_s)
            # Before the command: an erasure during it may be too late for this rewrite.
            self._wanted = False
            if not await self._rewritten():
                self._wanted = True

    async def _close(self) -> None:
        if self._due is None or self._due.done():
            return
        self._open = False  # a cancellation alone can get lost, as in the worker
        self._due.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._due
        try:
            async with asyncio.timeout(_LAST_S):
                while not await self._rewritten():  # noqa: ASYNC110  # what is waited for happens in Redis
                    await asyncio.sleep(_LAST_PAUSE_S)
        except TimeoutError:
            logger.warning("an erasure ended without a rewrite of the append-only file")

    async def _rewritten(self) -> bool:
        """Whether no more is to be done: on each server, a replica included, a rewrite has begun or none
        is to be had. Those are not asked again until the next erasure."""
        due = [one for one in servers(self._redis) if self._left is None or _name(one) in self._left]
        self._left = set()
        begun = await asyncio.gather(*(self._rewritten_by(server) for server in due))
        left = {_name(server) for server, done in zip(due, begun, strict=True) if not done}
        if self._left is not None:  # no erasure came meanwhile
            self._left = left
        return not left

    async def _rewritten_by(self, server: ClusterNode | None) -> bool:
        try:
            # Without the file in use, the command would make one: a copy of all data.
            if (await ask_server(self._redis, server, "INFO", "persistence")).get("aof_enabled"):
                await ask_server(self._redis, server, "BGREWRITEAOF")
        except AWAY as error:
            logger.warning("redis does not answer", extra={"error": type(error).__name__})
            return False
        except ResponseError as error:
            # A rewrite under way may have begun before the erasure.
            again = "in progress" in str(error)
            logger.warning("no rewrite of the append-only file", extra={"error": str(error), "again": again})
            return not again
        except RedisError as error:
            logger.warning("redis does not answer", extra={"error": type(error).__name__})
            return False
        return True


def _name(server: ClusterNode | None) -> str:
    return server.name if server else ""
