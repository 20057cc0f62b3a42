"""The contract of each script, on a real Redis. What any order of calls must keep true is in test_queue_model.py."""

import asyncio
import random

import pytest

from alignx.schemas.interactions import StatementInteraction
from services.engine.choice.fusion import Comparison, LogOdds, add, additions
from services.errors import BacklogFull, IdempotencyMismatch, QueueFull, StaleVersion, UserUnknown
from services.preference.forgetting.trim_log import LEAST, trim_log
from services.preference.queue import SCRIPTS
from services.preference.queue_records import Append, PrequentialSums
from services.profile.serialize import dumps
from services.profile.statistics import EMPTY
from services.storage.connection import read_script
from services.storage.prequential import encode_window
from tests.unit.services.preference.rig import TENANT, USER, Rig, opened, record, statement

pytestmark = pytest.mark.anyio

# --- append --------------------------------------------------------------------------------------


async def test_append_replays_a_key_and_refuses_another_body(rig: Rig) -> None:
    first = await rig.put("a", "b", idempotency_key="k", digest="d1")
    # A replay is known before the stamp is looked at: the profile may have moved on since.
    again = await rig.put("a", "b", idempotency_key="k", digest="d1", stamp="9:9:9")
    assert again.ids == first.ids
    assert again.replayed
    assert not first.replayed
    with pytest.raises(IdempotencyMismatch):
        await rig.put("x", idempotency_key="k", digest="d2")
    other = await rig.put("a", user="bob", idempotency_key="k", digest="d9")
    assert not other.replayed  # a key belongs to one user
    assert await rig.redis.xlen(rig.keys().log) == 2


async def test_an_expired_key_is_new_again_and_old_keys_are_pruned(rig: Rig) -> None:
    idem = rig.keys().idempotency
    await rig.put("a", idempotency_key="k", digest="d1")
    await rig.redis.hset(idem, mapping={f"old{n}": "1 d 1-1" for n in range(20)} | {"k": "1 d1 1-1"})
    fresh = await rig.put("b", idempotency_key="k", digest="d2")
    assert not fresh.replayed
    for n in range(60):
        await rig.put("c", idempotency_key=f"new{n}", digest="d")
    kept = await rig.redis.hkeys(idem)
    assert sum(name.startswith("old") for name in kept) < 10
    assert sum(name.startswith("new") for name in kept) == 60
    assert 0 < await rig.redis.pttl(idem) <= 86_400_000


async def test_append_is_refused_when_the_profile_is_not_from_this_state(rig: Rig) -> None:
    await rig.put("a")
    raw = dumps(EMPTY)
    moved = await rig.queue.append(TENANT, USER, Append([statement("b")], "0:0:0", raw))
    assert moved is None
    stale, _ = await rig.store.profile(TENANT, USER)
    await rig.queue.forget(TENANT, USER)
    moved = await rig.queue.append(TENANT, USER, Append([statement("b")], stale, raw))
    assert moved is None
    assert await rig.user_keys() == []


async def test_a_hand_written_profile_moves_the_stamp(rig: Rig) -> None:
    """An edit folds into the profile without adding an event; an append that began before must see it."""
    await rig.put("a")
    stamp, _ = await rig.store.profile(TENANT, USER)
    raw = dumps(EMPTY)
    assert await rig.queue.edit(TENANT, USER, 0, record("mine"), stamp=stamp, profile=raw)
    late = await rig.queue.append(TENANT, USER, Append([statement("b")], stamp, raw))
    assert late is None
    assert (await rig.put("b")).pending == 2


async def test_a_full_shard_refuses_new_users_only(redis_url: str) -> None:
    async with opened(redis_url, shard_backlog=2) as rig:
        await rig.put("a")
        await rig.put("a", user="bob")
        with pytest.raises(QueueFull):
            await rig.put("a", user="cy")
        assert (await rig.put("b")).pending == 2
        assert await rig.fields("cy") == {}


async def test_an_update_waits_for_quiet_but_not_for_ever(redis_url: str) -> None:
    async with opened(redis_url, debounce_ms=400, max_wait_ms=1_000) as rig:
        before = await rig.now()
        await rig.put("a")
        left, began = await rig.due_in(), await rig.now()
        assert 399 - (began - before) <= (left or 0) <= 400
        await rig.redis.hset(rig.keys().state, "t0", began - 700)  # the first of them came 700 ms ago
        await rig.put("b")
        assert (await rig.due_in() or 0) <= 300
        await rig.put("c", at_once=True)
        assert (await rig.due_in() or 0) <= 0


