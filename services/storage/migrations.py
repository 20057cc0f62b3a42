"""The version of what Redis holds, checked when a process starts, and the steps from one to the next.

    pi:schema          STRING  version; absent in data from before it was counted, which is version 1
    pi:migration       HASH    shards that a step under way has done
    pi:migration:lock  STRING  held by the one process that migrates; runs out with it

A process finds its own version, or older data, which it migrates while the others wait, or newer data, and then it
does not start (services/server/startup_check.py). A step can end at any time and continues at its next shard, so the
work on one shard must be idempotent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.lock import Lock
from redis.exceptions import LockError

from services.errors import AlignXError
from services.storage.connection import RedisClient
from services.storage.key_names import KeySpace

SHARDS_KEY, SCHEMA_KEY = "pi:shards", "pi:schema"
PROGRESS_KEY, LOCK_KEY = "pi:migration", "pi:migration:lock"
FIRST_SCHEMA = 1

_LOCK_S = 30.0
_WAIT_S = 0.5
_SCAN = 1_000

logger = logging.getLogger("alignx.migrations")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Migration:
    """The step from one version to the next, for data in place and for a user in a backup."""

    about: str
    shard: Callable[[RedisClient, KeySpace, int], Awaitable[int]]
    """Migrates one shard in place; gives the number of users it changed."""
    record: Callable[[Document], Document]
    """The same for the user record of a backup (docs/how-to/backup.md)."""


async def _index_users(redis: RedisClient, keys: KeySpace, shard: int) -> int:
    """All users with the first shard: to find those of one shard alone Redis would look through as many keys."""
    if shard:
        return 0
    client: Any = redis  # its methods are typed for the blocking client and this one at once
    found: dict[str, dict[str, int]] = {}
    users = 0
    async for key in client.scan_iter(match="pi:{*}:u:*:st", count=_SCAN):
        tenant, user = keys.split_member(key.split(":u:", 1)[1].removesuffix(":st"))
        found.setdefault(keys.user(tenant, user).index, {})[user] = 0
        users += 1
        if users % _SCAN == 0:
            await _add_members(client, found)
    await _add_members(client, found)
    return users


async def _add_members(client: Any, found: dict[str, dict[str, int]]) -> None:
    """Adds the members by the names of their sorted sets, and forgets them."""
    for index, members in found.items():
        await client.zadd(index, members)
    found.clear()


MIGRATIONS: tuple[Migration, ...] = (
    Migration("lists each tenant's users, so that they can be paged through", _index_users, lambda record: record),
)
"""The first one leads from version 1 to version 2, and so on. There is no way back: a release reads
what it writes, and what older ones wrote, migrated."""


class Schema:
    """The schema version of the data in one Redis, and the steps to the current one."""

    def __init__(self, redis: RedisClient, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._migrations = migrations
        self.current = FIRST_SCHEMA + len(migrations)
        """The version that this build reads and writes."""

    async def stored(self) -> int | None:
        """The version of the data; None where there are none yet."""
        # In this order: a first start writes the version before the shards.
        shards = await self._redis.get(SHARDS_KEY)
        version = await self._redis.get(SCHEMA_KEY)
        if version is not None:
            return int(version)
        return None if shards is None else FIRST_SCHEMA

    async def steps(self) -> list[str]:
        """What is to be done to the data, in order. Raises AlignXError when they are newer."""
        version = await self.stored()
        return [] if version is None else [step.about for step in self._pending(version)]

    async def claim(self) -> None:
        """Migrates the data to the current version if needed. Raises AlignXError when they are newer."""
        while True:
            version = await self.stored()
            await self._redis.set(SCHEMA_KEY, self.current if version is None else version, nx=True)
            if version is not None and not self._pending(version):
                return
            if version is None:
                continue
            lock = Lock(self._redis, LOCK_KEY, timeout=_LOCK_S, blocking=False)
            if await lock.acquire():
                await self._migrate_under(lock)
            else:
                logger.info("another process migrates the data")
                await asyncio.sleep(_WAIT_S)

    def _pending(self, version: int) -> Sequence[Migration]:
        if version > self.current:
            raise AlignXError(
                f"The data in Redis are of schema version {version}; this release reads up to {self.current}. "
                "Run the newer release, or restore a backup from before it."
            )
        return self._migrations[version - FIRST_SCHEMA :]

    async def _migrate_under(self, lock: Lock) -> None:
        """Migrates for as long as the lock is held."""
        work = asyncio.create_task(self._migrate())
        beat = asyncio.create_task(_renew(lock))
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                beat.result()
            await work
        except LockError as error:
            raise AlignXError("The migration lost its lock to another process; look at that one.") from error
        finally:
            work.cancel()
            beat.cancel()
            await asyncio.gather(work, beat, return_exceptions=True)
            if await lock.owned():
                await lock.release()

    async def _migrate(self) -> None:
        keys = KeySpace(int(await self._redis.get(SHARDS_KEY) or 1))
        version = await self.stored() or self.current
        for step in self._pending(version):
            version += 1
            for shard in range(keys.shards):
                done = f"{version}:{shard}"
                if not await self._redis.hexists(PROGRESS_KEY, done):
                    changed = await step.shard(self._redis, keys, shard)
                    await self._redis.hset(PROGRESS_KEY, done, 1)
                    logger.info("migrated a shard", extra={"to": version, "shard": shard, "users": changed})
            await self._redis.set(SCHEMA_KEY, version)
            await self._redis.delete(PROGRESS_KEY)


async def _renew(lock: Lock) -> None:
    while True:
        await asyncio.sleep(_LOCK_S / 5)
        await lock.reacquire()


def migrated(record: Document, schema: int, migrations: Sequence[Migration] = MIGRATIONS) -> Document:
    """The user record of a backup of version `schema`, in the current form."""
    for step in migrations[schema - FIRST_SCHEMA :]:
        record = step.record(record)
    return record
