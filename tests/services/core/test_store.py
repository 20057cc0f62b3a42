"""Keys, reads and encodings of the store, on a real Redis."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import AlignXError, StoreUnavailable, UserUnknown, VersionUnknown
from services.core.schemas import INTERACTION, PostInteraction, SummaryVersion
from services.core.settings import RedisSettings
from services.core.store import (
    NO_STAMP,
    KeySpace,
    Store,
    encode_interaction,
    encode_record,
    event_time,
    open_redis,
)
from tests.conftest import free_port

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def run(url: str, test: Callable[[Store], Awaitable[None]], shards: int = 4) -> None:
    async def main() -> None:
        async with asyncio.timeout(10), open_redis(RedisSettings(url=url, timeout_s=1)) as redis:
            await test(Store(redis, shards))

    asyncio.run(main())


# --- keys ----------------------------------------------------------------------------------------


@given(tenant=IDS, user=IDS, other_tenant=IDS, other_user=IDS)
def test_no_two_users_share_a_key(tenant: str, user: str, other_tenant: str, other_user: str) -> None:
    keys = KeySpace(8)
    one, other = keys.user(tenant, user), keys.user(other_tenant, other_user)
    assert KeySpace.split_member(one.member) == (tenant, user)
    own = [one.log, one.state, one.profile, one.summary, one.versions, one.dead, one.idempotency, one.live]
    assert len(set(own)) == len(own)
    if (tenant, user) != (other_tenant, other_user):
        assert one.member != other.member
        assert not set(own) & {other.log, other.state, other.profile, other.summary, other.versions, other.live}
    tag = f"pi:{{{keys.shard(tenant, user)}}}:"
    # One hash tag for all, which no id can forge: every key of a script lives in one slot of a cluster.
    assert all(key.startswith(tag) and key.count("{") == 1 for key in [*own, one.ready, one.leases, one.quality])


def test_shards_are_used_evenly() -> None:
    keys = KeySpace(8)
    counts = [0] * 8
    for number in range(4_000):
        counts[keys.shard("acme", f"user{number}")] += 1
    assert min(counts) > 400


def test_the_number_of_shards_is_kept(redis_url: str) -> None:
    async def first(store: Store) -> None:
        await store.claim_shards()
        await store.claim_shards()

    async def second(store: Store) -> None:
        with pytest.raises(AlignXError, match=re.escape("is 8, but this Redis holds 4")):
            await store.claim_shards()

    run(redis_url, first, shards=4)
    run(redis_url, second, shards=8)


# --- reads ---------------------------------------------------------------------------------------


def test_an_unknown_user_has_nothing(redis_url: str) -> None:
    async def test(store: Store) -> None:
        for read in (store.state, store.preferences):
            with pytest.raises(UserUnknown):
                await read("acme", "ada")
        with pytest.raises(UserUnknown):
            await store.version("acme", "ada", 1)
        with pytest.raises(UserUnknown):
            await store.versions("acme", "ada", None, 5)
        assert (await store.profile("acme", "ada"))[0] == NO_STAMP
        assert await store.events("acme", "ada", None, 5) == []
        assert await store.first_id("acme", "ada", "0-0") == ""
        assert await store.tenant_quality("acme") == {}

    run(redis_url, test)


def test_versions_are_read_newest_first_with_the_current_one(redis_url: str) -> None:
    async def test(store: Store) -> None:
        keys = store.keys.user("acme", "ada")
        records = {n: encode_record(_version(n)) for n in range(3, 7)}
        await store.redis.hset(keys.state, mapping={"born": "1", "ver": "6"})
        await store.redis.set(keys.summary, records[6])
        await store.redis.hset(keys.versions, mapping={str(n): records[n] for n in (3, 4, 5)})
        assert [v.version for v in await store.versions("acme", "ada", None, 9)] == [6, 5, 4, 3]
        assert [v.version for v in await store.versions("acme", "ada", 6, 2)] == [5, 4]
        assert [v.version for v in await store.versions("acme", "ada", 10**30, 1)] == [6]
        assert await store.versions("acme", "ada", 1, 9) == []
        assert (await store.version("acme", "ada", 6)).text == "text 6"
        for number in (2, 7, 10**30):
            with pytest.raises(VersionUnknown):
                await store.version("acme", "ada", number)

    run(redis_url, test)


def test_events_are_read_from_either_end(redis_url: str) -> None:
    async def test(store: Store) -> None:
        log = store.keys.user("acme", "ada").log
        ids = [await store.redis.xadd(log, {"d": encode_interaction(PostInteraction(text=f"p{n}"))}) for n in range(5)]
        assert [e.event_id for e in await store.events("acme", "ada", ids[1], 2)] == ids[2:4]
        assert [e.event_id for e in await store.events_before("acme", "ada", "+", 2)] == ids[3:]
        assert [e.event_id for e in await store.events_before("acme", "ada", f"({ids[3]}", 2)] == ids[1:3]
        assert await store.first_id("acme", "ada", ids[0]) == ids[1]
        received = (await store.events("acme", "ada", None, 1))[0].received_at
        assert abs((datetime.now(UTC) - received).total_seconds()) < 60

    run(redis_url, test)


# --- outages -------------------------------------------------------------------------------------


def test_a_redis_that_does_not_answer_is_unavailable() -> None:
    async def test(store: Store) -> None:
        with pytest.raises(StoreUnavailable):
            await store.ready()

    run(f"redis://127.0.0.1:{free_port()}/0", test)


# --- encodings -----------------------------------------------------------------------------------


def test_what_is_stored_is_what_is_read() -> None:
    version = _version(3)
    assert SummaryVersion.model_validate_json(encode_record(version)) == version
    assert "reasoning" not in encode_record(version)
    event = PostInteraction(text="naïve 😀", metadata={"a": None})
    assert INTERACTION.validate_json(encode_interaction(event)).text == event.text  # type: ignore[union-attr]
    assert event_time("1767225600000-3") == datetime(2026, 1, 1, tzinfo=UTC)


def _version(number: int) -> SummaryVersion:
    return SummaryVersion(version=number, text=f"text {number}", source="profile", created_at=datetime.now(UTC))
