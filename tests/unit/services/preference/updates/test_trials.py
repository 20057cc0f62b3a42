"""A new model writes for some users first; one whose summaries predict worse is held back, one no worse is accepted."""

import logging
import random

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.tenants import TenantSettings
from services.preference.updates.trials import read_trial
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.users import encode_interaction
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.preference.updates.test_regression import LONG, SHORT, short_choice
from tests.unit.services.preference.working import Bench, benched

pytestmark = pytest.mark.anyio


async def _update(bench: Bench, user: str, reply: str, events: list[ComparisonInteraction]) -> str:
    bench.mock.scripted[:] = [(reply, "stop")]
    await bench.add(*map(encode_interaction, events), user=user)
    await bench.redis.zadd(bench.keys(user).ready, {bench.keys(user).member: 0})
    outcome = (await bench.updater.run(await bench.take(user))).outcome
    if outcome == "held":
        assert 200_000 < (await bench.due_in(user) or 0) <= 300_000
        assert "strikes" not in await bench.redis.hgetall(bench.keys(user).state)
        await bench.redis.zrem(bench.keys(user).ready, bench.keys(user).member)
    return outcome


@pytest.mark.parametrize("reply", [SHORT, LONG])
async def test_a_new_model_is_accepted_or_held_back_by_what_its_texts_predict(
    redis_url: str, reply: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source, users = random.Random(2), [f"u{number}" for number in range(30)]
    settings = {"prequential_sample": 0, "trial_users": 14, "trial_share": 0.5}
    async with benched(redis_url, MockEngine(), summary=settings) as bench:
        for user in users:
            assert await _update(bench, user, SHORT, [short_choice(source) for _ in range(6)]) == "committed"
        monkeypatch.setattr(bench.updater.engine, "_model", "newer")
        with caplog.at_level(logging.INFO, "alignx.trials"):
            first = [await _update(bench, user, reply, [short_choice(source)]) for user in users]
            again = [await _update(bench, user, reply, [short_choice(source)]) for user in users]
        trial = await read_trial(bench.redis, TENANT)
        assert first.count("held") >= 8, "users outside of the share wait"
        if reply == SHORT:
            assert set(again) == {"committed"}
            assert (trial.state, trial.incumbent) == ("none", "llm:newer first/2")
        else:
            assert set(again) == {"held"}
            assert (trial.state, trial.candidate) == ("held", "llm:newer first/2")
            assert trial.evidence >= 4.6
            assert "held back" in caplog.text
            for _ in range(20):  # users whose updates were on their way
                await bench.updater.tests.trials.record(TENANT, "llm:newer first/2", 0.0, 1.0)
            assert await read_trial(bench.redis, TENANT) == trial
            monkeypatch.setattr(bench.updater.engine, "_model", "mock")
            assert await _update(bench, users[0], SHORT, [short_choice(source)]) == "committed", "the old one goes on"
        assert not any(user in str(vars(record)) for record in caplog.records for user in users)


async def test_without_trials_every_model_is_taken_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(2)
    await TenantSettingsStore(bench.redis, TenantSettings()).patch(TENANT, {"trial_users": 0})
    await _update(bench, "ada", SHORT, [short_choice(source)])
    monkeypatch.setattr(bench.updater.engine, "_model", "newer")
    assert await _update(bench, "ada", LONG, [short_choice(source)]) == "committed"
    assert (await read_trial(bench.redis, TENANT)).incumbent == "llm:newer first/2"
