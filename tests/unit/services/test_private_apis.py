"""Private names of dependencies that the services use: each fails here when an upgrade renames it."""

import inspect

import aiohttp
from prometheus_client import CollectorRegistry
from redis.asyncio import RedisCluster


def test_aiohttp_repeats_a_request_on_a_stale_connection_unless_told_not_to() -> None:
    """gateway/proxy.py: a request must not be sent twice (https://github.com/aio-libs/aiohttp/issues/10790)."""
    assert "self._retry_connection" in inspect.getsource(aiohttp.ClientSession._request)


def test_redis_reads_the_slot_map_when_a_flag_is_set() -> None:
    """services/storage/cluster.py: the map is read in the background."""
    assert "if self._initialize:" in inspect.getsource(RedisCluster.execute_command)
    assert "self._initialize = True" in inspect.getsource(RedisCluster._execute_command)


def test_a_registry_knows_the_names_of_its_collectors() -> None:
    """docs/exported_metrics.py: `collect` does not give a metric without series."""
    assert CollectorRegistry()._collector_to_names == {}
