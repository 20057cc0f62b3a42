"""Metrics of Redis from its INFO command, which the worker reads every few seconds."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError

_GAUGES = {
    "alignx_redis_memory_bytes": ("used_memory", "Memory that Redis uses"),
    "alignx_redis_memory_limit_bytes": ("maxmemory", "Memory that Redis may use; 0 for no limit of its own"),
    "alignx_redis_clients": ("connected_clients", "Connections that Redis has open"),
    "alignx_redis_evicted_keys": (
        "evicted_keys",
        "Keys that Redis threw away for want of memory since it started; must stay 0",
    ),
    "alignx_redis_aof_rewrite_in_progress": ("aof_rewrite_in_progress", "1 while the append-only file is rewritten"),
    "alignx_redis_connected_replicas": ("connected_slaves", "Replicas that follow this node"),
}


class RedisMetrics:
    """One series a node; the label is empty where Redis is a single one, which to Prometheus means none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            field: Gauge(name, about, ("node",), registry=registry) for name, (field, about) in _GAUGES.items()
        }
        node = ("node",)
        self._keys = Gauge("alignx_redis_keys", "Keys of all databases", node, registry=registry)
        self._written = Gauge(
            "alignx_redis_aof_last_write_ok",
            "0 when the last write of the append-only file failed",
            node,
            registry=registry,
        )
        self._up = Gauge("alignx_redis_up", "1 while Redis answers the worker", node, registry=registry)
        self._commands = Counter(
            "alignx_redis_commands", "Commands that Redis has run while this worker looked", node, registry=registry
        )
        self._seen: dict[str, int] = {}
        """Commands run at the last look."""
        self._known: set[str] = set()

    async def read(self, redis: "Redis | RedisCluster") -> None:
        """Asks every node once. A node that does not answer has only `up` 0; one that has left the cluster has
        no series."""
        nodes: Mapping[str, Any] = {"": None}
        if isinstance(redis, RedisCluster):
            nodes = {node.name: {"target_nodes": node} for node in redis.get_nodes()}
        for name in self._known - nodes.keys():
            self._remove(name, self._up, self._commands)
            self._seen.pop(name, None)
        self._known = set(nodes)
        for name, target in nodes.items():
            try:
                self._note(name, await redis.info(**(target or {})))
            except RedisError:
                self._up.labels(name).set(0)
                self._remove(name)

    def _note(self, node: str, info: Mapping[str, Any]) -> None:
        """A managed Redis may keep some of it to itself: then the figure is missing, and nothing else."""
        self._up.labels(node).set(1)
        for field, gauge in self._gauges.items():
            if field in info:
                gauge.labels(node).set(info[field])
        self._keys.labels(node).set(sum(part["keys"] for name, part in info.items() if name.startswith("db")))
        if "aof_last_write_status" in info:
            self._written.labels(node).set(info["aof_last_write_status"] == "ok")
        if "total_commands_processed" in info:
            self._count(node, int(info["total_commands_processed"]))

    def _count(self, node: str, run: int) -> None:
        before = self._seen.get(node, run)
        self._commands.labels(node).inc(run - before if run >= before else run)  # fewer: it was started anew
        self._seen[node] = run

    def _remove(self, node: str, *also: Gauge | Counter) -> None:
        for metric in (*self._gauges.values(), self._keys, self._written, *also):
            metric.remove(node)
