"""The cluster client on real clusters: a primary that is away, one that comes back, one that is replaced."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.settings import RedisSettings
from services.storage.cluster import AWAY
from services.storage.connection import (
    RedisClient,
    Script,
    ask_server,
    ask_shards,
    list_servers,
    open_redis,
    ping,
)
from tests.redis_cluster import ClusterServers

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("cluster")]  # one cluster for all

PREFIXES = {shard: f"pi:{{{shard}}}:" for shard in range(16)}
COUNT = "return redis.call('INCR', KEYS[1])"
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    with ClusterServers(tmp_path_factory.mktemp("cluster")).running() as servers:
        yield servers


@pytest.fixture
def empty(cluster: ClusterServers) -> ClusterServers:
    return cluster.made_empty()


@asynccontextmanager
async def opened(cluster: ClusterServers, url: str = "", timeout_s: float = 5) -> AsyncIterator[RedisClient]:
    settings = RedisSettings(url=url or cluster.url, cluster=True, timeout_s=timeout_s)
    async with asyncio.timeout(90), open_redis(settings) as redis:
        yield redis


async def until_served(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """What `attempt` gives as soon as it does not fail."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            return await attempt()
        except RedisError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def zcard(pipe: Any, prefix: str) -> None:
    pipe.zcard(prefix + "ready")


async def test_every_shard_is_asked_in_one_pipeline_a_server(empty: ClusterServers) -> None:
    async with opened(empty) as redis:
        client: Any = redis
        for shard, prefix in PREFIXES.items():
            await client.zadd(prefix + "ready", {f"m{member}": member for member in range(shard + 1)})
        assert await ask_shards(redis, PREFIXES, zcard) == {shard: [shard + 1] for shard in PREFIXES}
        assert len({empty.holder(prefix) for prefix in PREFIXES.values()}) == 3


async def test_one_node_is_enough_to_find_the_others(empty: ClusterServers) -> None:
    async with opened(empty, url=empty.node_urls[1]) as redis:
        assert len(await ask_shards(redis, PREFIXES, zcard)) == 16
        assert len(list_servers(redis)) == 3


async def test_a_script_is_sent_in_full_where_it_is_unknown(empty: ClusterServers) -> None:
    async with opened(empty) as redis:
        script = Script(redis, COUNT)
        assert [await script([prefix + "n"], []) for prefix in PREFIXES.values()] == [1] * 16
        for server in list_servers(redis):
            await ask_server(redis, server, "SCRIPT FLUSH")
        assert [await script([prefix + "n"], []) for prefix in PREFIXES.values()] == [2] * 16


async def test_a_primary_that_is_away_costs_its_own_slots_alone(empty: ClusterServers) -> None:
    gone = empty.holder(PREFIXES[0])
    lost = {shard for shard, prefix in PREFIXES.items() if empty.holder(prefix) == gone}
    async with opened(empty) as redis:
        script = Script(redis, COUNT)
        for prefix in PREFIXES.values():
            await script([prefix + "n"], [])
        await asyncio.to_thread(empty.kill, gone)
        for _ in range(3):
            for shard, prefix in PREFIXES.items():
                if shard in lost:
                    with pytest.raises(AWAY):
                        await script([prefix + "n"], [])
                else:
                    await script([prefix + "n"], [])
            assert (await ask_shards(redis, PREFIXES, zcard)).keys() == PREFIXES.keys() - lost
        await ping(redis)
        await asyncio.to_thread(empty.start, gone)
        for prefix in PREFIXES.values():
            await until_served(lambda prefix=prefix: script([prefix + "n"], []))  # type: ignore[misc]
        assert len(await until_served(lambda: all_shards(redis))) == 16


async def test_a_primary_that_hangs_costs_its_own_slots_alone(empty: ClusterServers) -> None:
    """What waits for it still waits when the others have answered, again and again."""
    hung = empty.holder(PREFIXES[0])
    lost = {shard for shard, prefix in PREFIXES.items() if empty.holder(prefix) == hung}
    async with opened(empty, timeout_s=3) as redis:
        client: Any = redis
        script = Script(redis, COUNT)
        for prefix in PREFIXES.values():
            await script([prefix + "n"], [])
        await ask_shards(redis, PREFIXES, zcard)
        empty.processes[hung].send_signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                waiting = asyncio.create_task(script([PREFIXES[0] + "n"], []))
                for shard in PREFIXES.keys() - lost:
                    await script([PREFIXES[shard] + "n"], [])
                for _ in range(3):
                    assert (await ask_shards(redis, PREFIXES, zcard)).keys() == PREFIXES.keys() - lost
                assert not waiting.done()
                with pytest.raises(AWAY):
                    await waiting
                await client.time()
        finally:
            empty.processes[hung].send_signal(signal.SIGCONT)
        assert len(await until_served(lambda: all_shards(redis))) == 16
        await until_served(lambda: script([PREFIXES[0] + "n"], []))


