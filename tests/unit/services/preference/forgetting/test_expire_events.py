"""Events that leave by their age: the clock is an argument of the sweep."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError

from alignx.schemas.interactions import INTERACTION
from alignx.schemas.summaries import DeadLetter
from alignx.schemas.tenants import InteractionType, TenantSettings
from services.errors import UserUnknown
from services.preference.forgetting import expire_events
from services.preference.forgetting.age_limits import AgeLimits
from services.preference.forgetting.expire_events import EventExpiry, ExpiryMetrics
from services.settings import Settings
from services.storage.aof_rewrite import AofRewriter
from services.storage.key_names import TENANTS, audit_log
from services.storage.tenant_settings import TenantSettingsStore, default_settings
from services.storage.timed_cache import open_tenants
from services.storage.users import LOW_PRIORITY
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.forgetting.traces import (
    MARK,
    SAID,
    count_calls,
    is_as_folded,
    places,
    serving_a_cluster,
    settle,
    trimmed,
)
from tests.unit.services.preference.rig import TENANT, statement
from tests.unit.services.preference.served import EVENTS, PREFERENCES, Served, serving
from tests.unit.services.preference.working import settings_for, until, working

pytestmark = pytest.mark.anyio
DAY_MS = 86_400_000
TEA = {"type": "purchase", "item": {"id": "tea", "title": "Green tea u7n0"}}
KEPT = {"event_ttl": {"statement": "30d", "*": "365d"}}


@dataclass
class Aging:
    """A sweep over what a served suite holds."""

    served: Served
    expiry: EventExpiry
    registry: CollectorRegistry

    async def sweep(self, days: float) -> None:
        """As so many days from now."""
        await self.served.bench.redis.delete(self.served.bench.store.keys.expiry(0))
        await self.expiry.sweep(int(await self.served.bench.now() + days * DAY_MS))

    def count(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0

    async def buy_tea(self) -> str:
        answer = await self.served.http.post(EVENTS, json={"events": [TEA]}, headers={"Prefer": "wait=5"})
        return str(answer.json()["ids"][0])


@asynccontextmanager
async def aging(store: str | Served, limits: dict[str, Any] | None = None, **serve: Any) -> AsyncIterator[Aging]:
    """`store` is the URL of a Redis, or a service on one."""
    async with nullcontext(store) if isinstance(store, Served) else serving(store, **serve) as served:
        bench, registry = served.bench, CollectorRegistry()
        await bench.redis.zadd(TENANTS, {TENANT: 0, "other": 0})
        await TenantSettingsStore(bench.redis, TenantSettings()).patch(TENANT, KEPT if limits is None else limits)
        async with AofRewriter.open(bench.redis, 0) as rewriter:
            tenants = open_tenants(bench.redis, bench.settings)
            metrics = ExpiryMetrics(registry)
            expiry = EventExpiry(bench.store, bench.queue, tenants, rewriter, bench.settings, metrics)
            yield Aging(served, expiry, registry)


async def test_an_event_is_forgotten_at_its_types_age_with_one_call_of_the_engine(redis_url: str) -> None:
    async with aging(redis_url, mock=MockEngine(), work=True) as old:
        served = old.served
        tea = await old.buy_tea()
        await served.learn(SAID)
        calls, (stamp, _) = count_calls(served), await served.bench.store.profile(TENANT, "ada")
        await old.sweep(29.9)
        assert (await served.bench.store.profile(TENANT, "ada"))[0] == stamp
        assert MARK in (await served.http.get(PREFERENCES)).json()["text"]

        await old.sweep(30.1)
        assert not places(redis_url, MARK, "zephyrine")
        await settle(served)
        assert not places(redis_url, MARK, "zephyrine")
        assert count_calls(served) - calls == 1
        assert await is_as_folded(served)
        events = (await served.http.get(EVENTS)).json()["events"]
        assert [event["event_id"] for event in events] == [tea]
        assert "u7n0" in (await served.http.get(PREFERENCES)).json()["text"]

        await old.sweep(31)
        assert count_calls(served) - calls == 1
        assert (old.count("alignx_expired_events_total"), old.count("alignx_expired_users_total")) == (1, 1)
        await old.sweep(366)
        assert not places(redis_url, "u7n0", "tea")
        assert count_calls(served) - calls == 1
        left = (await served.http.get(PREFERENCES)).json()
        assert (left["events_total"], left["pending"]) == (2, 0)


async def test_a_tenant_without_the_setting_and_one_of_another_keep_everything(redis_url: str) -> None:
    async with aging(redis_url, limits={}) as old:
        await old.served.put(SAID)
        await old.sweep(5_000)
        assert await old.served.bench.texts() == [SAID]


async def test_events_that_wait_leave_the_queue_and_cost_no_call(redis_url: str) -> None:
    async with aging(redis_url, mock=MockEngine()) as old:
        await old.served.put("I like tea.", SAID)
        await old.sweep(31)
        assert await old.served.bench.texts() == []
        assert (await old.served.bench.store.state(TENANT, "ada")).pending == 0
        assert await old.served.bench.idle()
        assert not places(redis_url, MARK, "zephyrine")


async def test_the_update_that_follows_waits_behind_all_others(redis_url: str) -> None:
    async with aging(redis_url, limits={"event_ttl": {"statement": "30d"}}, mock=MockEngine()) as old:
        bench = old.served.bench
        await old.served.put(SAID)
        assert await bench.update() == "committed"
        await old.served.http.post(EVENTS, json={"events": [TEA]})
        assert await bench.update() == "committed"
        await old.sweep(31)
        keys = bench.keys()
        assert await bench.redis.zscore(keys.ready, keys.member) > LOW_PRIORITY
        await old.served.put("I like rice.", user="bob")
        assert (await bench.take("bob")).user == "bob"
        claim = await bench.take()
        assert claim.rebuild
        assert (claim.version, claim.pending) == (3, 0)


async def test_a_rebuild_that_somebody_waits_for_is_not_put_off(redis_url: str) -> None:
    async with aging(redis_url, mock=MockEngine()) as old:
        bench = old.served.bench
        await old.served.put(SAID)
        await old.served.http.post(EVENTS, json={"events": [TEA]})
        assert await bench.update() == "committed"
        assert (await old.served.http.post(f"{PREFERENCES}/rebuild")).is_success
        await old.sweep(31)
        assert await bench.redis.zscore(bench.keys().ready, bench.keys().member) < LOW_PRIORITY


async def test_dead_letters_age_from_when_they_were_received(redis_url: str) -> None:
    async with aging(redis_url, work=True) as old:
        await old.served.set_aside(SAID)
        await old.sweep(29)
        assert places(redis_url, MARK) >= {"dlq"}
        await old.sweep(31)
        assert not places(redis_url, MARK, "zephyrine")
        assert old.count("alignx_expired_events_total") == 1


async def test_what_is_known_of_events_before_the_log_goes_with_the_oldest(redis_url: str) -> None:
    async with aging(redis_url, work=True, summary={"keep_events": 20}) as old:
        await old.served.learn(*(SAID if number == 125 else f"I like dish{number} a lot." for number in range(151)))
        await trimmed(old.served, 20)
        assert "base" in places(redis_url, "zephyrine")
        await old.sweep(31)
        assert not places(redis_url, MARK, "zephyrine", "dish")


async def test_the_users_own_text_stays(redis_url: str) -> None:
    own = "Zephyrine things, please."
    async with aging(redis_url, mock=MockEngine(), work=True) as old:
        served = old.served
        await served.learn(SAID)
        (await served.http.put(PREFERENCES, json={"text": own}, headers={"If-Match": "*"})).raise_for_status()
        await old.buy_tea()
        await old.sweep(31)
        await settle(served)
        assert not places(redis_url, MARK)
        assert (await served.http.get(f"{PREFERENCES}/versions/2")).json()["text"] == own
        assert own in (await served.http.get(PREFERENCES)).json()["text"]


async def test_a_sweep_that_loses_its_cancellation_is_the_last(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker would stop only after the pause between two sweeps."""
    async with aging(redis_url) as old:
        begun = asyncio.Event()

        async def sweep(_: int) -> None:
            begun.set()
            with suppress(asyncio.CancelledError):  # as the library of Redis may
                await asyncio.sleep(60)

        monkeypatch.setattr(old.expiry, "sweep", sweep)
        work = asyncio.create_task(old.expiry.run())
        await begun.wait()
        old.expiry.stop(work)
        async with asyncio.timeout(15):
            await work


