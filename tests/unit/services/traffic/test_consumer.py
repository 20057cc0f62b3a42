"""Items of events are counted once, whatever breaks off, and taken out with their user; on a real Redis."""

import asyncio
import sys
from itertools import count
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from alignx.schemas.interactions import ClickInteraction, RatingInteraction
from services.preference.forgetting.about import About
from services.preference.forgetting.forget_events import forget_events
from services.storage.connection import Script
from services.traffic.items import item_key
from services.traffic.journal import MAX_LIKES
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.traffic.counting import NOW, Shop, bought, item, shop

pytestmark = pytest.mark.anyio


def clicked(number: int, *shown: int) -> ClickInteraction:
    return ClickInteraction(clicked=item(number), shown=tuple(map(item, shown)), occurred_at=NOW)


async def test_a_user_counts_once_an_item_however_often_an_event_arrives(redis_url: str) -> None:
    async with shop(redis_url) as here:
        for user in ("ada", "ben"):
            for _ in range(3):  # sent again by a caller without an idempotency key
                await here.send(user, [*bought(1, 2), RatingInteraction(item=item(3), value=1, occurred_at=NOW)])
                await here.count()
        await here.send("cy", [clicked(1, 1, 2, 4)])
        await here.count()
        for number, expected in ((1, (3, 3, 3, 3)), (2, (3, 2, 3, 2)), (3, (2, 0, 2, 0)), (4, (1, 0, 1, 0))):
            counts = await here.counts(number)
            assert counts is not None
            assert (counts.users, counts.likers, counts.shown, counts.taken) == expected
        assert (await here.together(1, 2), await here.together(2, 1), await here.together(1, 3)) == (2, 2, 0)


class Interruption:
    """Ends the connection at call `at` to a script of the items, before it is sent or before its answer."""

    def __init__(self, at: int, *, is_done: bool) -> None:
        self.at, self.is_done, self.calls = at, is_done, count()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run, run_each = Script.run, Script.run_each

        async def broken(self_: Script, *arguments: Any, **named: Any) -> Any:
            return await self.call(lambda: run(self_, *arguments, **named))

        async def broken_each(self_: Script, calls: Any) -> None:
            for one in calls:  # each bucket may be on a node of its own
                await self.call(lambda one=one: run_each(self_, [one]))

        monkeypatch.setattr(Script, "run", broken)
        monkeypatch.setattr(Script, "run_each", broken_each)

    async def call(self, send: Any) -> Any:
        is_last = next(self.calls) == self.at
        if is_last and not self.is_done:
            raise RedisConnectionError
        answer = await send()
        if is_last:
            raise RedisConnectionError
        return answer


async def test_a_forgotten_event_leaves_the_counts_and_the_others_stay(redis_url: str) -> None:
    async with shop(redis_url) as here:
        await here.send("ben", bought(1, 2, 3))
        await here.send("ada", bought(1, 2))
        await here.count()
        before = await here.dump()
        await here.send("ada", bought(3))
        await here.send("ada", bought(77))
        await here.count()
        store, queue = here.rig.store, here.rig.queue
        for about in ("i77", "i3"):
            assert len((await forget_events(store, queue, TENANT, "ada", About(about))).event_ids) == 1
        await here.count()
        assert await here.dump() == before
        assert [key async for key in here.rig.redis.scan_iter("*gone*")] == []


@pytest.mark.parametrize("is_done", [False, True])
async def test_what_breaks_off_anywhere_counts_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, *, is_done: bool
) -> None:
    events = bought(*range(12))
    async with shop(redis_url) as here:
        await here.send("ada", events[:6])
        await here.send("ben", events)
        await here.count()
        expected = await here.dump()
        for at in range(100):
            await here.rig.redis.flushall()
            for part, user in ((events[:6], "ada"), (events, "ben")):
                await here.send(user, part)
            broken = False
            with monkeypatch.context() as patch:
                Interruption(at, is_done=is_done).install(patch)
                try:
                    await here.count()
                except RedisConnectionError:
                    broken = True
            await here.count()
            assert await here.dump() == expected
            if not broken:
                break
        assert at > 20


async def test_several_consumers_count_an_event_once(redis_url: str) -> None:
    async with shop(redis_url) as here, shop(redis_url) as there:
        for user in range(20):
            await here.send(f"u{user}", bought(1, 2, 3))

        async def read(one: Shop) -> None:
            for _ in range(30):
                await one._make_due()
                await one.consumer.read_all()

        await asyncio.gather(read(here), read(there))
        await here.count()
        counts = await here.counts(1)
        assert counts is not None
        assert (counts.users, counts.shown, await here.together(1, 2)) == (20, 20, 20)