async def all_shards(redis: RedisClient) -> dict[int, list[Any]]:
    found = await ask_shards(redis, PREFIXES, zcard)
    if len(found) < len(PREFIXES):
        raise RedisConnectionError("a part is away")
    return found


@pytest.mark.parametrize("gone", range(3))
async def test_a_process_can_start_while_a_primary_is_away(empty: ClusterServers, gone: int) -> None:
    lost = {shard for shard, prefix in PREFIXES.items() if empty.holder(prefix) == gone}
    empty.kill(gone)
    async with opened(empty) as redis:
        found = await until_served(lambda: ask_shards(redis, PREFIXES, zcard))
        assert found.keys() == PREFIXES.keys() - lost
        await ping(redis)


async def test_a_cluster_that_is_gone_is_a_connection_that_fails(tmp_path: Path) -> None:
    async with opened(ClusterServers(tmp_path)) as redis:
        for _ in range(2):
            with pytest.raises(RedisConnectionError):
                await ping(redis)
            with pytest.raises(AWAY):
                await ask_shards(redis, PREFIXES, zcard)


async def test_a_replica_takes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Readers use pipelines alone: a failed one must have the map read anew too."""
    servers_ = ClusterServers(tmp_path, primaries=3, replicas=3, silence_ms=1500)
    took: list[float] = []

    try:
        servers_.up()
        async with opened(servers_) as redis:
            client: Any = redis
            script = Script(redis, COUNT)
            for prefix in PREFIXES.values():
                await script([prefix + "n"], [])
            assert isinstance(client, RedisCluster)
            with servers_.node(0) as first:
                assert first.execute_command("WAIT", 1, 10_000) == 1  # its replica has what it acknowledged
            await asyncio.to_thread(servers_.kill, 0)

            async def read_all() -> list[list[Any]]:
                found = await ask_shards(redis, PREFIXES, lambda pipe, prefix: pipe.get(prefix + "n"))
                if len(found) < len(PREFIXES):
                    raise RedisConnectionError("a part is away")
                return list(found.values())

            killed = time.monotonic()
            assert sorted(await until_served(read_all)) == [["1"]] * 16
            took.append(time.monotonic() - killed)
            assert [await script([prefix + "n"], []) for prefix in PREFIXES.values()] == [2] * 16
        with capsys.disabled():
            print(f"\na replica took over after {took[0]:.1f} s; the nodes' timeout is 1.5 s")  # noqa: T201
    finally:
        servers_.down()


async def test_a_slot_that_moved_is_followed(empty: ClusterServers) -> None:
    prefix = PREFIXES[0]
    old = empty.holder(prefix)
    new = (old + 1) % 3
    keys = (prefix + "n", prefix + "live")

    try:
        async with opened(empty) as redis:
            client: Any = redis
            script = Script(redis, COUNT)
            assert await script([prefix + "n"], []) == 1
            await client.xadd(prefix + "live", {"e": "version"})
            empty.move(keys, old, new)
            found = await ask_shards(redis, {0: prefix}, lambda pipe, prefix: pipe.get(prefix + "n"))
            assert found == {0: ["1"]}
            assert await client.xlen(prefix + "live") == 1
            assert await script([prefix + "n"], []) == 2
    finally:
        empty.move(keys, new, old)


async def test_a_connection_closed_under_way_counts_as_a_server_that_is_away(empty: ClusterServers) -> None:
    """redis-py closes the idle connections of a node that fails while other commands already take them."""
    async with opened(empty) as redis:
        key = PREFIXES[0] + "n"
        await redis.get(key)
        node: Any = redis.get_node_from_key(key)  # type: ignore[union-attr]
        faults = set()
        for _ in range(20):
            await asyncio.gather(*(redis.get(key) for _ in range(8)), return_exceptions=True)
            pipes = [redis.pipeline(transaction=False).get(key) for _ in range(4)]
            closing = asyncio.create_task(node.disconnect_free_connections())
            for _ in range(2):
                await asyncio.sleep(0)
            answers = await asyncio.gather(
                *(redis.get(key) for _ in range(4)), *(pipe.execute() for pipe in pipes), return_exceptions=True
            )
            await closing
            faults |= {type(answer) for answer in answers if isinstance(answer, Exception)}
        assert faults == {RedisConnectionError}