# --- claim, beat ---------------------------------------------------------------------------------


async def test_names_with_separators_stay_apart(rig: Rig) -> None:
    await rig.put("one", user="b:{c}%", tenant="a")
    await rig.put("two", user="{c}%", tenant="a:b")
    keys = rig.keys("b:{c}%", "a")
    await rig.redis.zadd(keys.ready, {keys.member: 1})
    claim = await rig.take("b:{c}%", "a")
    assert await rig.texts(claim.user, "a") == ["one"]
    await rig.queue.forget("a", "b:{c}%")
    assert (await rig.store.state("a:b", "{c}%")).events == 1


async def test_a_silent_worker_loses_its_user(rig: Rig) -> None:
    await rig.put("a")
    slow = await rig.take()
    await rig.expire(slow)
    assert await rig.queue.due_shards() == [0]
    expired, claim = await rig.queue.claim(0, "other")
    assert expired == 1
    assert claim is not None
    assert int(claim.token) > int(slow.token)
    assert not await rig.queue.beat(slow)
    assert not await rig.queue.publish(slow, "delta", "{}")
    assert not await rig.commit(slow)
    assert await rig.queue.fail(slow, "release") == "FENCED"
    assert await rig.queue.beat(claim)
    assert await rig.commit(claim, "by the other")
    assert (await rig.store.preferences(TENANT, USER)).text == "by the other"


async def test_a_beat_extends_the_lease(redis_url: str) -> None:
    async with opened(redis_url, lease_ms=5_000, heartbeat_ms=1_000) as rig:
        await rig.put("a")
        claim = await rig.take()
        await rig.expire(claim)
        assert await rig.queue.beat(claim)
        left = (await rig.redis.zscore(rig.keys().leases, claim.member) or 0) - await rig.now()
        assert 4_000 < left <= 5_000
        assert (await rig.queue.claim(0, "other")) == (0, None)


async def test_one_tenant_does_not_take_every_worker(redis_url: str) -> None:
    async with opened(redis_url, tenant_in_flight=2) as rig:
        for n in range(4):
            await rig.put("a", user=f"u{n}", tenant="hot")
        await rig.put("a", user="v", tenant="calm")
        claims = [(await rig.queue.claim(0, "worker"))[1] for _ in range(4)]
        tenants = [claim.tenant for claim in claims if claim]
        assert sorted(tenants) == ["calm", "hot", "hot"]
        first = next(claim for claim in claims if claim and claim.tenant == "hot")
        assert await rig.commit(first)
        await rig.make_due()
        assert (await rig.queue.claim(0, "worker"))[1] is not None


async def test_depth_tells_how_many_wait_and_how_late(redis_url: str) -> None:
    async with opened(redis_url, shards=4) as rig:
        assert await rig.queue.depth() == (0, 0.0)
        await rig.put("a")
        await rig.put("a", user="bob")
        keys = rig.keys()
        await rig.redis.zadd(keys.ready, {keys.member: await rig.now() - 30_000})
        waiting, overdue = await rig.queue.depth()
        assert waiting == 2
        assert 28 < overdue < 32


# --- commit --------------------------------------------------------------------------------------


async def test_a_token_of_a_claim_that_was_lost_is_not_given_again(rig: Rig) -> None:
    """A replica took over that had not heard of the claim yet."""
    keys = rig.keys()
    ids = (await rig.put("a")).ids
    counter, state = await rig.redis.get(keys.token), await rig.redis.hgetall(keys.state)
    lost = await rig.take()
    await rig.redis.delete(keys.token, keys.state, keys.leases)
    if counter:
        await rig.redis.set(keys.token, counter)
    await rig.redis.hset(keys.state, mapping=state)
    await rig.redis.zadd(keys.ready, {keys.member: 1})
    await asyncio.sleep(0.002)  # the clock goes on
    held = await rig.take()
    assert not await rig.queue.beat(lost)
    assert not await rig.queue.commit(lost, record("lost"), ids[0], 1)
    assert await rig.queue.commit(held, record("held"), ids[0], 1)


