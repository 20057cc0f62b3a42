"""One Redis server or a Redis Cluster, by the same calls.

`open_cluster` gives redis-py's cluster client with three habits changed: it never repeats a command,
a primary that is away or hangs costs the callers of its own slots alone, and the map of the slots is
read anew beside them, without closing the connections that others are waiting on. The functions below
are for what a cluster does otherwise than a server: commands without a key, blocking reads, and scripts.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha1
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.core.settings import RedisSettings

RedisClient = Redis | RedisCluster
CLUSTER_FAULTS = (ClusterError, TryAgainError)
"""What a caller can wait out, beside a connection that fails: slots without a primary, or on the move."""
AWAY = (RedisConnectionError, RedisTimeoutError, *CLUSTER_FAULTS)
"""A command that may or may not have been applied, or was not: its server is away."""

CLOSED_UNDER_WAY = (AttributeError, RuntimeError)
"""What redis-py 8.1 raises where a command takes an idle connection to a node that has just failed: the
library closes the idle ones one after the other, and does not take them out of the pool meanwhile. The
writer is then None, or its transport closed (a RuntimeError of uvloop)."""


class StoreRefused(ResponseError):
    """The server answers and writes nothing now: it is full, a replica, has lost its own replicas, or
    cannot save."""


REFUSED = (StoreRefused, OutOfMemoryError, ReadOnlyError)
"""A write that was not done, for now."""
_REFUSAL = re.compile(r"(?:^|[ -])(?:OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN) ")


def is_refusal(error: ResponseError) -> bool:
    """Whether the error says StoreRefused. redis-py has no class for some of these answers, and for none that
    a script of Redis 6 hands on, which begin with "Error running script"."""
    return _REFUSAL.search(str(error)) is not None


_MAP_PAUSE_S = 0.1
"""Between two readings of the map of the slots."""
_LATE_S = 0.5
"""Longest wait for one server of several, where the answers of the others are worth having."""


class SteadyCluster(RedisCluster):
    """A cluster client that stays usable while a part of the cluster is away."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.late: set[str] = set()
        """Servers that still owe `ask_shards` an answer."""
        self._failed: str | None = None
        self._reading: asyncio.Task[None] | None = None

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> "SteadyCluster":
        """Has the map of the slots read if that is due; only the first time is waited for, and raises
        redis' ConnectionError if no node gives it."""
        if not self._initialize:
            return self
        if not self.commands_parser.commands:
            try:
                await self._first_time()
            except RedisClusterException as error:
                raise RedisConnectionError(str(error)) from error
        else:
            if self._reading is None or self._reading.done():
                self._initialize = False
                self._reading = asyncio.create_task(self._read_map())
            if primaries := self.get_primaries():  # those that failed stand behind the others
                self.nodes_manager.default_node = primaries[0]
        return self

    async def _read_map(self) -> None:
        """Beside the commands, which go on with the old map: a node that hangs may be asked first. (The
        library would also ask for the list of all commands again, which costs 15 ms.)"""
        failed, self._failed = self._failed, None
        try:
            await self.nodes_manager.initialize(last_failed_node_name=failed)
        except (RedisError, RedisClusterException):
            self._initialize = True
        await asyncio.sleep(_MAP_PAUSE_S)

    def suspect(self, server: str) -> None:
        """A node that did not answer: asked last for the map, which is due."""
        self.nodes_manager.move_node_to_end_of_cached_nodes(server)
        self._failed = server
        self._initialize = True

    async def _first_time(self) -> None:
        """Asks each primary in turn for the list of commands; the library asks the first alone, which
        may be away."""
        for _ in range(len(self.nodes_manager.startup_nodes) - 1):
            try:
                await super().initialize()
            except (RedisConnectionError, RedisTimeoutError):
                primaries = self.get_primaries()
                if primaries:
                    self.nodes_manager.move_node_to_end_of_cached_nodes(primaries[0].name)
            else:
                return
        await super().initialize()

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().execute_command(*args, **kwargs)
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._failed = getattr(error, "last_failed_node_name", self._failed)
            raise
        except CLOSED_UNDER_WAY as error:
            raise RedisConnectionError("The connection was closed while it was in use.") from error
        except SlotNotCoveredError as error:  # no RedisError in the library, but no mistake of ours
            raise ClusterDownError(str(error)) from error

    async def aclose(self) -> None:
        """Has the map read anew before the next command. The library calls this for it, and its own
        version would break what is under way on other primaries; `shut` closes the connections."""
        self._initialize = True

    async def shut(self) -> None:
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._initialize = False
        await super().aclose()

    def pipeline(self, transaction: Any | None = None, shard_hint: Any | None = None) -> ClusterPipeline:
        """Only pipelines without a transaction: those of the library block the event loop."""
        assert not transaction
        assert not shard_hint
        return SteadyPipeline(self)  # type: ignore[abstract]  # an attribute that the library declares and never sets


class SteadyPipeline(ClusterPipeline):
    """A pipeline whose failure has the map of the slots read anew, as that of a command has."""

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        try:
            found: list[Any] = await super().execute(raise_on_error, allow_redirections)
        except AWAY:
            await self.cluster_client.aclose()
            raise
        except CLOSED_UNDER_WAY as error:
            raise RedisConnectionError("The connection was closed while it was in use.") from error
        except SlotNotCoveredError as error:
            await self.cluster_client.aclose()
            raise ClusterDownError(str(error)) from error
        return found