async def test_one_worker_sweeps_a_shard_and_another_only_when_it_is_due_again(redis_url: str) -> None:
    async with aging(redis_url) as old:
        redis, key = old.served.bench.redis, old.served.bench.store.keys.expiry(0)
        await old.served.put(SAID)
        now = int(await old.served.bench.now())
        await redis.set(key, "another worker", ex=expire_events.LEASE_S)
        await old.expiry.sweep(now + 31 * DAY_MS)
        assert await old.served.bench.texts() == [SAID]
        await redis.delete(key)  # its lease has run out
        await old.expiry.sweep(now + 31 * DAY_MS)
        assert await old.served.bench.texts() == []
        assert await redis.ttl(key) > expire_events.LEASE_S
        await old.served.put(SAID)
        await old.expiry.sweep(now + 99 * DAY_MS)
        assert await old.served.bench.texts() == [SAID]
        assert old.count("alignx_expiry_sweeps_total") == 1


async def test_every_page_of_users_is_swept_and_one_that_fails_holds_up_nobody(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expire_events, "_USERS", 2)
    async with aging(redis_url) as old:
        bench, users = old.served.bench, [f"user{number}" for number in range(5)]
        for user in users:
            await old.served.put(SAID, user=user)
        broken = bench.keys("user2")
        await bench.redis.hset(broken.state, "ver", 1)
        await bench.redis.set(broken.summary, "no version")
        await old.sweep(31)
        assert [await bench.texts(user) for user in users] == [[], [], [SAID], [], []]
        assert (old.count("alignx_expired_users_total"), old.count("alignx_expiry_failures_total")) == (4, 1)
        entries = await bench.redis.xrange(audit_log(TENANT))
        assert [fields for _, fields in entries] == [
            {"key": "worker", "action": "events.expired", "target": "4 events of 4 users"}
        ]
        await old.served.http.delete("/v1/users/user2")
        with pytest.raises(UserUnknown):
            await bench.store.state(TENANT, "user2")


