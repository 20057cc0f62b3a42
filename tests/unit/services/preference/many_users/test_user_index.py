"""The list of a tenant's users: its order and pages, and that it holds exactly those of whom something is kept."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.errors import StoreUnavailable
from services.preference.many_users import user_index
from services.preference.many_users.user_index import UserIndex
from tests.unit.services.preference.rig import TENANT, Rig, opened, record

pytestmark = pytest.mark.anyio

NAMES = ["b", "B", "a", "a1", "a-2", "a b", "ä", "z", "😀", "日本", "~", "%41", "x:y", "*", "a\u00e9"]


async def all_names(index: UserIndex, limit: int, prefix: str = "", tenant: str = TENANT) -> list[str]:
    names: list[str] = []
    after: str | None = None
    while True:
        page = await index.page(tenant, prefix, after, limit)
        assert len(page.users) <= limit
        names += [user.user for user in page.users]
        if (after := page.next) is None:
            assert page.total == len(names)
            return names


async def fill(rig: Rig, names: list[str], tenant: str = TENANT, shard: int | None = None) -> None:
    """Users as a release with the index has written them."""
    pipe = rig.redis.pipeline(transaction=False)
    for name in names:
        keys = rig.keys(name, tenant)
        pipe.hset(keys.state, mapping={"born": 1, "n": 1})
        pipe.zadd(keys.index, {name: 0})
    await pipe.execute()


@pytest.mark.parametrize("limit", [1, 2, 5, 1_000])
async def test_pages_hold_each_user_once_in_the_order_of_code_points(redis_url: str, limit: int) -> None:
    async with opened(redis_url, {"shards": 5}) as rig:
        await fill(rig, NAMES)
        await fill(rig, ["of another tenant"], tenant="globex")
        index = UserIndex(rig.redis, rig.store.keys)
        assert await all_names(index, limit) == sorted(NAMES)
        for prefix in ("a", "a1", "é", "ä", "%", "日", "nobody"):
            assert await all_names(index, limit, prefix) == sorted(name for name in NAMES if name.startswith(prefix))


@pytest.mark.parametrize("seed", range(3))
async def test_pages_agree_with_a_sorted_list_however_users_are_spread(redis_url: str, seed: int) -> None:
    """Some shards hold most users, so the first question does not bring the whole page."""
    chance = random.Random(seed)
    async with opened(redis_url, {"shards": 7}) as rig:
        keys = rig.store.keys
        names = [f"{chance.choice('ab')}{number}" for number in chance.sample(range(5_000), 900)]
        names = [name for name in names if keys.shard(TENANT, name) in (0, 3) or chance.random() < 0.1]
        await fill(rig, names)
        index = UserIndex(rig.redis, keys)
        for limit in (1, 7, 100, 333):
            assert await all_names(index, limit) == sorted(names)
        assert await all_names(index, 50, "b1") == sorted(name for name in names if name.startswith("b1"))


async def test_after_need_not_be_a_user(rig: Rig) -> None:
    await fill(rig, ["a", "c", "pa", "pb"])
    index = UserIndex(rig.redis, rig.store.keys)

    async def names(prefix: str, after: str) -> list[str]:
        return [user.user for user in (await index.page(TENANT, prefix, after)).users]

    assert await names("", "b") == ["c", "pa", "pb"]
    assert await names("p", "a") == ["pa", "pb"]
    assert await names("p", "pa") == ["pb"]
    assert await names("p", "q") == []


async def test_an_append_lists_and_an_erasure_unlists(rig: Rig) -> None:
    index = UserIndex(rig.redis, rig.store.keys)
    await rig.put("a", "b", user="ada")
    await rig.put("c", user="bob")
    await rig.put("d", user="bob", tenant="globex")
    assert await all_names(index, 10) == ["ada", "bob"]
    await rig.queue.forget(TENANT, "bob")
    assert await all_names(index, 10) == ["ada"]
    assert await all_names(index, 10, tenant="globex") == ["bob"]
    await rig.queue.forget(TENANT, "ada")
    await rig.queue.forget("globex", "bob")
    assert [key async for key in rig.redis.scan_iter("pi:*:users:*")] == []


async def test_a_text_of_one_s_own_lists_a_new_user(rig: Rig) -> None:
    assert await rig.queue.edit(TENANT, "eve", 0, record("I like tea."))
    page = await UserIndex(rig.redis, rig.store.keys).page(TENANT)
    assert [(user.user, user.events, user.version) for user in page.users] == [("eve", 0, 1)]


async def test_what_is_said_of_a_user(rig: Rig) -> None:
    index = UserIndex(rig.redis, rig.store.keys)
    await rig.put("a", "b")
    (before,) = (await index.page(TENANT)).users
    assert (before.events, before.pending, before.version, before.updated_at) == (2, 2, 0, None)
    await rig.make_due()
    await rig.commit(await rig.take())
    await rig.put("c")
    (after,) = (await index.page(TENANT)).users
    assert (after.events, after.pending, after.version) == (3, 1, 1)
    assert after.created_at == before.created_at
    assert after.updated_at
    assert timedelta(0) <= datetime.now(UTC) - after.updated_at + timedelta(milliseconds=2) < timedelta(minutes=1)


async def test_a_user_who_is_erased_while_a_page_is_read_is_left_out(rig: Rig) -> None:
    await fill(rig, ["a", "b"])
    await rig.redis.delete(rig.keys("a").state)
    assert [user.user for user in (await UserIndex(rig.redis, rig.store.keys).page(TENANT)).users] == ["b"]


async def test_no_list_without_a_part_of_the_users(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def without_one(redis: Any, prefixes: dict[int, str], ask: Any) -> dict[int, list[Any]]:
        return {shard: [[], 0] for shard in list(prefixes)[1:]}

    monkeypatch.setattr(user_index, "ask_shards", without_one)
    async with opened(redis_url, {"shards": 3}) as rig:
        with pytest.raises(StoreUnavailable):
            await UserIndex(rig.redis, rig.store.keys).page(TENANT)
