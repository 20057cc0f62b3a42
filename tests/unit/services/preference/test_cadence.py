"""When an update is due: the surprise of events, and what the queue's scripts make of it and of a backfill."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from alignx.schemas.interactions import (
    ComparisonInteraction,
    DialogueInteraction,
    Interaction,
    Message,
    PurchaseInteraction,
    StatementInteraction,
)
from alignx.schemas.items import ItemFields
from alignx.schemas.tenants import TenantSettings, UpdateCadence
from services.errors import BacklogFull, PayloadTooLarge, UserLimited
from services.preference.cadence import News, is_own_words, surprise_bits
from services.preference.ingest import Ingest
from services.preference.queue_records import AppendResult
from services.preference.updates.update_metrics import IngestMetrics
from services.profile.fold import fold
from services.profile.statistics import EMPTY
from services.settings import LimitSettings
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.timed_cache import TimedCache
from services.storage.users import LOW_PRIORITY
from tests.unit.services.preference.rig import TENANT, USER, Rig, opened, record

pytestmark = pytest.mark.anyio

AGE_S = 600.0
QUIET_S = 30.0
CALM = News(cadence=UpdateCadence(update_bits=5, update_events=4, update_tokens=100, update_age_s=AGE_S))
BACKFILL = replace(CALM, is_backfill=True)
WAITS = {"debounce_ms": 0, "max_wait_ms": 1_000}


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with opened(redis_url, **WAITS) as rig:
        yield rig


async def put(rig: Rig, *texts: str, user: str = USER, **news: Any) -> AppendResult:
    return await rig.put(*texts, user=user, news=replace(CALM, **news))


async def ingest_for(rig: Rig, **overrides: Any) -> Ingest:
    """With settings of the tenant."""
    store = TenantSettingsStore(rig.redis, TenantSettings())
    await store.replace(TENANT, TenantSettings(**overrides))
    return Ingest(rig.store, rig.queue, LimitSettings(), IngestMetrics(CollectorRegistry()), TimedCache(store.read))


async def known(rig: Rig, user: str = USER) -> None:
    """A user with a version, for whom nothing waits."""
    await put(rig, "first", user=user)
    await rig.make_due()
    assert await rig.commit(await rig.take(user))


async def waits_s(rig: Rig, user: str = USER) -> float:
    due = await rig.due_in(user)
    assert due is not None
    return due / 1000


def is_age(seconds: float) -> bool:
    return AGE_S - 5 < seconds <= AGE_S


async def test_the_first_events_of_a_user_are_due_and_later_ones_wait_for_their_age(rig: Rig) -> None:
    await put(rig, "a")
    assert await waits_s(rig) <= 0
    assert await rig.commit(await rig.take())
    await put(rig, "b")
    first = await waits_s(rig)
    assert is_age(first)
    await rig.redis.zincrby(rig.keys().ready, -60_000, rig.keys().member)
    await rig.redis.hincrby(rig.keys().state, "due", -60_000)  # a minute later
    await put(rig, "c")
    assert is_age(await waits_s(rig) + 60)  # since the first of them, not the latest


@pytest.mark.parametrize(
    ("news", "appends"),
    [({"bits": 2.5}, 2), ({"tokens": 50}, 2), ({}, 4), ({"is_due": True}, 1), ({"bits": 5.0}, 1)],
)
async def test_surprise_tokens_and_number_add_up_until_an_update_is_due(
    rig: Rig, news: dict[str, Any], appends: int
) -> None:
    await known(rig)
    for _ in range(appends - 1):
        await put(rig, "e", **news)
        assert is_age(await waits_s(rig))
    await put(rig, "e", **news)
    assert await waits_s(rig) <= 0
    claim = await rig.take()
    assert {"t0", "due", "new.n", "new.tok", "new.bits"}.isdisjoint(await rig.fields())
    assert await rig.commit(claim)
    await put(rig, "after")  # the sums begin anew
    assert is_age(await waits_s(rig))


async def test_an_update_that_is_due_stays_so(redis_url: str) -> None:
    """Through a calm event, a failure of the engine, a dead worker and a graceful release."""
    async with opened(redis_url, **WAITS, backoff_ms=1) as rig:
        await known(rig)
        await put(rig, "a", is_due=True)
        await put(rig, "b")
        assert await waits_s(rig) <= 0
        for end in ("engine", "release"):
            await rig.make_due()
            await rig.queue.fail(await rig.take(), end)  # type: ignore[arg-type]
            await put(rig, "calm")
            assert await waits_s(rig) < 1
        await rig.make_due()
        await rig.expire(await rig.take())
        claim = await rig.take()
        assert claim.pending == 4
        await rig.expire(claim)
        await rig.queue.claim(0, "other")
        assert await rig.texts() == ["first", "a", "b", "calm", "calm"]


async def test_events_during_an_update_are_due_by_their_own_surprise(rig: Rig) -> None:
    await known(rig)
    for news, wait in (({}, is_age), ({"bits": 9.0}, lambda seconds: seconds <= 0)):
        await put(rig, "due", is_due=True)
        await rig.make_due()
        claim = await rig.take()
        await put(rig, "meanwhile", **news)
        assert await rig.commit(claim)
        assert wait(await waits_s(rig))


async def test_what_an_update_leaves_over_is_due(rig: Rig) -> None:
    await known(rig)
    ids = (await put(rig, "a", "b", is_due=True)).ids
    claim = await rig.take()
    await put(rig, "calm")
    assert await rig.queue.commit(claim, record("s", 2), ids[0], 1)
    assert await waits_s(rig) <= 0
    await put(rig, "calm")
    assert await waits_s(rig) <= 1


async def test_a_dead_letter_that_is_retried_is_due(redis_url: str) -> None:
    async with opened(redis_url, **WAITS, data_retries=1) as rig:
        await known(rig)
        ids = (await put(rig, "bad", is_due=True)).ids
        assert await rig.queue.fail(await rig.take(), "data", first_id=ids[0], batch=1) == "DEAD"
        await rig.queue.retry_dead_letters(TENANT, USER, ())
        await put(rig, "calm")
        assert await waits_s(rig) <= 1


async def test_an_edit_and_a_rebuild_make_waiting_events_due(rig: Rig) -> None:
    for user in ("ada", "bob"):
        await known(rig, user)
    for user in ("ada", "bob"):
        await put(rig, "calm", user=user)
    assert await rig.queue.edit(TENANT, "ada", 1, record("mine", 2))
    await rig.queue.request_rebuild(TENANT, "bob")
    for user in ("ada", "bob"):
        await put(rig, "calm", user=user)
        assert await waits_s(rig, user) <= 1


async def test_users_who_wait_for_their_age_take_no_place_of_new_ones(redis_url: str) -> None:
    async with opened(redis_url, **WAITS, shard_backlog=1) as rig:
        await known(rig)
        await put(rig, "calm")
        assert await rig.queue.depth() == (0, 0.0)
        await put(rig, "a", user="new")


async def test_a_full_backlog_is_due(redis_url: str) -> None:
    """Else a caller would be refused until the oldest event is of age."""
    async with opened(redis_url, **WAITS, user_backlog=2) as rig:
        await known(rig)
        await put(rig, "a", "b")
        assert is_age(await waits_s(rig))
        with pytest.raises(BacklogFull):
            await put(rig, "c")
        assert await waits_s(rig) <= 0


@pytest.mark.parametrize("news", [CALM, BACKFILL])
async def test_when_the_last_release_had_an_update_due_does_not_count(rig: Rig, news: News) -> None:
    """It left the time in the state of a user for whom nothing waits."""
    await known(rig)
    await rig.redis.hset(rig.keys().state, "t0", 1)
    await rig.put("calm", news=news)
    assert await waits_s(rig) > QUIET_S


# --- backfill ----------------------------------------------------------------------------------


async def test_a_backfill_is_one_update_after_quiet_and_after_all_others(redis_url: str) -> None:
    async with opened(redis_url, {"debounce_ms": 0}, {"batch_events": 3}) as rig:
        for text in "abcd":
            await rig.put(text, news=BACKFILL)
        due = await rig.due_in()
        assert due is not None
        assert (QUIET_S - 5) * 1000 < due - LOW_PRIORITY <= QUIET_S * 1000
        assert await rig.queue.due_shards() == []
        await rig.redis.zadd(rig.keys().ready, {rig.keys().member: LOW_PRIORITY + 1})
        assert await rig.queue.due_shards() == [0]
        await put(rig, "live", user="bob")
        await rig.take("bob")
        claim = await rig.take()
        assert claim.rebuild  # four events are more than one update reads
        assert await rig.commit(claim)
        assert await rig.idle()


async def test_a_live_event_ends_the_quiet_of_a_backfill_if_it_is_due(rig: Rig) -> None:
    await known(rig)
    await rig.put("old", news=BACKFILL)
    await put(rig, "calm")
    assert await waits_s(rig) > AGE_S
    await put(rig, "due", is_due=True)
    await rig.put("old", news=BACKFILL)
    assert await waits_s(rig) <= 0


async def test_shards_where_only_a_backfill_waits_come_last_and_are_never_late(redis_url: str) -> None:
    async with opened(redis_url, WAITS, shards=16) as rig:
        names = [f"u{number}" for number in range(40)]
        for name in names:
            await rig.put("old", user=name, news=BACKFILL)
            await rig.redis.zadd(rig.keys(name).ready, {rig.keys(name).member: LOW_PRIORITY})
        assert await rig.queue.depth() == (40, 0.0)
        await put(rig, "live", user="bob")
        shards = await rig.queue.due_shards()
        assert (len(shards), shards[0]) == (16, rig.store.keys.shard(TENANT, "bob"))


async def test_a_backfill_does_not_wait_for_the_age_of_a_calm_event(redis_url: str) -> None:
    async with opened(redis_url, WAITS, {"batch_events": 2}) as rig:
        await known(rig)
        await put(rig, "calm")
        await rig.put("old", "older", news=BACKFILL)
        due = await rig.due_in()
        assert due is not None
        assert 0 < due - LOW_PRIORITY <= QUIET_S * 1000
        await rig.redis.zadd(rig.keys().ready, {rig.keys().member: LOW_PRIORITY})
        assert (await rig.take()).rebuild


async def test_a_backfill_that_fills_the_backlog_goes_on_after_an_update(redis_url: str) -> None:
    async with opened(redis_url, **WAITS, user_backlog=2) as rig:
        await rig.put("a", "b", news=BACKFILL)
        with pytest.raises(BacklogFull):
            await rig.put("c", news=BACKFILL)
        assert await rig.commit(await rig.take())
        assert (await rig.put("c", news=BACKFILL)).pending == 1


# --- what events tell --------------------------------------------------------------------------


def chose(chosen: str, rejected: str) -> ComparisonInteraction:
    return ComparisonInteraction(query="q", chosen=chosen, rejected=rejected)


def bits(*events: Interaction) -> list[float]:
    profile, surprises = EMPTY, []
    for event in events:
        before = profile
        profile, predicted = fold(profile, event)
        surprises.append(surprise_bits(predicted, before, profile))
    return surprises


def test_a_choice_surprises_by_the_odds_the_profile_gave_it() -> None:
    usual = [chose("Short.", "Long, and then longer, with more to say on each of the points.")] * 12
    told = bits(*usual, chose("Long, and then longer, with more to say on each of the points.", "Short."))
    assert told[0] == 1.0
    assert told[11] < 0.5
    assert told[-1] > 1.5


def test_a_new_category_surprises_who_has_met_few() -> None:
    def bought(category: str) -> PurchaseInteraction:
        return PurchaseInteraction(item=ItemFields(title="A thing", category=category))

    told = bits(*[bought("games")] * 15, bought("boats"))
    assert told[:15] == [0.0] * 15
    assert told[-1] == 4.0
    assert max(bits(*(bought(f"c{number}") for number in range(10)))) <= 1.0


@pytest.mark.parametrize(
    ("said", "is_due"), [("I love jazz, tell me more.", False), ("I hate jazz, tell me less.", True)]
)
def test_the_contrary_of_what_was_stated_is_due(said: str, is_due: bool) -> None:
    before, _ = fold(EMPTY, StatementInteraction(text="I love jazz."))
    event = DialogueInteraction(messages=(Message(role="user", content=said),))
    assert is_own_words(event, before, fold(before, event)[0]) == is_due


@pytest.mark.parametrize(("overrides", "due"), [({}, False), ({"update_events": 1}, True)])
async def test_ingest_reads_the_cadence_of_the_tenant(rig: Rig, overrides: dict[str, Any], due: bool) -> None:
    ingest = await ingest_for(rig, **overrides)
    free = Ingest(rig.store, rig.queue, LimitSettings(), IngestMetrics(CollectorRegistry()))
    await known(rig)

    async def append(writer: Ingest, events: Sequence[Interaction]) -> bool:
        await writer.append(TENANT, USER, events)
        return await waits_s(rig) <= 0

    assert await append(ingest, [chose("a", "b")]) == due
    assert await append(ingest, [StatementInteraction(text="I like tea.")])
    await rig.commit(await rig.take())
    assert await append(free, [chose("a", "b")])  # without an engine each event is due


async def test_the_preferences_say_why_events_wait(rig: Rig) -> None:

    async def reason(user: str = USER) -> str | None:
        return (await rig.store.preferences(TENANT, user)).waiting_for

    reasons = []
    await put(rig, "a")
    reasons.append(await reason())
    claim = await rig.take()
    reasons.append(await reason())
    assert await rig.commit(claim)
    reasons.append(await reason())
    await put(rig, "b")
    reasons.append(await reason())
    for kind in ("engine", "wait"):
        await rig.make_due()
        await rig.queue.fail(await rig.take(), kind)
        reasons.append(await reason())
    await rig.redis.hset(rig.keys().state, "hold", 1)
    reasons.append(await reason())
    await rig.put("a", user="new", news=BACKFILL)
    reasons.append(await reason("new"))
    assert reasons == ["worker", "update", None, "cadence", "engine", "trial", "worker", "backfill"]


async def test_a_flood_of_one_users_events_is_bounded_by_the_hour(rig: Rig) -> None:
    ingest = await ingest_for(rig, user_events_per_hour=3)
    flood = [chose("a", "b")] * 2
    await ingest.append(TENANT, USER, flood, idempotency_key="k")
    assert (await ingest.append(TENANT, USER, flood, idempotency_key="k")).replayed
    with pytest.raises(PayloadTooLarge) as too_large:  # no hour takes it
        await ingest.append(TENANT, USER, flood * 2)
    assert (too_large.value.extensions, too_large.value.retry_after) == ({"limit": 3}, None)
    with pytest.raises(UserLimited) as caught:
        await ingest.append(TENANT, USER, flood)
    assert (caught.value.extensions, 0 < (caught.value.retry_after or 0) <= 3_600) == ({"limit": 3}, True)
    await ingest.append(TENANT, USER, flood[:1])
    await ingest.append(TENANT, USER, flood, start="backfill")
    await ingest.append(TENANT, "another", flood)
    assert (await rig.store.state(TENANT, USER)).events == 5
    await rig.redis.hincrby(rig.keys().state, "hour", -1)  # an hour later
    await ingest.append(TENANT, USER, flood)
