"""Notices that a user's live stream has something new, for all followers in this process by one connection to Redis;
in a cluster, by one to each primary that holds a stream that is followed.

    with notices.follow(live) as topic:
        turn = topic.turn
        ...                                   # read what there is
        await topic.wait(turn, timeout_s)     # until there is more

Who adds to a live stream publishes on the channel of its name (lua/add_live.lua). A notice says nothing else: what is
new is read from the stream, by its ids. So a notice too many does no harm, and each new subscription counts as one,
since others may have been missed before it. While there is no connection there are no notices: a follower also looks
by itself now and then.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import groupby
from typing import Any, Final, Self

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.storage.cluster import CLOSED_IN_USE, ResilientCluster
from services.storage.connection import ChannelCommands, RedisClient, find_node

logger = logging.getLogger("alignx.live")
_PAUSE_S: Final = 0.5
"""Between a fault of a connection and the next one."""
_CHANNELS: Final = 500
"""Of one command."""
_FAULTS = (RedisError, OSError, *CLOSED_IN_USE)


class Topic:
    """A channel, and those in this process who wait for its next notice."""

    __slots__ = ("_waiting", "followers", "line", "turn")

    def __init__(self, line: "_Line") -> None:
        self.line = line
        self.followers = 0
        self.turn = 0
        """Notices so far."""
        self._waiting = set[asyncio.Future[None]]()

    def tell(self) -> None:
        self.turn += 1
        for future in self._waiting:
            _resolve(future)

    async def wait(self, turn: int, timeout_s: float) -> None:
        """Returns once there has been a notice since `turn`, or when the time is up."""
        if self.turn != turn:
            return
        future = asyncio.get_running_loop().create_future()
        timer = future.get_loop().call_later(max(0.0, timeout_s), _resolve, future)
        self._waiting.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Notices:
    """The topics that are followed in this process."""

    def __init__(self, redis: RedisClient, timeout_s: float) -> None:
        self._redis = redis
        self._timeout_s = timeout_s
        self._topics: dict[str, Topic] = {}
        self._lines: dict[str, _Line] = {}
        """By the name of the server; that of a single one is ""."""

    @classmethod
    @asynccontextmanager
    async def open(cls, redis: RedisClient, timeout_s: float) -> AsyncIterator[Self]:
        """A server that is silent for `timeout_s` is asked whether it is there, and given as long to answer."""
        notices = cls(redis, timeout_s)
        try:
            yield notices
        finally:
            lines = [*notices._lines.values()]
            for line in lines:
                line.end()
            await asyncio.gather(*(line.task for line in lines), return_exceptions=True)

    @contextmanager
    def follow(self, channel: str) -> Iterator[Topic]:
        topic = self._topics.get(channel)
        if topic is None:
            topic = self._topics[channel] = Topic(self._line_to(channel))
            topic.line.change(channel)
        topic.followers += 1
        try:
            yield topic
        finally:
            topic.followers -= 1
            if not topic.followers:
                del self._topics[channel]
                topic.line.change(channel)

    def tell_all(self) -> None:
        """Has every follower look."""
        for topic in self._topics.values():
            topic.tell()

    def _line_to(self, channel: str) -> "_Line":
        cluster = self._redis if isinstance(self._redis, ResilientCluster) else None
        server = find_node(cluster, channel) if cluster else None
        name = server.name if server else ""
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(self._topics, ChannelCommands.of(self._redis), self._timeout_s)
            line.task = asyncio.create_task(self._keep(name, line, lambda: self._open_channel(server)))
        return line

    def _open_channel(self, server: ClusterNode | None) -> PubSub:
        if isinstance(self._redis, Redis):
            return self._redis.pubsub()
        if server is None:
            raise ClusterDownError("no server is known to hold the slot")
        options: dict[str, Any] = {**server.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        return PubSub(ConnectionPool(connection_class=server.connection_class, **options))

    async def _keep(self, name: str, line: "_Line", open_channel: Callable[[], PubSub]) -> None:
        """Runs a line until it fails, and then gives its topics to those that hold their slots by now."""
        try:
            await line.run(open_channel)
        except* _FAULTS as faults:
            logger.warning("no notices of live streams", extra={"error": type(faults.exceptions[0]).__name__})
        if line.is_over:
            return
        if isinstance(self._redis, ResilientCluster):
            self._redis.suspect(name)
            with suppress(RedisConnectionError):
                await self._redis.initialize()
        await asyncio.sleep(_PAUSE_S)
        del self._lines[name]
        for channel, topic in self._topics.items():
            if topic.line is line:
                topic.line = self._line_to(channel)
                topic.line.change(channel)


class _Line:
    """One connection, with the subscriptions to the channels whose topics name it. It ends with its first fault."""

    task: "asyncio.Task[None]"

    def __init__(self, topics: Mapping[str, Topic], commands: ChannelCommands, timeout_s: float) -> None:
        self._topics = topics
        self._commands = commands
        self._timeout_s = timeout_s
        self._subscribed: set[str] = set()
        self._leaving: Counter[str] = Counter()
        """Channels by the unsubscriptions that Redis has not confirmed yet."""
        self._changed: set[str] = set()
        self._has_changed = asyncio.Event()
        self._has_failed = False
        self.is_over = False

    def change(self, channel: str) -> None:
        """The channel may have got its first follower here, or lost its last."""
        self._changed.add(channel)
        self._has_changed.set()

    def end(self) -> None:
        """The cancellation alone may be lost: in Python 3.11 `asyncio.wait_for`, by which the library sends, can
        return instead of raising it."""
        self.is_over = True
        self.task.cancel()

    async def run(self, open_channel: Callable[[], PubSub]) -> None:
        async with asyncio.TaskGroup() as tasks:
            pubsub: Any = open_channel()  # the library leaves some of its methods without types
            try:
                await pubsub.connect()
                writing = tasks.create_task(self._write(pubsub))
                try:
                    await self._read(pubsub)
                finally:
                    self._has_failed = True
                    self._has_changed.set()
                    writing.cancel()
            finally:
                await pubsub.aclose()

    def _is_ours(self, channel: str) -> bool:
        topic = self._topics.get(channel)
        return topic is not None and topic.line is self

    async def _write(self, pubsub: Any) -> None:
        while not self._has_failed:
            await self._has_changed.wait()
            self._has_changed.clear()
            changed, self._changed = self._changed, set()
            new = {channel for channel in changed if self._is_ours(channel)} - self._subscribed
            old = {channel for channel in changed & self._subscribed if not self._is_ours(channel)}
            self._subscribed |= new
            self._subscribed -= old
            self._leaving.update(old)
            for command, channels in ((self._commands.subscribe, new), (self._commands.unsubscribe, old)):
                for batch in _by_slot(channels):
                    await pubsub.execute_command(command, *batch)

    async def _read(self, pubsub: Any) -> None:
        is_asked = False
        while not self.is_over:
            message = await pubsub.get_message(timeout=self._timeout_s)
            if message is None:
                if is_asked:
                    raise RedisTimeoutError("Redis is silent.")
                is_asked = True
                await pubsub.execute_command("PING")
                continue
            is_asked = False
            self._take(message["type"], message["channel"])

    def _take(self, kind: str, channel: str) -> None:
        if kind == self._commands.unsubscribe.lower():
            if not self._leaving[channel]:
                raise RedisConnectionError("The slot of the channel has moved.")
            self._leaving[channel] -= 1
            if not self._leaving[channel]:
                del self._leaving[channel]
        elif topic := self._topics.get(channel):
            topic.tell()


def _by_slot(channels: Iterable[str]) -> Iterator[list[str]]:
    """The channels in batches of one hash tag each."""

    def tag(channel: str) -> str:
        return channel.partition("}")[0]

    for _, of_slot in groupby(sorted(channels, key=tag), tag):
        batch = list(of_slot)
        yield from (batch[start : start + _CHANNELS] for start in range(0, len(batch), _CHANNELS))
