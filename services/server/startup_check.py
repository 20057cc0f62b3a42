"""Waits for Redis when a process starts, and verifies schema version and shard count.

Until the check passes, the process serves its health alone and is not ready; its routes answer 503:

    app.include_router(router, dependencies=[Depends(require_store)])
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from fastapi import Request
from redis.exceptions import ResponseError

from services.errors import AlignXError, StoreUnavailable
from services.server.state import state_of
from services.storage.cluster import AWAY
from services.storage.connection import REFUSED, StoreRefused, is_refusal
from services.storage.migrations import Schema
from services.storage.users import Store

_RETRY_S = 1.0

logger = logging.getLogger("alignx.opening")


class StartupCheck:
    """Whether the data in Redis have the schema version and the shard count of this process. Before that is known
    nothing is read or written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._done = asyncio.Event()
        self._refusal: AlignXError | None = None
        self._is_closing = False

    @classmethod
    @asynccontextmanager
    async def open(cls, store: Store) -> AsyncIterator[Self]:
        """Raises AlignXError when the data do not fit. While Redis does not answer, the check is repeated in the
        background."""
        startup = cls(store)
        retries = None if await startup._claim() else asyncio.create_task(startup._retry())
        try:
            yield startup
        finally:
            startup._is_closing = True  # a cancellation alone can get lost, as in the dispatcher
            if retries:
                retries.cancel()
                await asyncio.gather(retries, return_exceptions=True)

    def check(self) -> None:
        """Raises AlignXError until the check has passed."""
        if self._refusal:
            raise self._refusal.with_traceback(None)  # else it keeps the frames of every /readyz
        if not self._done.is_set():
            raise StoreUnavailable(retry_after=_RETRY_S)

    async def ready(self) -> None:
        """Raises AlignXError also when Redis does not answer now."""
        self.check()
        await self._store.ready()

    async def wait(self) -> None:
        """Returns when the check has passed."""
        await self._done.wait()

    async def _retry(self) -> None:
        while not self._is_closing:
            await asyncio.sleep(_RETRY_S)
            try:
                if await self._claim():
                    return
            except AlignXError as error:
                logger.exception("the data in Redis are not for this process")
                self._refusal = error
                return
            except Exception:  # else the process would wait without a log line
                logger.exception("the data in Redis could not be checked")

    async def _claim(self) -> bool:
        try:
            await Schema(self._store.redis).claim()
            await self._store.claim_shards()
        except (*AWAY, *REFUSED) as error:
            fault = type(error).__name__
        except ResponseError as error:
            if not is_refusal(error):
                raise
            fault = StoreRefused.__name__
        else:
            self._done.set()
            return True
        logger.warning("Redis cannot serve; trying again", extra={"error": fault})
        return False


@dataclass(frozen=True, slots=True)
class StoreState:
    """Base of the state of a service that keeps users in Redis."""

    startup: StartupCheck


async def require_store(request: Request) -> None:
    """Dependency: raises AlignXError until the check has passed."""
    state_of(request.app, StoreState).startup.check()
