"""The version of the data on a real Redis: first start, old data, steps of a migration, newer data."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.errors import AlignXError
from services.settings import RedisSettings
from services.storage import migrations
from services.storage.connection import open_redis
from services.storage.key_names import KeySpace
from services.storage.migrations import (
    LOCK_KEY,
    MIGRATIONS,
    PROGRESS_KEY,
    SCHEMA_KEY,
    SHARDS_KEY,
    Migration,
    Schema,
    migrated,
)

pytestmark = pytest.mark.anyio

SHARDS = 3


class Steps:
    """Two migrations that write down what they do; `fails_at` breaks one off, once."""

    def __init__(self, fails_at: tuple[int, int] | None = None) -> None:
        self.done: list[tuple[int, int]] = []
        self.fails_at = fails_at
        self.migrations = (self._step(2), self._step(3))

    def _step(self, version: int) -> Migration:
        async def shard(redis: Redis, keys: KeySpace, number: int) -> int:
            if self.fails_at == (version, number):
                self.fails_at = None
                raise ConnectionResetError
            await asyncio.sleep(0.001)
            self.done.append((version, number))
            client: Any = redis
            await client.hset(keys.shard_prefix(number) + "mark", version, 1)
            return 1

        return Migration(f"to version {version}", shard, lambda record: record | {f"v{version}": True})


IN_ORDER = [(version, shard) for version in (2, 3) for shard in range(SHARDS)]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    async with asyncio.timeout(20), open_redis(RedisSettings(url=url)) as redis:
        yield redis


async def test_an_empty_redis_becomes_one_of_this_version(redis_url: str) -> None:
    async with opened(redis_url) as redis:
        steps = Steps()
        schema = Schema(redis, steps.migrations)
        assert await schema.stored() is None
        assert await schema.steps() == []
        await schema.claim()
        assert await redis.get(SCHEMA_KEY) == "3"
        assert steps.done == []


async def test_data_without_a_version_are_version_1(redis_url: str) -> None:
    async with opened(redis_url) as redis:
        await redis.set(SHARDS_KEY, SHARDS)
        schema = Schema(redis)
        assert await schema.stored() == 1
        await schema.claim()
        assert await redis.get(SCHEMA_KEY) == str(schema.current)


async def test_users_of_version_1_are_listed(redis_url: str) -> None:
    """Once, though the step is repeated, and each in the list of their own tenant."""
    keys, names = KeySpace(SHARDS), [f"user {number}/é" for number in range(40)]
    async with opened(redis_url) as redis:
        await redis.set(SHARDS_KEY, SHARDS)
        for tenant in ("acme", "a:b"):
            for name in names:
                await redis.hset(keys.user(tenant, name).state, mapping={"born": 1})
        await redis.set(keys.user("acme", "not a user").profile, "{}")
        await Schema(redis).claim()
        await MIGRATIONS[0].shard(redis, keys, 0)
        for tenant in ("acme", "a:b"):
            listed = [await redis.zrange(keys.user_index(tenant, shard), 0, -1) for shard in range(SHARDS)]
            assert sorted(name for part in listed for name in part) == sorted(names)
            assert all(keys.shard(tenant, name) == shard for shard, part in enumerate(listed) for name in part)


async def test_older_data_are_migrated_in_order_by_one_process(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_WAIT_S", 0.002)
    async with opened(redis_url) as redis:
        await redis.set(SHARDS_KEY, SHARDS)
        steps = Steps()
        processes = [Schema(redis, steps.migrations) for _ in range(5)]
        assert await processes[0].steps() == ["to version 2", "to version 3"]
        await asyncio.gather(*(process.claim() for process in processes))
        assert steps.done == IN_ORDER
        assert await redis.get(SCHEMA_KEY) == "3"
        assert await redis.exists(PROGRESS_KEY, LOCK_KEY) == 0


@pytest.mark.parametrize("fails_at", IN_ORDER)
async def test_what_broke_off_goes_on_where_it_was(redis_url: str, fails_at: tuple[int, int]) -> None:
    async with opened(redis_url) as redis:
        await redis.set(SHARDS_KEY, SHARDS)
        steps = Steps(fails_at)
        with pytest.raises(ConnectionResetError):
            await Schema(redis, steps.migrations).claim()
        assert steps.done == IN_ORDER[: IN_ORDER.index(fails_at)]
        await Schema(redis, steps.migrations).claim()
        assert steps.done == IN_ORDER


async def test_a_lost_lock_ends_the_migration(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_LOCK_S", 0.05)
    async with opened(redis_url) as redis:
        await redis.set(SHARDS_KEY, SHARDS)

        async def robbed(redis: Any, *_: object) -> int:
            await redis.set(LOCK_KEY, "another process")
            await asyncio.sleep(5)
            return 0

        with pytest.raises(AlignXError, match="lost its lock"):
            await Schema(redis, (Migration("slow", robbed, dict),)).claim()
        assert await redis.get(SCHEMA_KEY) == "1"
        assert await redis.get(LOCK_KEY) == "another process"


async def test_newer_data_are_refused_with_both_versions(redis_url: str) -> None:
    async with opened(redis_url) as redis:
        await redis.set(SCHEMA_KEY, 7)
        for method in (Schema(redis).claim, Schema(redis).steps):
            with pytest.raises(AlignXError, match=rf"version 7; this release reads up to {Schema(redis).current}"):
                await method()
        assert await redis.get(SCHEMA_KEY) == "7"


def test_a_record_of_a_backup_takes_the_steps_it_lacks() -> None:
    steps = Steps().migrations
    assert migrated({}, 1, steps) == {"v2": True, "v3": True}
    assert migrated({}, 2, steps) == {"v3": True}
    assert migrated({}, 3, steps) == {}
