"""Rewrites Redis's append-only file after users are erased, so that their text leaves the disk too.

The file records writes, so an erased text stays in it until the next rewrite, which Redis itself
starts only when the file has grown enough. One rewrite serves all erasures since the one before.

    async with AofRewriter.open(redis, settings.redis.rewrite_after_erase_s) as rewriter:
        rewriter.request()
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
from services.storage.connection import RedisClient, ask_server, list_servers

logger = logging.getLogger("alignx.erasure")
_CLOSE_PAUSE_S, _CLOSE_TIMEOUT_S = 0.5, 5.0
"""At shutdown, for a rewrite that must wait for another one."""


class AofRewriter:
    """Rewrites at most every `every_s` seconds; 0 turns it off."""

    def __init__(self, redis: RedisClient, every_s: float) -> None:
        self._redis = redis
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._is_requested = False
        self._pending: set[str] | None = None
        """The servers whose rewrite has not begun; None stands for all."""
        self._is_open = True

    @classmethod
    @asynccontextmanager
    async def open(cls, redis: RedisClient, every_s: float) -> AsyncIterator[Self]:
        """At the end a rewrite that is still due is started at once."""
        rewriter = cls(redis, every_s)
        try:
            yield rewriter
        finally:
            await rewriter._close()

    def request(self) -> None:
        """A user was erased: `every_s` seconds after the first such call, the file is rewritten."""
        self._is_requested, self._pending = True, None
        if self._every_s and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._rewrite_later())

    async def _rewrite_later(self) -> None:
        while self._is_requested and self._is_open:
            await asyncio.sleep(self._every_s)
            # Before the command: an erasure during it may be too late for this rewrite.
            self._is_requested = False
            if not await self._rewrite():
                self._is_requested = True

    async def _close(self) -> None:
        if self._task is None or self._task.done():
            return
        self._is_open = False  # a cancellation alone can get lost, as in the dispatcher
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                while not await self._rewrite():  # noqa: ASYNC110  # Redis ends the rewrite before
                    await asyncio.sleep(_CLOSE_PAUSE_S)
        except TimeoutError:
            logger.warning("an erasure may have ended without a rewrite of the append-only file")

    async def _rewrite(self) -> bool:
        """Starts a rewrite on each pending server, replicas included. True when none is pending any more: one
        that cannot rewrite is asked again only after the next erasure."""
        due = [
            server for server in list_servers(self._redis) if self._pending is None or _name(server) in self._pending
        ]
        self._pending, left = set(), set(map(_name, due))
        try:
            results = await asyncio.gather(*(self._rewrite_on(server) for server in due))
            left = {_name(server) for server, done in zip(due, results, strict=True) if not done}
        finally:  # when a shutdown cuts it off, all are still due
            if self._pending is not None:  # no erasure came meanwhile
                self._pending = left
        return not left

    async def _rewrite_on(self, server: ClusterNode | None) -> bool:
        try:
            # Without the file in use, the command would make one: a copy of all data.
            if (await ask_server(self._redis, server, "INFO", "persistence")).get("aof_enabled"):
                await ask_server(self._redis, server, "BGREWRITEAOF")
        except ResponseError as error:
            # A rewrite under way may have begun before the erasure.
            again = "in progress" in str(error)
            logger.warning("no rewrite of the append-only file", extra={"error": str(error), "again": again})
            return not again
        except (*AWAY, RedisError) as error:
            logger.warning("redis does not answer", extra={"error": type(error).__name__})
            return False
        return True


def _name(server: ClusterNode | None) -> str:
    return server.name if server else ""