@asynccontextmanager
async def open_cluster(settings: RedisSettings) -> AsyncIterator[RedisCluster]:
    """A client of the cluster that the nodes of `settings.url` belong to."""
    nodes = [parse_url(url) for url in settings.node_urls]
    first: dict[str, Any] = {name: value for name, value in nodes[0].items() if name not in ("host", "port")}
    if first.pop("connection_class", None) is not None:  # parse_url's word for rediss://
        first["ssl"] = True
    client = SteadyCluster(
        startup_nodes=[ClusterNode(node.get("host", "127.0.0.1"), node.get("port", 6379)) for node in nodes],
        decode_responses=True,
        max_connections=settings.max_connections,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        require_full_coverage=False,
        **first,
    )
    try:
        yield client
    finally:
        await client.shut()


class Script:
    """A Lua script, sent by its hash and in full only to a server that does not know it yet. All of
    its keys have one hash tag."""

    def __init__(self, redis: RedisClient, source: str) -> None:
        self.redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """What the script answers. Raises StoreRefused when the server writes nothing now."""
        try:
            return await self._run(keys, args)
        except ResponseError as error:
            if is_refusal(error):
                raise StoreRefused(str(error)) from error
            raise

    async def _run(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await self.redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self.redis.eval(self.source, len(keys), *keys, *args)


def servers(redis: RedisClient) -> list[ClusterNode | None]:
    """The nodes of a cluster, replicas included; for a single server, None stands for it."""
    return list(redis.get_nodes()) if isinstance(redis, RedisCluster) else [None]


async def ask_server(redis: RedisClient, server: ClusterNode | None, *command: str | int) -> Any:
    """A command sent to one of the `servers`, whatever its keys."""
    client: Any = redis
    target = {} if server is None else {"target_nodes": server}
    return await client.execute_command(*command, **target)


async def answers(redis: RedisClient) -> None:
    """Returns once any primary answers: what the others hold is still served. Raises the last error."""
    if not isinstance(redis, RedisCluster):
        client: Any = redis
        await client.ping()
        return
    await redis.initialize()
    error: Exception | None = None
    for primary in redis.get_primaries():
        try:
            await ask_server(redis, primary, "PING")
        except (RedisConnectionError, RedisTimeoutError) as fault:
            error = fault
        else:
            return
    raise error or RedisConnectionError("The cluster has no primary.")


async def ask_shards(
    redis: RedisClient, prefixes: Mapping[int, str], ask: Callable[[Any, str], None]
) -> dict[int, list[Any]]:
    """For each shard what the commands find that `ask` puts into a pipeline for its prefix. Shards whose
    server is away are left out, and so are those of a server that takes longer than the others, until it
    has answered or failed; raises when none answers."""

    async def of_server(shards: Sequence[int]) -> list[Any]:
        pipe = redis.pipeline(transaction=False)
        for shard in shards:
            ask(pipe, prefixes[shard])
        answer: list[Any] = await pipe.execute()
        return answer

    cluster = redis if isinstance(redis, SteadyCluster) else None
    asked = {
        asyncio.create_task(of_server(shards)): (server, shards)
        for server, shards in _by_server(redis, prefixes).items()
        if not cluster or server not in cluster.late
    }
    try:
        if asked:
            await asyncio.wait(asked, timeout=_LATE_S if cluster else None)
    except asyncio.CancelledError:
        for task in asked:
            task.cancel()
        raise
    found: dict[int, list[Any]] = {}
    fault: BaseException | None = RedisTimeoutError("No server answered in time.") if prefixes else None
    for task, (server, shards) in asked.items():
        if not task.done():
            assert cluster
            cluster.late.add(server)
            task.add_done_callback(partial(_late_no_more, cluster, server))
        elif isinstance(error := task.exception(), AWAY):
            fault = error
        else:
            answer = task.result()
            each = len(answer) // len(shards)
            found.update((shard, answer[each * place : each * (place + 1)]) for place, shard in enumerate(shards))
    if fault is not None and not found:
        raise fault
    return found


def _late_no_more(cluster: SteadyCluster, server: str, task: "asyncio.Task[list[Any]]") -> None:
    cluster.late.discard(server)
    if not task.cancelled() and task.exception():
        cluster.suspect(server)


def _by_server(redis: RedisClient, prefixes: Mapping[int, str]) -> dict[str, list[int]]:
    if not isinstance(redis, RedisCluster):
        return {"": list(prefixes)} if prefixes else {}
    groups: dict[str, list[int]] = {}
    for shard, prefix in prefixes.items():
        node = _holder(redis, prefix)
        groups.setdefault(node.name if node else "", []).append(shard)
    return groups


def _holder(cluster: RedisCluster, key: str) -> ClusterNode | None:
    try:
        return cluster.get_node_from_key(key)
    except SlotNotCoveredError:
        return None


async def read_stream(redis: RedisClient, key: str, after: str, block_ms: int) -> Any:
    """XREAD of one stream. A cluster is told the node, for which the library would ask a server anew
    each time."""
    server: ClusterNode | None = None
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        server = _holder(redis, key)
        if server is None:
            raise ClusterDownError(f"no server holds the slot of {key.partition('}')[0]}}}")
    return await ask_server(redis, server, "XREAD", "BLOCK", block_ms, "STREAMS", key, after)
