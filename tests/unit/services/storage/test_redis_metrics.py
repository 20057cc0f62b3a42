"""The figures of Redis, from real servers: a single one, a node of a cluster, one that is gone."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from services.storage.redis_metrics import RedisMetrics
from tests.conftest import free_port, redis_server_path, wait_until_ready
from tests.unit.services.preference.rig import start_redis, stop_redis

pytestmark = pytest.mark.anyio


class Read:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = RedisMetrics(self.registry)

    def __call__(self, name: str, node: str = "") -> float | None:
        return self.registry.get_sample_value(f"alignx_redis_{name}", {"node": node})


async def test_a_single_server_is_read(redis_url: str) -> None:
    found = Read()
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.mset({"a": "1", "b": "2"})
        await redis.config_set("maxmemory", 1 << 30)
        await found.metrics.read(redis)
        assert found("commands_total") == 0  # counted from the first look on
        await redis.ping()
        await found.metrics.read(redis)
        await redis.config_set("maxmemory", 0)
    assert (found("up"), found("keys"), found("memory_limit_bytes")) == (1, 2, 1 << 30)
    assert (found("aof_last_write_ok"), found("aof_rewrite_in_progress"), found("evicted_keys")) == (1, 0, 0)
    assert found("connected_replicas") == 0
    assert (found("memory_bytes") or 0) > 100_000
    assert (found("clients") or 0) >= 1
    assert (found("commands_total") or 0) >= 2


async def test_a_server_that_is_gone_has_no_figures_but_that(tmp_path: Path) -> None:
    port = free_port()
    server = start_redis(tmp_path, port)

    try:
        found = Read()
        async with Redis(port=port, decode_responses=True) as redis:
            await found.metrics.read(redis)
            assert (found("up"), found("keys")) == (1, 0)
            stop_redis(server)
            await found.metrics.read(redis)
            assert (found("up"), found("keys"), found("memory_bytes")) == (0, None, None)
    finally:
        stop_redis(server)


async def test_what_a_managed_server_keeps_to_itself_is_missing_and_nothing_else(redis_url: str) -> None:
    hidden = {"aof_last_write_status", "total_commands_processed", "maxmemory", "connected_slaves"}

    class Managed(Redis):
        async def info(self, *_: Any, **__: Any) -> Any:
            return {field: value for field, value in (await super().info()).items() if field not in hidden}

    found = Read()
    async with Managed.from_url(redis_url, decode_responses=True) as redis:
        await found.metrics.read(redis)
    assert found("up") == 1
    assert (found("memory_bytes") or 0) > 100_000
    assert [found(name) for name in ("aof_last_write_ok", "commands_total", "memory_limit_bytes")] == [None] * 3


async def test_each_node_of_a_cluster_is_read_by_its_name_for_as_long_as_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    options = f"--port {port} --bind 127.0.0.1 --dir {tmp_path} --cluster-enabled yes --save".split()
    server = subprocess.Popen((redis_server_path(), *options, ""), stdout=subprocess.DEVNULL)  # noqa: ASYNC220

    try:
        wait_until_ready(port)
        async with Redis(port=port, decode_responses=True) as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
            async with asyncio.timeout(10):
                while (await redis.cluster("info"))["cluster_state"] != "ok":  # noqa: ASYNC110  # what is waited for happens in Redis
                    await asyncio.sleep(0.05)
        found, node = Read(), f"127.0.0.1:{port}"
        async with RedisCluster(host="127.0.0.1", port=port, decode_responses=True) as cluster:
            await cluster.set("a", "1")
            await found.metrics.read(cluster)
            assert (found("up", node), found("keys", node), found("up")) == (1, 1, None)
            monkeypatch.setattr(cluster, "get_nodes", list)  # it was replaced by another
            await found.metrics.read(cluster)
        assert [found(name, node) for name in ("up", "keys", "commands_total", "memory_bytes")] == [None] * 4
    finally:
        stop_redis(server)