@pytest.mark.parametrize("counted", [0, 1, 5])
async def test_a_wrong_count_is_set_right_by_the_log(rig: Rig, counted: int) -> None:
    ids = (await rig.put("a", "b", "c")).ids
    claim = await rig.take()
    await rig.redis.hset(rig.keys().state, "pend", counted)
    assert await rig.queue.commit(claim, record("s"), ids[1], 2)
    assert (await rig.store.preferences(TENANT, USER)).pending == max(1, counted - 2)
    assert await rig.due_in() is not None  # the third is not forgotten
    await rig.redis.hset(rig.keys().state, "pend", 0)
    assert await rig.queue.commit(await rig.take(), record("t", 2), ids[2], 1)
    assert (await rig.store.preferences(TENANT, USER)).pending == 0
    assert await rig.idle()


async def test_a_count_below_zero_is_read_as_none(rig: Rig) -> None:
    await rig.put("a")
    await rig.redis.hset(rig.keys().state, "pend", -2)
    assert (await rig.store.preferences(TENANT, USER)).pending == 0


async def test_commit_keeps_the_newest_versions_and_events(redis_url: str) -> None:
    async with opened(redis_url, summary={"keep_versions": 3, "keep_events": 200}) as rig:
        for n in range(1, 6):
            await rig.put(*[f"{n}"] * 150)
            assert await rig.commit(await rig.take(), f"v{n}")
            await trim_log(rig.store, rig.queue, TENANT, USER)
        assert [v.version for v in await rig.store.versions(TENANT, USER, None, 9)] == [5, 4, 3]
        assert 200 <= await rig.redis.xlen(rig.keys().log) < 200 + LEAST


async def test_waiting_events_outlive_the_trimming(redis_url: str) -> None:
    async with opened(redis_url, summary={"keep_events": 1}) as rig:
        ids = (await rig.put(*map(str, range(400)))).ids
        claim = await rig.take()
        assert await rig.queue.commit(claim, record("s"), ids[150], 151)
        await trim_log(rig.store, rig.queue, TENANT, USER)
        events = await rig.store.events(TENANT, USER, None, 1_000)
        assert [event.event_id for event in events] == list(ids[150:])


# --- rebuild, edit -------------------------------------------------------------------------------


async def test_a_rebuild_asked_for_meanwhile_is_made_again(rig: Rig) -> None:
    await rig.put("a")
    await rig.queue.request_rebuild(TENANT, USER)
    claim = await rig.take()
    await rig.queue.request_rebuild(TENANT, USER)
    assert await rig.commit(claim)
    second = await rig.take()
    assert second.rebuild not in ("", claim.rebuild)
    assert await rig.commit(second)
    assert await rig.idle()


async def test_a_rebuild_never_moves_the_cursor_back(redis_url: str) -> None:
    async with opened(redis_url, data_retries=1) as rig:
        ids = (await rig.put("a", "poison")).ids
        assert await rig.queue.commit(await rig.take(), record("s"), ids[0], 1)
        claim = await rig.take()
        assert await rig.queue.fail(claim, "data", first_id=ids[1], batch=1, error="e") == "DEAD"
        await rig.redis.delete(rig.keys().dead)  # else it would be tried again
        await rig.queue.request_rebuild(TENANT, USER)
        claim = await rig.take()
        assert claim.last_id == ids[1]
        assert await rig.commit(claim)
        assert (await rig.store.state(TENANT, USER)).cursor == ids[1]


async def test_edit_needs_the_version_it_was_made_from(rig: Rig) -> None:
    assert await rig.queue.edit(TENANT, USER, 0, record("one"))
    with pytest.raises(StaleVersion) as stale:
        await rig.queue.edit(TENANT, USER, 0, record("two"))
    assert stale.value.extensions == {"current_version": 1}
    assert not await rig.queue.edit(TENANT, USER, 1, record("two", 2), stamp="0:0:0", profile=b"x")
    assert (await rig.store.preferences(TENANT, USER)).text == "one"


# --- fail ----------------------------------------------------------------------------------------


async def test_an_engine_fault_costs_time_only(redis_url: str) -> None:
    async with opened(redis_url, backoff_ms=500, backoff_max_ms=3_000) as rig:
        await rig.put("a")
        for delay in (500, 1_000, 2_000, 3_000, 3_000):
            await rig.make_due()
            claim, before = await rig.take(), await rig.now()
            assert await rig.queue.fail(claim, "engine") == "RETRY"
            left = await rig.due_in()
            assert delay - 1 - (await rig.now() - before) <= (left or 0) <= delay
        await rig.put("b", at_once=True)  # new events do not make the engine well
        assert (await rig.due_in() or 0) > 2_000
        await rig.make_due()
        claim = await rig.take()
        assert (claim.pending, claim.cap, claim.suspect) == (2, 0, False)
        assert await rig.commit(claim)
        assert not {"strikes", "hold"} & set(await rig.fields())


