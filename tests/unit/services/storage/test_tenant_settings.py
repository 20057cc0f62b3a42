"""What is set for a tenant, over the deployment's values."""

import asyncio
from typing import Any

import pytest

from alignx.schemas.tenants import TenantSettings
from services.errors import InvalidRequest
from services.settings import Settings
from services.storage import timed_cache
from services.storage.key_names import tenant_settings_key
from services.storage.tenant_settings import TenantSettingsStore, default_settings
from services.storage.timed_cache import TimedCache
from tests.unit.services.preference.rig import TENANT, opened

pytestmark = pytest.mark.anyio

DEFAULTS = default_settings(Settings.model_validate({"internal_token": "t" * 16, "summary": {"update_events": 7}}))


def test_the_deployments_values_are_the_defaults_and_each_setting_is_explained() -> None:
    assert (DEFAULTS.update_events, DEFAULTS.update_age_s) == (7, TenantSettings().update_age_s)
    assert all(field.description for field in TenantSettings.model_fields.values())


async def test_a_patch_changes_what_it_names_and_null_gives_back(redis_url: str) -> None:
    async with opened(redis_url) as rig:
        store = TenantSettingsStore(rig.redis, DEFAULTS)
        view = await store.replace(TENANT, TenantSettings(update_bits=3, update_age_s=60))
        assert view.overridden == ("update_age_s", "update_bits")
        assert (view.settings.update_bits, view.settings.update_events) == (3, 7)
        changes: tuple[dict[str, Any], ...] = ({"update_events": 9}, {"update_bits": None}, {"update_age_s": 5})
        await asyncio.gather(*(store.patch(TENANT, change) for change in changes))  # none is lost
        view = await store.view(TENANT)
        assert view.overridden == ("update_age_s", "update_events")
        assert (view.settings.update_events, view.settings.update_age_s) == (9, 5)
        assert (await store.view("other")).overridden == ()
        assert (await store.replace(TENANT, TenantSettings())).settings == DEFAULTS
        assert not await rig.redis.exists(tenant_settings_key(TENANT))


async def test_a_patch_that_is_not_valid_names_each_field_and_changes_nothing(redis_url: str) -> None:
    async with opened(redis_url) as rig:
        store = TenantSettingsStore(rig.redis, DEFAULTS)
        with pytest.raises(InvalidRequest) as refused:
            await store.patch(TENANT, {"update_evnts": None, "update_bits": -1, "update_age_s": 9})
        assert {problem["field"] for problem in refused.value.errors} == {"update_evnts", "update_bits"}
        assert (await store.view(TENANT)).overridden == ()


@pytest.mark.parametrize("change", [{"update_age_s": 1e300}, {"update_bits": float("inf")}, {"backfill_quiet_s": 1e16}])
async def test_a_value_that_the_queue_cannot_count_with_is_refused(redis_url: str, change: dict[str, float]) -> None:
    """With it no event of the tenant could be stored."""
    async with opened(redis_url) as rig:
        with pytest.raises(InvalidRequest):
            await TenantSettingsStore(rig.redis, DEFAULTS).patch(TENANT, change)


async def test_denied_topics_are_bounded(redis_url: str) -> None:
    async with opened(redis_url) as rig:
        store = TenantSettingsStore(rig.redis, DEFAULTS)
        view = await store.patch(TENANT, {"denied_topics": [" poker ", "slot machines"], "hide_sensitive": False})
        assert view.settings.denied_topics == ("poker", "slot machines")
        assert not view.settings.hide_sensitive
        for topics in (["t"] * 101, ["t" * 81], [" "], "poker"):
            with pytest.raises(InvalidRequest):
                await store.patch(TENANT, {"denied_topics": topics})


async def test_each_process_follows_within_a_second(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timed_cache.time, "monotonic", lambda: clock[0])
    async with opened(redis_url) as rig:
        writer = TenantSettingsStore(rig.redis, DEFAULTS)
        reader = TimedCache(TenantSettingsStore(rig.redis, DEFAULTS).read)
        assert (await reader.read(TENANT)).update_events == 7
        await writer.patch(TENANT, {"update_events": 9})
        clock[0] = 0.99
        assert (await reader.read(TENANT)).update_events == 7
        clock[0] = 1.0
        assert (await reader.read(TENANT)).update_events == 9


async def test_what_a_newer_release_has_set_does_not_count(redis_url: str) -> None:
    async with opened(redis_url) as rig:
        stored = {"update_events": "9", "later": "1", "update_bits": '"many"'}
        await rig.redis.hset(tenant_settings_key(TENANT), mapping=stored)
        view = await TenantSettingsStore(rig.redis, DEFAULTS).view(TENANT)
        assert view.overridden == ("update_events",)
