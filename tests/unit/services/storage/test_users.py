"""Keys, reads and encodings of the store, on a real Redis."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignx.schemas.interactions import INTERACTION, PostInteraction
from alignx.schemas.summaries import Prequential, SummaryVersion
from services.errors import AlignXError, StoreUnavailable, UserUnknown, VersionUnknown
from services.profile.fold import fold
from services.profile.serialize import dumps
from services.profile.statistics import EMPTY
from services.settings import RedisSettings
from services.storage.connection import open_redis
from services.storage.key_names import KeySpace
from services.storage.users import NO_STAMP, Store, encode_interaction, encode_record, event_time
from tests.conftest import free_port

pytestmark = pytest.mark.anyio

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@asynccontextmanager
async def opened(url: str, shards: int = 4) -> AsyncIterator[Store]:
    async with asyncio.timeout(10), open_redis(RedisSettings(url=url, timeout_s=1)) as redis:
        yield Store(redis, shards)


# --- keys ----------------------------------------------------------------------------------------


@given(tenant=IDS, user=IDS, other_tenant=IDS, other_user=IDS)
def test_no_two_users_share_a_key(tenant: str, user: str, other_tenant: str, other_user: str) -> None:
    keys = KeySpace(8)
    one, other = keys.user(tenant, user), keys.user(other_tenant, other_user)
    assert KeySpace.split_member(one.member) == (tenant, user)
    own = [one.log, one.state, one.profile, one.summary, one.versions, one.dead, one.idempotency, one.live, one.calls]
    assert len(set(own)) == len(own)
    if (tenant, user) != (other_tenant, other_user):
        assert one.member != other.member
        assert not set(own) & {other.log, other.state, other.profile, other.summary, other.versions, other.live}
    tag = f"pi:{{{keys.shard(tenant, user)}}}:"
    # One hash tag for all, which no id can forge: every key of a script lives in one slot of a cluster.
    assert all(key.startswith(tag) and key.count("{") == 1 for key in [*own, one.ready, one.leases, one.quality])


def test_the_names_of_a_users_keys() -> None:
    keys = KeySpace(16).user("acme", "a:{b}/ä")
    assert (keys.member, keys.ready) == ("acme:a%3A%7Bb%7D%2F%C3%A4", "pi:{14}:ready")
    assert keys.log == "pi:{14}:u:acme:a%3A%7Bb%7D%2F%C3%A4:log"


def test_shards_are_used_evenly() -> None:
    keys = KeySpace(8)
    counts = [0] * 8
    for number in range(4_000):
        counts[keys.shard("acme", f"user{number}")] += 1
    assert min(counts) > 400


async def test_the_number_of_shards_is_kept(redis_url: str) -> None:
    async with opened(redis_url, shards=4) as store:
        await store.claim_shards()
        await store.claim_shards()
    async with opened(redis_url, shards=8) as store:
        with pytest.raises(AlignXError, match=re.escape("is 8, but this Redis holds 4")):
            await store.claim_shards()


# --- reads ---------------------------------------------------------------------------------------


async def test_an_unknown_user_has_nothing(redis_url: str) -> None:
    async with opened(redis_url) as store:
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
        assert await store.dead_letters("acme", "ada", None, 5) == []
        assert await store.tenant_quality("acme") == {}


async def test_state_reads_the_small_numbers_and_what_is_missing_is_zero(redis_url: str) -> None:
    async with opened(redis_url) as store:
        redis: Any = store.redis
        key = store.keys.user("acme", "ada").state
        await redis.hset(key, "born", "5")
        state = await store.state("acme", "ada")
        assert (state.born, state.events, state.pending, state.version, state.cursor) == ("5", 0, 0, 0, "0-0")
        sums = {"profile.n": 3, "profile.ok": 2.5, "profile.p": 2.1}
        await redis.hset(key, mapping={"n": 7, "pend": 2, "cur": "5-0", **sums})
        state = await store.state("acme", "ada")
        assert (state.events, state.pending, state.cursor) == (7, 2, "5-0")
        assert state.quality == {
            "profile": Prequential(comparisons=3, accuracy=0.8333, low=0.31, high=0.9823, mean_probability=0.7)
        }


async def test_the_stamp_changes_with_every_write_of_the_profile(redis_url: str) -> None:
    async with opened(redis_url) as store:
        redis: Any = store.redis
        keys = store.keys.user("acme", "ada")
        await redis.set(keys.profile, dumps(EMPTY))
        await redis.hset(keys.state, mapping={"born": 5, "n": 2})
        assert await store.profile("acme", "ada") == ("5:2:0", EMPTY)
        await redis.hset(keys.state, "edits", 1)
        assert (await store.profile("acme", "ada"))[0] == "5:2:1"


async def test_the_profile_is_the_summary_until_a_version_is(redis_url: str) -> None:
    async with opened(redis_url) as store:
        redis: Any = store.redis
        keys = store.keys.user("acme", "ada")
        await redis.hset(keys.state, mapping={"born": 5, "n": 3, "pend": 3})
        found = await store.preferences("acme", "ada")
        assert (found.version, found.source, found.user) == (0, "profile", "ada")
        assert (found.pending, found.events_total, found.events.count, found.quality) == (3, 3, 3, {})
        await redis.set(keys.summary, encode_record(_version(2)))
        await redis.hset(keys.state, mapping={"ver": 2, "pend": 1})
        found = await store.preferences("acme", "ada")
        assert (found.version, found.text, found.pending, found.events_total) == (2, "text 2", 1, 3)
        with pytest.raises(UserUnknown):
            await store.preferences("other", "ada")


async def test_versions_are_read_newest_first_with_the_current_one(redis_url: str) -> None:
    async with opened(redis_url) as store:
        redis: Any = store.redis
        keys = store.keys.user("acme", "ada")
        records = {n: encode_record(_version(n)) for n in range(3, 7)}
        await redis.hset(keys.state, mapping={"born": "1", "ver": "6"})
        await redis.set(keys.summary, records[6])
        await redis.hset(keys.versions, mapping={str(n): records[n] for n in (3, 4, 5)})
        assert [v.version for v in await store.versions("acme", "ada", None, 9)] == [6, 5, 4, 3]
        assert [v.version for v in await store.versions("acme", "ada", 6, 2)] == [5, 4]
        assert [v.version for v in await store.versions("acme", "ada", 10**30, 1)] == [6]
        assert await store.versions("acme", "ada", 1, 9) == []
        assert (await store.version("acme", "ada", 6)).text == "text 6"
        for number in (2, 7, 10**30):
            with pytest.raises(VersionUnknown):
                await store.version("acme", "ada", number)


async def test_events_are_read_from_either_end(redis_url: str) -> None:
    async with opened(redis_url) as store:
        log = store.keys.user("acme", "ada").log
        redis: Any = store.redis
        ids = [await redis.xadd(log, {"d": encode_interaction(PostInteraction(text=f"p{n}"))}) for n in range(5)]
        assert [e.event_id for e in await store.events("acme", "ada", ids[1], 2)] == ids[2:4]
        assert [e.event_id for e in await store.events_before("acme", "ada", "+", 2)] == ids[3:]
        assert [e.event_id for e in await store.events_before("acme", "ada", f"({ids[3]}", 2)] == ids[1:3]
        assert await store.first_id("acme", "ada", ids[0]) == ids[1]
        received = (await store.events("acme", "ada", None, 1))[0].received_at
        assert abs((datetime.now(UTC) - received).total_seconds()) < 60


async def test_the_first_id_needs_no_readable_event(redis_url: str) -> None:
    async with opened(redis_url) as store:
        await store.redis.xadd(store.keys.user("acme", "ada").log, {"d": "{broken"}, id="7-1")
        assert await store.first_id("acme", "ada", "0-0") == "7-1"
        assert await store.first_id("acme", "ada", "7-1") == ""


async def test_dead_letters_come_in_pages_readable_or_not(redis_url: str) -> None:
    async with opened(redis_url) as store:
        redis: Any = store.redis
        dead, post = store.keys.user("acme", "ada").dead, PostInteraction(text="p")
        await redis.xadd(dead, {"id": "1-0", "d": encode_interaction(post), "error": "too long"}, id="9000-0")
        await redis.xadd(dead, {"id": "2-0", "d": "{broken", "error": "ValueError"}, id="9001-0")
        (place, first), (_, second) = await store.dead_letters("acme", "ada", None, 10)
        assert (first.event_id, first.error, first.interaction) == ("1-0", "too long", post)
        assert (place, first.failed_at) == ("9000-0", event_time("9000-0"))
        assert (second.event_id, second.interaction) == ("2-0", None)
        assert await store.dead_letters("acme", "ada", place, 10) == [("9001-0", second)]


async def test_a_tenants_quality_is_summed_over_its_shards(redis_url: str) -> None:
    async with opened(redis_url) as store:
        redis: Any = store.redis
        for shard in range(2):
            sums = {"a%3Ab:profile.n": 2, "a%3Ab:profile.ok": 1 + shard / 2, "a%3Ab:profile.p": 1.1, "b:profile.n": 9}
            await redis.hset(store.keys.shard_prefix(shard) + "quality", mapping=sums)
        await redis.hset("pi:{1}:quality", mapping={"a%3Ab:engine.n": 1, "a%3Ab:engine.ok": 1, "a%3Ab:engine.p": 0.9})
        assert await store.tenant_quality("a:b") == {
            "profile": Prequential(comparisons=4, accuracy=0.625, low=0.2194, high=0.9081, mean_probability=0.55),
            "engine": Prequential(comparisons=1, accuracy=1.0, low=0.2065, high=1.0, mean_probability=0.9),
        }


# --- outages -------------------------------------------------------------------------------------


async def test_a_redis_that_does_not_answer_is_unavailable() -> None:
    async with opened(f"redis://127.0.0.1:{free_port()}/0") as store:
        with pytest.raises(StoreUnavailable):
            await store.ready()


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


async def test_a_profile_of_another_release_is_folded_anew(redis_url: str) -> None:
    async with opened(redis_url) as store:
        keys = store.keys.user("acme", "ada")
        events = [PostInteraction(text=f"Bread number {n} rose well.") for n in range(3)]
        expected = EMPTY
        for event in events:
            event_id = await store.redis.xadd(keys.log, {"d": encode_interaction(event)})
            expected, _ = fold(expected, event, event_time(event_id))
        await store.redis.hset(keys.state, mapping={"born": 1, "n": 3})
        await store.redis.set(keys.profile, '{"v": -1}')
        assert (await store.profile("acme", "ada"))[1] == expected