async def _set_age(old: Aging, tenant: str, age: str) -> None:
    await TenantSettingsStore(old.served.bench.redis, TenantSettings()).patch(tenant, {"event_ttl": {"*": age}})


async def test_an_age_from_before_1970_keeps_everything_and_holds_up_no_other_tenant(redis_url: str) -> None:
    async with aging(redis_url, limits={"event_ttl": {"*": "36500d"}}) as old:
        bench = old.served.bench
        await _set_age(old, "other", "30d")
        for tenant in (TENANT, "other"):
            await bench.put(SAID, tenant=tenant)
        await old.sweep(31)
        assert [await bench.texts(tenant=tenant) for tenant in (TENANT, "other")] == [[SAID], []]
        assert old.count("alignx_expiry_failures_total") == 0


async def test_a_tenant_that_cannot_be_swept_is_counted_and_holds_up_no_other(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with aging(redis_url) as old:
        bench = old.served.bench
        await _set_age(old, "other", "30d")
        await bench.put(SAID, tenant="other")
        await bench.redis.set(bench.keys().index, SAID)  # a list of users that is none
        await old.sweep(31)
        assert await bench.texts(tenant="other") == []
        assert (old.count("alignx_expiry_failures_total"), old.count("alignx_expiry_sweeps_total")) == (1, 1)
        assert [record.message for record in caplog.records] == ["a tenant's old events stay until the next sweep"]
        assert MARK not in str(vars(caplog.records[0]))


async def test_a_sweep_without_redis_is_not_counted_as_done(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with aging(redis_url) as old:

        async def fail(*_: object) -> None:
            raise RedisConnectionError

        monkeypatch.setattr(old.expiry, "_sweep_tenant", fail)
        with pytest.raises(RedisConnectionError):
            await old.sweep(31)
        assert (old.count("alignx_expiry_failures_total"), old.count("alignx_expiry_sweeps_total")) == (0, 0)


async def test_a_worker_forgets_what_is_too_old(redis_url: str) -> None:
    async with aging(redis_url, limits={"event_ttl": {"*": "1h"}}) as old:
        bench = old.served.bench
        await old.served.put("I like tea.")
        await bench.redis.delete(bench.keys().log)
        await bench.redis.xadd(bench.keys().log, {"d": statement(SAID)}, id="1000-0")

        async def emptied() -> bool:
            return not await bench.texts()

        async with working(settings_for(redis_url, "profile")):
            await until(emptied)


@pytest.mark.xdist_group("cluster")
async def test_a_cluster_is_swept_shard_by_shard(tmp_path: Path) -> None:
    users = [f"user{number}" for number in range(12)]
    async with serving_a_cluster(tmp_path) as served, aging(served) as old:
        for user in users:
            await served.put("I like tea.", SAID, user=user)
        await old.expiry.sweep(int(await served.bench.now() + 31 * DAY_MS))
        assert [await served.bench.texts(user) for user in users] == [[]] * 12
        assert (old.count("alignx_expired_users_total"), old.count("alignx_expiry_sweeps_total")) == (12, 8)


def test_limits_name_every_type_of_event() -> None:
    schema = INTERACTION.json_schema()
    assert set(get_args(InteractionType)) == set(schema["discriminator"]["mapping"])


def test_an_age_is_read_by_type_and_without_one_nothing_is_too_old() -> None:
    now = 1_000 * DAY_MS
    assert AgeLimits.read(TenantSettings(), now) is None
    limits = AgeLimits.read(TenantSettings(event_ttl={"click": "2h", "statement": "900d"}), now)
    assert limits is not None
    assert limits.latest == now - 2 * 3_600_000
    assert limits.is_past(f"{limits.latest}-5", "click")
    assert not limits.is_past(f"{limits.latest + 1}-0", "click")
    assert not limits.is_past("5-0", "rating")
    assert limits.is_past(f"{limits.latest}-0")  # it may have been a click
    assert limits.is_past(f"{100 * DAY_MS}-0", "statement")
    letter = DeadLetter(event_id="5-0", error="e", failed_at="2026-01-01T00:00:00Z", interaction=None)
    assert limits.is_past_dead(letter)
    oldest = AgeLimits.read(TenantSettings(event_ttl={"*": "99999d"}), now)
    assert oldest is not None
    assert oldest.latest == 0


@pytest.mark.parametrize("ttl", [{"click": "0d"}, {"click": "90"}, {"view": "90d"}, {"*": "90 days"}, {"click": 90}])
def test_a_limit_that_is_not_valid_is_refused(ttl: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TenantSettings(event_ttl=ttl)


def test_the_deployments_limit_is_every_tenants() -> None:
    settings = Settings.model_validate({"internal_token": "t" * 16, "retention": {"event_ttl": {"*": "365d"}}})
    assert default_settings(settings).event_ttl == {"*": "365d"}
    assert default_settings(Settings.model_validate({"internal_token": "t" * 16})).event_ttl == {}
