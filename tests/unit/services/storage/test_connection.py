"""The client of Redis: connections that the server has closed, and words for what it refuses."""

import asyncio
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from services.errors import StoreUnavailable
from services.settings import RedisSettings
from services.storage.connection import StoreRefused, check_writes, is_refusal, open_redis, refusal_words

pytestmark = pytest.mark.anyio


async def test_connections_that_the_server_has_closed_cost_no_command(redis_url: str) -> None:
    client: Any
    async with open_redis(RedisSettings(url=redis_url)) as client:
        await asyncio.gather(*(client.set("a", "1") for _ in range(20)))
        with Redis.from_url(redis_url) as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
        assert await asyncio.gather(*(client.set("a", "1") for _ in range(20))) == [True] * 20


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])  # as in the services
async def test_a_command_on_a_connection_that_was_closed_is_a_fault_of_the_connection(redis_url: str) -> None:
    client: Any
    async with open_redis(RedisSettings(url=redis_url)) as client:
        connection = client.connection_pool.make_connection()
        await connection.connect()
        connection._writer.transport.abort()  # as when the server is killed, and resets it
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")


async def test_a_full_redis_says_so(redis_url: str) -> None:
    admin: Any
    async with open_redis(RedisSettings(url=redis_url)) as client:
        await check_writes(client)
        with Redis.from_url(redis_url) as admin:
            admin.config_set("maxmemory", 1)
            try:
                with pytest.raises(StoreUnavailable, match=r"Redis is full \(maxmemory\)"):
                    await check_writes(client)
            finally:
                admin.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "Redis is full"),
        (ReadOnlyError("You can't write against a read only replica."), "Redis is a replica:"),
        (StoreRefused("Error running script: @user_script: -MISCONF Redis is configured"), "Redis cannot save"),
    ],
)
def test_words_for_what_redis_refuses_by_class(error: Exception, start: str) -> None:
    assert (refusal_words(error) or "").startswith(start)


@pytest.mark.parametrize(
    ("answer", "start"),
    [
        ("Error running script (call to f_1a): @user_script:17: @user_script: 17: -OOM command not", "Redis is full"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to.", "Redis cannot save"),
        (
            "-NOREPLICAS Not enough good replicas to write. script: 5f, on @user_script:1.",
            "Redis has lost its replicas",
        ),
        (
            "-READONLY You can't write against a read only replica. script: 5f, on @user_script:1.",
            "Redis is a replica:",
        ),
        ("MASTERDOWN Link with MASTER is down.", "Redis is a replica without its primary"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", ""),
        ("Error running script (call to f_1a): @user_script:3: user_script:3: ROOM is full", ""),
    ],
)
def test_a_refused_write_is_told_from_a_mistake(answer: str, start: str) -> None:
    assert is_refusal(ResponseError(answer)) == bool(start)
    assert (refusal_words(ResponseError(answer)) or "").startswith(start)