async def test_an_erased_user_leaves_nothing_in_the_counts(redis_url: str) -> None:
    async with shop(redis_url) as here:
        for user in ("ada", "ben"):
            await here.send(user, bought(1, 2, 3))
        await here.count()
        before = await here.dump()
        await here.send("secret-user", [*bought(2, 3, 77), clicked(5, 1, 6)])
        await here.count()
        assert await here.dump() != before
        await here.send("secret-user", bought(1))  # not counted yet
        await here.rig.queue.forget(TENANT, "secret-user")
        assert [key async for key in here.rig.redis.scan_iter("*secret*")] == []
        await here.count()
        assert await here.dump() == before
        assert [key async for key in here.rig.redis.scan_iter("*gone*")] == []
        unique = str(item_key(item(77)))
        async for key in here.rig.redis.scan_iter("*"):
            raw = await here.rig.redis.hgetall(key) if await here.rig.redis.type(key) == "hash" else ""
            assert unique not in f"{key} {raw}"
            assert "secret-user" not in f"{key} {raw}"


@pytest.mark.parametrize("is_done", [False, True])
async def test_an_erasure_that_breaks_off_is_subtracted_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, *, is_done: bool
) -> None:
    async with shop(redis_url) as here:
        await here.send("ada", bought(1, 2, 3))
        await here.count()
        expected = await here.dump()
        for at in range(100):
            await here.send("ben", bought(2, 3, 4))
            await here.count()
            await here.rig.queue.forget(TENANT, "ben")
            broken = False
            with monkeypatch.context() as patch:
                Interruption(at, is_done=is_done).install(patch)
                try:
                    await here.count()
                except RedisConnectionError:
                    broken = True
            await here.count()
            assert await here.dump() == expected
            if not broken:
                break
        assert at > 5


async def test_an_erasure_while_the_log_is_read_wins(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(redis_url) as here:
        await here.send("ada", bought(1, 2))
        look_up = here.consumer._look_up

        async def interrupted(*arguments: Any) -> Any:
            patch.undo()
            traffic = await look_up(*arguments)
            await here.rig.queue.forget(TENANT, "ada")
            await here.send("ada", bought(9))  # another user of the same name
            return traffic

        with monkeypatch.context() as patch:
            patch.setattr(here.consumer, "_look_up", interrupted)
            await here.count()
        assert await here.counts(1) is None
        nine = await here.counts(9)
        assert nine is not None
        assert nine.users == 1


async def test_what_leaves_a_full_journal_leaves_the_counts(redis_url: str) -> None:
    async with shop(redis_url) as here:
        await here.send("ada", bought(*range(MAX_LIKES)))
        await here.count()
        assert await here.together(0, 1) == 1
        await here.send("ada", bought(1_000))
        await here.count()
        assert await here.counts(0) is None
        assert await here.together(1, 0) == 0
        assert await here.together(1, 2) == 1


async def test_a_tenant_that_turns_it_off_has_nothing_counted(redis_url: str) -> None:
    async with shop(redis_url, traffic=False) as here:
        await here.send("ada", bought(1, 2))
        await here.count()
        assert await here.dump() == {}
        assert [key async for key in here.rig.redis.scan_iter("pi:*unread")] == []


async def test_histories_from_before_are_counted(redis_url: str) -> None:
    async with shop(redis_url) as here:
        await here.send("ada", bought(1))
        await here.send("ben", bought(1))
        for shard in range(here.rig.store.keys.shards):
            await here.rig.redis.delete(here.rig.store.keys.shard_prefix(shard) + "unread")
        await here.consumer.mark_histories()
        await here.count()
        counts = await here.counts(1)
        assert counts is not None
        assert counts.users == 2
        await here.consumer.mark_histories()  # once for good
        assert await here.consumer.read_all() == 0


async def test_a_consumer_that_is_killed_again_and_again_counts_an_event_once(redis_url: str) -> None:
    histories = {f"u{user}": bought(*range(user % 5, user % 5 + 12)) for user in range(200)}
    async with shop(redis_url, expires_s=120) as here:

        async def send() -> None:
            await here.rig.redis.flushall()
            for user, events in histories.items():
                await here.send(user, events)

        await send()
        await here.count()
        expected = await here.dump()
        await send()
        kills = 0
        while (counted := len(await here.journals())) < len(histories):
            code = "tests.unit.services.traffic.counting"
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", code, redis_url)
            try:
                while len(await here.journals()) < min(counted + 40, len(histories)):  # noqa: ASYNC110  # elsewhere
                    await asyncio.sleep(0.001)
            finally:
                process.kill()
                await process.wait()
            kills += 1
        await here.count()
        assert await here.dump() == expected
        assert kills >= 3
