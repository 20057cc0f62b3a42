"""The connection to Redis: one server or a cluster, by the same calls.

`open_redis` opens either. The other functions hide where a cluster differs from a server: commands without a
key, channels, and scripts.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple, Self

import orjson
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    SlotNotCoveredError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.errors import StoreUnavailable
from services.settings import RedisSettings
from services.storage.cluster import AWAY, NO_NOTIFICATIONS, ResilientCluster, open_cluster, translate_faults
from services.storage.key_names import WRITE_PROBE

RedisClient = Redis | RedisCluster


class StoreRefused(ResponseError):
    """The server answers and writes nothing now: it is full, a replica, has lost its own replicas, or
    cannot save."""


REFUSED = (StoreRefused, OutOfMemoryError, ReadOnlyError)
"""A write that was refused and may succeed later."""
_REFUSAL = re.compile(r"(?:^|[ -])(?:OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN) ")


_WHY: Mapping[str, str] = {
    "OOM": "Redis is full (maxmemory): it answers reads and refuses writes. Erase users or give it more memory.",
    "READONLY": "Redis is a replica: it answers reads and refuses writes, until one is promoted or the URL changed.",
    "MISCONF": "Redis cannot save to its disk: it answers reads and refuses writes until there is room.",
    "NOREPLICAS": "Redis has lost its replicas: it answers reads and refuses writes until they are back.",
    "MASTERDOWN": "Redis is a replica without its primary, and answers nothing.",
}


def refusal_words(error: Exception) -> str | None:
    """Why Redis refuses, as a sentence; None for other errors."""
    found = _REFUSAL.search(str(error))
    if found:
        return _WHY[found[0].strip(" -")]
    # redis-py cuts the code off where it has a class for it.
    return _WHY["OOM" if isinstance(error, OutOfMemoryError) else "READONLY"] if isinstance(error, REFUSED) else None


def is_refusal(error: ResponseError) -> bool:
    """Whether the error says StoreRefused. redis-py has no class for some of these answers, and for none that
    a script of Redis 6 hands on, which begin with "Error running script"."""
    return _REFUSAL.search(str(error)) is not None


_LATE_S = 0.5
"""Longest wait for one server before the answers of the others are used."""


def read_script(package: str, name: str) -> str:
    """The source of `lua/<name>.lua` of a package, behind the files that its lines `-- include <file>` name:
    of the package, or of services/storage/lua. Redis's Lua has no modules of its own."""
    folders = [files(package) / "lua", files("services.storage") / "lua"]
    text = (folders[0] / f"{name}.lua").read_text(encoding="utf-8")
    names = [line.removeprefix("-- include ") for line in text.splitlines() if line.startswith("-- include ")]
    parts = [next(folder / name for folder in folders if (folder / name).is_file()) for name in names]
    return "".join(part.read_text(encoding="utf-8") for part in parts) + text


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
            return await self._evaluate(keys, args)
        except ResponseError as error:
            if is_refusal(error):
                raise StoreRefused(str(error)) from error
            raise

    async def run(self, keys: Sequence[str], *texts: str | bytes, **arguments: Any) -> Any:
        """The answer to named arguments, sent as one JSON document, and to `texts`, which the script stores
        byte for byte."""
        return await self(keys, [orjson.dumps(arguments), *texts])

    async def run_each(self, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """The answers to several calls, keys and arguments of each, in one pipeline; they may lie in several slots.
        Raises the first error."""
        pipe = self.redis.pipeline(transaction=False)
        for keys, args in calls:
            # By its name: a cluster's pipeline refuses the method, though it can tell the slot by the keys.
            pipe.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        answers: list[Any] = await pipe.execute(raise_on_error=False) if calls else []
        for place, (keys, args) in enumerate(calls):
            if isinstance(answers[place], NoScriptError):
                answers[place] = await self(keys, args)
            elif isinstance(answers[place], Exception):
                raise answers[place]
        return answers

    async def _evaluate(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await self.redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self.redis.eval(self.source, len(keys), *keys, *args)


def list_servers(redis: RedisClient) -> list[ClusterNode | None]:
    """The nodes of a cluster, replicas included; for a single server, None stands for it."""
    return list(redis.get_nodes()) if isinstance(redis, RedisCluster) else [None]


async def ask_server(redis: RedisClient, server: ClusterNode | None, *command: str | int) -> Any:
    """Sends a command to one of `list_servers`."""
    client: Any = redis
    target = {} if server is None else {"target_nodes": server}
    return await client.execute_command(*command, **target)


async def ping(redis: RedisClient) -> None:
    """Returns when any primary answers, since its users can be served. Raises the last error."""
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


async def check_writes(redis: RedisClient) -> None:
    """Raises StoreUnavailable, which says why, when Redis answers and refuses writes."""
    client: Any = redis
    try:
        await client.set(WRITE_PROBE, "", ex=60)
    except ResponseError as error:
        raise StoreUnavailable(refusal_words(error) or "Redis refuses writes.") from error
    except AWAY as error:
        raise StoreUnavailable from error


async def ask_shards(
    redis: RedisClient, prefixes: Mapping[int, str], ask: Callable[[Any, str], None]
) -> dict[int, list[Any]]:
    """The answers by shard to the commands that `ask` adds to a pipeline for a shard's prefix. Shards of a server
    that is away or late are missing; a late one is asked again once it has answered or failed. Raises when no
    server answers."""

    async def of_server(shards: Sequence[int]) -> list[Any]:
        pipe = redis.pipeline(transaction=False)
        for shard in shards:
            ask(pipe, prefixes[shard])
        answer: list[Any] = await pipe.execute()
        return answer

    cluster = redis if isinstance(redis, ResilientCluster) else None
    tasks = {
        asyncio.create_task(of_server(shards)): (server, shards)
        for server, shards in _group_by_server(redis, prefixes).items()
        if not cluster or server not in cluster.late
    }
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=_LATE_S if cluster else None)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    by_shard: dict[int, list[Any]] = {}
    fault: BaseException | None = RedisTimeoutError("No server answered in time.") if prefixes else None
    for task, (server, shards) in tasks.items():
        if not task.done():
            assert cluster
            cluster.late.add(server)
            task.add_done_callback(partial(_unmark_late, cluster, server))
        elif isinstance(error := task.exception(), AWAY):
            fault = error
        else:
            answer = task.result()
            size = len(answer) // len(shards)
            by_shard.update((shard, answer[size * index : size * (index + 1)]) for index, shard in enumerate(shards))
    if fault is not None and not by_shard:
        raise fault
    return by_shard


def _unmark_late(cluster: ResilientCluster, server: str, task: "asyncio.Task[list[Any]]") -> None:
    cluster.late.discard(server)
    if not task.cancelled() and task.exception():
        cluster.suspect(server)


def _group_by_server(redis: RedisClient, prefixes: Mapping[int, str]) -> dict[str, list[int]]:
    if not isinstance(redis, RedisCluster):
        return {"": list(prefixes)} if prefixes else {}
    groups: dict[str, list[int]] = {}
    for shard, prefix in prefixes.items():
        node = find_node(redis, prefix)
        groups.setdefault(node.name if node else "", []).append(shard)
    return groups


def find_node(cluster: RedisCluster, key: str) -> ClusterNode | None:
    """The primary that holds the slot of `key`, as far as is known."""
    try:
        return cluster.get_node_from_key(key)
    except SlotNotCoveredError:
        return None


class ChannelCommands(NamedTuple):
    """The commands for messages on a channel. In a cluster they go to the primary that holds the slot of the
    channel's name alone, not to every node."""

    publish: str
    subscribe: str
    unsubscribe: str

    @classmethod
    def of(cls, redis: RedisClient) -> Self:
        if isinstance(redis, RedisCluster):
            return cls("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE")
        return cls("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE")


LIVE_MS = 60_000
"""How long a finished live stream can still be resumed."""


def live_settings(redis: RedisClient) -> dict[str, str | int]:
    """What lua/add_live.lua needs to know."""
    return {"live_ms": LIVE_MS, "publish": ChannelCommands.of(redis).publish}


class _SaysItIsClosed:
    """What a connection raises when the server closes it during the handshake is a fault of the connection too."""

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        connection: Any = super()
        with translate_faults():
            await connection.send_packed_command(*arguments, **options)


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator[RedisClient]:
    """A client that decodes to text and never repeats a command: a write without an answer may have been applied,
    so the caller must decide."""
    if settings.cluster:
        async with open_cluster(settings) as cluster:
            yield cluster
        return
    client = Redis.from_url(
        settings.url,
        decode_responses=True,
        max_connections=settings.max_connections,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        maint_notifications_config=NO_NOTIFICATIONS,
    )
    pool = client.connection_pool
    pool.connection_class = type("Connection", (_SaysItIsClosed, pool.connection_class), {})
    try:
        yield client
    finally:
        await client.aclose()
