"""redis-py's cluster client with three changes: it never repeats a command, a primary that is away or hangs
delays the callers of its own slots alone, and the slot map is read again in the background, without closing
connections in use.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from redis.asyncio.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    ClusterError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from services.settings import RedisSettings

NO_NOTIFICATIONS = MaintNotificationsConfig(enabled=False)
"""While redis-py waits for them it takes connections from its pool that the server has closed."""

CLUSTER_FAULTS = (ClusterError, TryAgainError)
"""What a caller can wait out, beside a connection that fails: slots without a primary, or on the move."""
AWAY = (RedisConnectionError, RedisTimeoutError, *CLUSTER_FAULTS)
"""A command that may or may not have been applied, or was not: its server is away."""
CLOSED_IN_USE = (AttributeError, RuntimeError)
"""What redis-py 8.1 raises where the server closes a connection between the handshake and its answer, or where a
command takes an idle connection to a node that has just failed: the library closes the idle ones one after the other,
and does not take them out of the pool meanwhile. The writer is then None, or its transport closed (a RuntimeError of
uvloop)."""
_MAP_PAUSE_S = 0.1
"""Between two readings of the slot map."""


@contextmanager
def translate_faults() -> Iterator[None]:
    """What the library raises for a fault of a connection or of the cluster becomes an error of Redis."""
    try:
        yield
    except CLOSED_IN_USE as error:
        raise RedisConnectionError("The connection was closed while it was in use.") from error
    except SlotNotCoveredError as error:  # no RedisError in the library, but no mistake of ours
        raise ClusterDownError(str(error)) from error


class ResilientCluster(RedisCluster):
    """A cluster client that stays usable while a part of the cluster is away."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.late: set[str] = set()
        """Servers that have not answered `ask_shards` in time."""
        self._failed: str | None = None
        self._reading: asyncio.Task[None] | None = None

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> "ResilientCluster":
        """Reads the slot map if that is due, and waits for the first reading only. Raises redis' ConnectionError
        when no node has it."""
        if not self._initialize:
            return self
        if not self.commands_parser.commands:
            try:
                await self._load_commands()
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
        """In the background, since a node that hangs may be asked first; commands use the old map meanwhile. (The
        library would also read the list of all commands again, which costs 15 ms.)"""
        failed, self._failed = self._failed, None
        try:
            await self.nodes_manager.initialize(last_failed_node_name=failed)
        except (RedisError, RedisClusterException):
            self._initialize = True
        await asyncio.sleep(_MAP_PAUSE_S)

    def suspect(self, server: str) -> None:
        """Marks a node that did not answer: the map is due, and this node is asked last."""
        self.nodes_manager.move_node_to_end_of_cached_nodes(server)
        self._failed = server
        self._initialize = True

    async def _load_commands(self) -> None:
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
            with translate_faults():
                return await super().execute_command(*args, **kwargs)
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._failed = getattr(error, "last_failed_node_name", self._failed)
            raise

    async def aclose(self) -> None:
        """Marks the map as due. The library calls this after an error; its own version would close connections to
        other primaries, which may be in use. `shut_down` closes them."""
        self._initialize = True

    async def shut_down(self) -> None:
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._initialize = False
        await super().aclose()

    def pipeline(self, transaction: Any | None = None, shard_hint: Any | None = None) -> ClusterPipeline:
        """Only pipelines without a transaction: those of the library block the event loop."""
        assert not transaction
        assert not shard_hint
        return ResilientPipeline(self)  # type: ignore[abstract]  # an attribute that the library declares and never sets


class ResilientPipeline(ClusterPipeline):
    """A pipeline whose failure makes the slot map due, like that of a command."""

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        try:
            with translate_faults():
                answers: list[Any] = await super().execute(raise_on_error, allow_redirections)
        except AWAY:
            await self.cluster_client.aclose()
            raise
        return answers


@asynccontextmanager
async def open_cluster(settings: RedisSettings) -> AsyncIterator[RedisCluster]:
    """A client of the cluster that the nodes of `settings.url` belong to."""
    nodes = [parse_url(url) for url in settings.node_urls]
    first: dict[str, Any] = {name: value for name, value in nodes[0].items() if name not in ("host", "port")}
    if first.pop("connection_class", None) is not None:  # parse_url's word for rediss://
        first["ssl"] = True
    client = ResilientCluster(
        startup_nodes=[ClusterNode(node.get("host", "127.0.0.1"), node.get("port", 6379)) for node in nodes],
        decode_responses=True,
        max_connections=settings.max_connections,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        maint_notifications_config=NO_NOTIFICATIONS,
        require_full_coverage=False,
        **first,
    )
    try:
        yield client
    finally:
        await client.shut_down()
