"""Notices of what is new in live streams, from one Redis and from a cluster, and what a broken connection costs."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import RedisError

from services.preference.notices import Notices, Topic
from services.preference.queue import Queue
from services.settings import QueueSettings, RedisSettings, SummarySettings
from services.storage.connection import RedisClient, open_redis
from tests.redis_cluster import ClusterServers
from tests.unit.services.preference.rig import TENANT, OwnRedis, record
from tests.unit.services.preference.working import until

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("cluster")]  # one cluster for all

NEVER_S = 60.0
"""Longer than a test may take."""


class Writer:
    """Users whose live streams get new versions."""

    def __init__(self, redis: RedisClient) -> None:
        self.redis: Any = redis
        self.queue = Queue(redis, QueueSettings(shards=8), SummarySettings())
        self.versions: dict[str, int] = {}

    def channel(self, user: str) -> str:
        return self.queue.keys.user(TENANT, user).live

    async def write(self, user: str) -> None:
        version = self.versions.get(user, 0)
        await self.queue.edit(TENANT, user, version, record("Likes tea.", version + 1))
        self.versions[user] = version + 1


@asynccontextmanager
async def opened(settings: RedisSettings) -> AsyncIterator[tuple[Notices, Writer]]:
    async with (
        asyncio.timeout(NEVER_S),
        open_redis(settings) as redis,
        Notices.open(redis, settings.timeout_s) as notices,
    ):
        yield notices, Writer(redis)


async def subscribed(topic: Topic) -> None:
    """Returns once Redis has confirmed the subscription, which counts as the first notice."""
    await topic.wait(0, NEVER_S)


async def subscriptions(writer: Writer) -> int:
    """Clients that one Redis would tell of Ann."""
    return dict(await writer.redis.pubsub_numsub(writer.channel("ann")))[writer.channel("ann")]


async def test_each_follower_of_a_user_is_told_by_one_subscription(redis_url: str) -> None:
    async with opened(RedisSettings(url=redis_url)) as (notices, writer):
        with notices.follow(writer.channel("ann")) as one, notices.follow(writer.channel("ann")) as other:
            assert one is other
            await subscribed(one)
            assert await subscriptions(writer) == 1
            turn = one.turn
            waiting = [asyncio.create_task(one.wait(turn, NEVER_S)) for _ in range(3)]
            await asyncio.sleep(0)
            await writer.write("ann")
            await asyncio.gather(*waiting)
            assert one.turn == turn + 1


async def test_what_another_user_says_wakes_nobody(redis_url: str) -> None:
    async with opened(RedisSettings(url=redis_url)) as (notices, writer):
        with notices.follow(writer.channel("ann")) as ann, notices.follow(writer.channel("bob")) as bob:
            await subscribed(ann)
            await subscribed(bob)
            turns = ann.turn, bob.turn
            await writer.write("bob")
            await bob.wait(turns[1], NEVER_S)
            assert ann.turn == turns[0]


async def test_an_erasure_is_told(redis_url: str) -> None:
    async with opened(RedisSettings(url=redis_url)) as (notices, writer):
        await writer.write("ann")
        with notices.follow(writer.channel("ann")) as topic:
            await subscribed(topic)
            turn = topic.turn
            await writer.queue.forget(TENANT, "ann")
            await topic.wait(turn, NEVER_S)
            assert topic.turn == turn + 1


async def test_the_last_follower_ends_the_subscription_and_the_next_begins_one(redis_url: str) -> None:
    async with opened(RedisSettings(url=redis_url)) as (notices, writer):

        async def ended() -> bool:
            return await subscriptions(writer) == 0

        for _ in range(3):
            with notices.follow(writer.channel("ann")) as topic:
                await subscribed(topic)
                with notices.follow(writer.channel("ann")):
                    pass
                turn = topic.turn
                await writer.write("ann")
                await topic.wait(turn, NEVER_S)
            await until(ended)


async def test_who_comes_as_another_leaves_is_told(redis_url: str) -> None:
    async with opened(RedisSettings(url=redis_url)) as (notices, writer):
        with notices.follow(writer.channel("ann")) as topic:
            await subscribed(topic)
            first = topic.line
        for pause in range(20):
            with notices.follow(writer.channel("ann")) as topic:
                for _ in range(pause % 5):
                    await asyncio.sleep(0)
                turn = topic.turn
                await writer.write("ann")
                await topic.wait(turn, NEVER_S)
            for _ in range(pause):
                await asyncio.sleep(0)
        assert topic.line is first  # no subscription was taken for one that Redis has ended


async def test_it_closes_while_subscriptions_are_on_their_way(redis_url: str) -> None:
    for pause in range(30):
        async with opened(RedisSettings(url=redis_url)) as (notices, writer):
            for number in range(40):
                with notices.follow(writer.channel(f"user-{number}")):
                    await asyncio.sleep(0)
            for _ in range(pause):
                await asyncio.sleep(0)


async def test_thousands_share_a_connection(redis_url: str) -> None:
    async with opened(RedisSettings(url=redis_url)) as (notices, writer):
        channels = [writer.channel(f"user-{number}") for number in range(2_000)]
        before = (await writer.redis.info("clients"))["connected_clients"]
        follows = [notices.follow(channel) for channel in channels]
        topics = [follow.__enter__() for follow in follows]
        await asyncio.gather(*map(subscribed, topics))
        assert (await writer.redis.info("clients"))["connected_clients"] == before + 1
        turn = topics[-1].turn
        await writer.write("user-1999")
        await topics[-1].wait(turn, NEVER_S)
        for follow in follows:
            follow.__exit__(None, None, None)


async def written(writer: Writer, user: str) -> bool:
    """False while Redis cannot serve, or the nodes do not agree yet on who is there."""
    try:
        await writer.write(user)
    except RedisError:
        return False
    return True


async def told_again(writer: Writer, topic: Topic, user: str) -> None:
    """Returns once a new version is noticed: the subscription is back."""
    turn = topic.turn
    await topic.wait(turn, NEVER_S)  # the new subscription
    turn = topic.turn
    await until(lambda: written(writer, user))
    await topic.wait(turn, NEVER_S)


async def ready(writer: Writer) -> bool:
    try:
        return bool(await writer.redis.ping())
    except RedisError:
        return False


async def test_a_redis_that_restarts_is_followed_again(own_redis: OwnRedis) -> None:
    async with opened(RedisSettings(url=own_redis.url, timeout_s=1)) as (notices, writer):
        await until(lambda: ready(writer))
        await writer.write("ann")
        with notices.follow(writer.channel("ann")) as topic:
            await subscribed(topic)
            own_redis.stop()
            own_redis.start()
            await told_again(writer, topic, "ann")


async def test_a_redis_that_hangs_is_noticed_and_followed_again(own_redis: OwnRedis) -> None:
    async with opened(RedisSettings(url=own_redis.url, timeout_s=0.3)) as (notices, writer):
        await until(lambda: ready(writer))
        with notices.follow(writer.channel("ann")) as topic:
            await subscribed(topic)
            first = topic.line
            own_redis.process.send_signal(signal.SIGSTOP)
            while topic.line is first:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.05)
            own_redis.process.send_signal(signal.SIGCONT)
            await told_again(writer, topic, "ann")


# --- a cluster -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    with ClusterServers(tmp_path_factory.mktemp("cluster")).running() as running:
        yield running


@pytest.fixture
def cluster(servers: ClusterServers) -> ClusterServers:
    return servers.made_empty()


@asynccontextmanager
async def followed(
    cluster: ClusterServers, users: list[str]
) -> AsyncIterator[tuple[Notices, Writer, dict[str, Topic]]]:
    async with opened(RedisSettings(url=cluster.url, cluster=True, timeout_s=5)) as (notices, writer):
        await writer.redis.initialize()
        follows = {user: notices.follow(writer.channel(user)) for user in users}
        topics = {user: follow.__enter__() for user, follow in follows.items()}
        await asyncio.gather(*map(subscribed, topics.values()))
        yield notices, writer, topics
        for follow in follows.values():
            follow.__exit__(None, None, None)


USERS = [f"user-{number}" for number in range(24)]


async def test_a_cluster_tells_of_users_on_all_its_primaries(cluster: ClusterServers) -> None:
    async with followed(cluster, USERS) as (notices, writer, topics):
        assert len(notices._lines) == len({cluster.holder(writer.channel(user)) for user in USERS}) == 3
        turns = {user: topic.turn for user, topic in topics.items()}
        for user, topic in topics.items():
            await writer.write(user)
            await topic.wait(turns[user], NEVER_S)
        assert {user: topic.turn - turns[user] for user, topic in topics.items()} == dict.fromkeys(USERS, 1)


async def test_a_primary_that_restarts_is_followed_again_and_the_others_all_along(cluster: ClusterServers) -> None:
    async with followed(cluster, USERS) as (_, writer, topics):
        gone = cluster.holder(writer.channel(USERS[0]))
        others = [user for user in USERS if cluster.holder(writer.channel(user)) != gone]
        await asyncio.to_thread(cluster.kill, gone)
        for user in others:
            turn = topics[user].turn
            await until(lambda user=user: written(writer, user))  # type: ignore[misc]
            await topics[user].wait(turn, NEVER_S)
        await asyncio.to_thread(cluster.start, gone)
        await told_again(writer, topics[USERS[0]], USERS[0])


async def test_a_slot_that_moves_is_followed(cluster: ClusterServers) -> None:
    async with followed(cluster, ["ann"]) as (_, writer, topics):
        await writer.write("ann")
        channel, topic = writer.channel("ann"), topics["ann"]
        old = cluster.holder(channel)
        new = (old + 1) % 3
        with cluster.node(old) as node:
            keys = [key for key in node.keys("*") if cluster.holder(key) == old and key.startswith(channel[:6])]
        turn = topic.turn
        cluster.move(keys, old, new)
        try:
            await topic.wait(turn, NEVER_S)
            turn = topic.turn
            await writer.write("ann")
            await topic.wait(turn, NEVER_S)
        finally:
            with cluster.node(new) as node:
                keys = [key for key in node.keys("*") if key.startswith(channel[:6])]
            cluster.move(keys, new, old)
