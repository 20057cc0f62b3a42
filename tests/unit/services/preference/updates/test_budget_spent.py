"""Updates of a tenant whose token budget is spent wait; nobody else's do."""

from contextlib import AbstractAsyncContextManager

import pytest

from alignx.schemas.tenants import TenantSettings
from services.engine.guard import CallKind, Progress
from services.engine.wire import Body
from services.errors import BudgetSpent
from services.storage.tenant_settings import TenantSettingsStore, default_settings
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.rig import TENANT, USER
from tests.unit.services.preference.updates.test_update import comparison, live
from tests.unit.services.preference.working import Bench, benched, until

pytestmark = pytest.mark.anyio

OTHER = "globex"


async def limit(bench: Bench, tokens: int | None) -> None:
    store = TenantSettingsStore(bench.redis, default_settings(bench.settings))
    await store.replace(TENANT, TenantSettings(tokens_per_day=tokens) if tokens else TenantSettings())
    assert bench.store.tenants
    bench.store.tenants.drop(TENANT)


async def test_events_wait_for_the_budget_and_the_engine_writes_when_it_is_raised(bench: Bench) -> None:
    await limit(bench, 10)
    await bench.add(comparison("good u1n1", "bad"))
    with pytest.raises(BudgetSpent):
        await bench.update()
    fields = await bench.fields()
    assert not {"fail", "crash", "cap", "own", "strikes"} & set(fields)
    assert bench.mock.prompts == []
    name, data = (await live(bench))[-1]
    assert (name, isinstance(data, dict) and data["type"]) == ("error", "urn:alignx:problem:budget_spent")
    waiting = await bench.store.preferences(TENANT, USER)
    assert (waiting.version, waiting.pending, waiting.waiting_for) == (0, 1, "budget")
    assert waiting.source == "profile", "which answers for a user without a version"
    assert (await bench.due_in() or 0) > 60_000
    await limit(bench, 1_000_000)
    assert await bench.update() == "committed"
    written = await bench.store.preferences(TENANT, USER)
    assert (written.version, written.pending, written.waiting_for) == (1, 0, None)
    assert "spent" not in await bench.fields()
    assert await bench.store.dead_letters(TENANT, USER, None, 10) == []


async def test_the_worker_goes_on_for_other_tenants(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(), engine={"breaker_failures": 1}) as bench:
        await limit(bench, 10)
        await bench.add(comparison("good u1n1", "bad"))
        async with bench.at_work():
            await until(lambda: bench.ended("budget"))
            await bench.add(comparison("good u2n1", "bad"), user="bob", tenant=OTHER)
            await until(lambda: bench.ended("committed"))
        assert not bench.dispatcher.backoff.is_paused
        assert not bench.updater.engine.calls.breaker_open
        assert bench.count("alignx_update_retries_total", fault="engine") == 0
        assert (await bench.store.preferences(OTHER, "bob")).version == 1


async def test_a_test_of_a_summary_that_does_not_fit_is_no_failed_update(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update itself fits, and what follows it does not."""
    await limit(bench, 1_000_000)
    await bench.add(comparison("good u1n1", "bad"))
    assert await bench.update() == "committed"
    await bench.add(comparison("good u1n2", "bad"))
    calls = bench.updater.engine.calls
    reserve = calls._reserve

    def refuse_choices(
        kind: CallKind, tenant: str, body: Body, progress: Progress
    ) -> AbstractAsyncContextManager[None]:
        if kind == "choose":
            raise BudgetSpent
        return reserve(kind, tenant, body, progress)

    monkeypatch.setattr(calls, "_reserve", refuse_choices)
    assert await bench.update() == "committed"
    assert (await bench.store.preferences(TENANT, USER)).version == 2