async def test_a_data_fault_narrows_down_to_its_event(redis_url: str) -> None:
    async with opened(redis_url, data_retries=2) as rig:
        ids = (await rig.put("poison", "b", "c", "d")).ids
        outcomes = []
        size = 4
        for _ in range(6):
            claim = await rig.take()
            size = claim.cap or size
            outcomes.append(await rig.queue.fail(claim, "data", first_id=ids[0], batch=size, error="it broke"))
        assert outcomes == ["RETRY", "HALVED", "RETRY", "HALVED", "RETRY", "DEAD"]
        letters = await rig.store.dead_letters(TENANT, USER, None, 10)
        assert [(letter.event_id, letter.error) for _, letter in letters] == [(ids[0], "it broke")]
        assert letters[0][1].interaction == StatementInteraction(text="poison")
        claim = await rig.take()
        assert (claim.cursor, claim.pending, claim.cap) == (ids[0], 3, 0)
        assert await rig.texts() == ["b", "c", "d"]


async def test_an_event_that_is_refused_alone_is_set_aside_at_last(redis_url: str) -> None:
    async with opened(redis_url, data_retries=2, event_failures=3) as rig:
        ids = (await rig.put("poison", "b")).ids
        words = []
        for _ in range(6):
            await rig.make_due()
            claim = await rig.take()
            words.append(await rig.queue.fail(claim, "refusal", first_id=ids[0], batch=claim.cap or 2, error="no"))
        assert words == ["RETRY", "HALVED", "RETRY", "RETRY", "DEAD", "RETRY"]
        assert [letter.event_id for _, letter in await rig.store.dead_letters(TENANT, USER, None, 9)] == [ids[0]]


# --- dead letters --------------------------------------------------------------------------------


async def set_aside(rig: Rig, *texts: str) -> list[str]:
    """Each text as a dead letter; their event ids."""
    ids = (await rig.put(*texts)).ids
    for event_id in ids:
        await rig.make_due()
        assert await rig.queue.fail(await rig.take(), "data", first_id=event_id, batch=1, error="e") == "DEAD"
    return list(ids)


async def test_a_retry_wakes_its_user_and_keeps_the_backlog(redis_url: str) -> None:
    async with opened(redis_url, data_retries=1, user_backlog=2) as rig:
        await set_aside(rig, "a", "b")
        assert await rig.idle()
        await rig.put("c")
        assert (await rig.queue.retry_dead_letters(TENANT, USER, ()))[0] == 2, "as many as there is room for"
        with pytest.raises(BacklogFull):
            await rig.queue.retry_dead_letters(TENANT, USER, ())
        assert len(await rig.store.dead_letters(TENANT, USER, None, 9)) == 1
        assert await rig.commit(await rig.take())
        assert (await rig.queue.retry_dead_letters(TENANT, USER, ()))[0] == 1
        assert (await rig.take()).pending == 1
        with pytest.raises(UserUnknown):
            await rig.queue.retry_dead_letters(TENANT, "nobody", ())


async def test_a_batch_that_kills_its_worker_is_halved_and_its_event_suspected(redis_url: str) -> None:
    async with opened(redis_url, data_retries=2) as rig:
        await rig.put("poison", "b", "c", "d")
        caps = []
        await rig.put("innocent", user="bob")
        while True:
            await rig.make_due()
            _, claim = await rig.queue.claim(0, "worker")
            if claim is None:
                continue
            if claim.user == "bob":
                await rig.commit(claim)
                continue
            caps.append(claim.cap)
            if claim.suspect:
                break
            await rig.expire(claim)
        assert caps == [0, 0, 2, 2, 1, 1, 1, 1, 1]
        assert await rig.queue.fail(claim, "data", first_id=claim.last_id, batch=1, error="e") == "DEAD"
        assert not (await rig.take()).suspect


async def test_users_of_a_worker_that_keeps_dying_come_back_apart(redis_url: str) -> None:
    async with opened(redis_url, data_retries=2) as rig:
        users = [f"u{n}" for n in range(8)]
        for user in users:
            await rig.put("a", user=user)
        for _ in range(2):
            await rig.make_due()
            claims = [(await rig.queue.claim(0, "worker"))[1] for _ in users]
            for claim in claims:
                assert claim is not None
                await rig.expire(claim)
        expired, first = await rig.queue.claim(0, "worker")
        assert expired == len(users)
        waits = sorted([due for user in users if (due := await rig.due_in(user)) is not None])
        assert waits[-1] - waits[0] > 2_000
        assert all(0 <= wait <= 15_000 for wait in waits[1:])
        assert first is None or not first.suspect


# --- forget --------------------------------------------------------------------------------------


async def test_nothing_of_an_erased_user_stays_or_comes_back(redis_url: str) -> None:
    async with opened(redis_url, data_retries=1) as rig:
        await rig.put("a", "b", idempotency_key="k", digest="d", scored=PrequentialSums.from_choices([[0.9]]))
        await rig.queue.commit(await rig.take(), record("one"), "1-1", 1)
        claim = await rig.take()
        assert await rig.queue.fail(claim, "data", first_id=claim.last_id, batch=1, error="e") == "DEAD"
        await rig.put("c")
        assert await rig.commit(await rig.take(), "two")
        await rig.put("d")
        held = await rig.take()
        assert await rig.queue.publish(held, "delta", "{}")
        assert len(await rig.user_keys()) == 8

        assert await rig.queue.forget(TENANT, USER)
        assert not await rig.commit(held, "ghost")
        assert not await rig.queue.publish(held, "delta", "{}")
        assert not await rig.queue.beat(held)
        assert await rig.queue.fail(held, "engine") == "FENCED"
        assert await rig.queue.fail(held, "data", first_id="1-1", batch=1, error="e") == "FENCED"
        await rig.queue.record_quality(held, PrequentialSums.from_choices([[0.9]]))
        assert await rig.idle()
        assert await rig.user_keys() == []
        assert not await rig.queue.forget(TENANT, USER)
        with pytest.raises(UserUnknown):
            await rig.store.preferences(TENANT, USER)

        # A later user of the same name is another user.
        await rig.put("new", idempotency_key="k", digest="other")
        assert not await rig.commit(held, "ghost")
        claim = await rig.take()
        assert int(claim.token) > int(held.token)
        assert not await rig.queue.publish(held, "delta", "{}")
        await rig.redis.hset(rig.keys().state, "born", 1 + int(claim.born))  # not born in the same millisecond
        await rig.queue.record_quality(held, PrequentialSums.from_choices([[0.9]]))
        assert (await rig.store.state(TENANT, USER)).quality == {}
        assert (await rig.store.tenant_quality(TENANT))["profile"].comparisons == 1


async def test_quality_of_the_engine_counts_for_user_and_tenant(rig: Rig) -> None:
    await rig.put("a")
    claim = await rig.take()
    await rig.queue.record_quality(claim, PrequentialSums.from_choices([[0.8], [0.4]]))
    found = (await rig.store.state(TENANT, USER)).quality
    recent = found["engine"].recent
    assert recent is not None
    assert (recent.comparisons, recent.baselines) == (2, {"coin": 0.5})
    assert (await rig.store.tenant_quality(TENANT))["engine"] == found["engine"].model_copy(update={"recent": None})
    assert (found["engine"].comparisons, found["engine"].accuracy) == (2, 0.5)
    assert found["engine"].mean_probability == pytest.approx(0.6)


async def test_comparisons_fade_as_the_weights_are_learned_in_evaluation(rig: Rig) -> None:
    source = random.Random(1)
    sums: dict[str, float] = {}
    for _ in range(20):
        added = []
        for _ in range(2):
            odds = LogOdds(*(source.gauss(1, 2) for _ in range(3)))
            added.append(additions(sums, Comparison("items", odds)))
            sums = add(sums, added[-1])
        await rig.queue.record_comparisons(TENANT, added)
    assert await rig.store.weight_sums(TENANT) == pytest.approx(sums, rel=1e-6, abs=1e-6)
    assert await rig.store.weight_sums("another") == {}


# --- scripts -------------------------------------------------------------------------------------


def test_every_script_reads_its_arguments_by_name() -> None:
    for script in SCRIPTS:
        source = read_script("services.preference", script)
        assert source.startswith("-- ARGV[1] is one JSON document")
        assert "ARGV[1]" not in source.split("\n", 3)[3]
        assert ("local function clock_ms" in source) == ("clock_ms()" in source)


def test_scored_counts_a_tie_as_half() -> None:
    assert PrequentialSums.from_choices([[0.5], [0.6, 0.4]]) == PrequentialSums(3, 1.5, 1.5, encode_window([0.5, 0.5]))
