"""The figures of arms: intervals over users, through the counting in Redis."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.outcomes import Arm
from alignx.schemas.tenants import TenantSettings
from services.outcomes.served import OutcomeMetrics, Outcomes, arm_of
from services.outcomes.uplift import estimate_rate, read_uplift
from services.settings import RedisSettings
from services.storage.connection import open_redis
from services.storage.timed_cache import TimedCache
from services.storage.users import Store

pytestmark = pytest.mark.anyio
SEEDS, USERS, SHARE, LEAST = 100, 40, 0.5, 93
TENANTS, COVERED = 2_000, 0.94
"""Tenants without Redis, and in how many of them the truth must lie in the interval."""
VISITS = {1: 0.2, 3: 0.4, 8: 0.7}
"""Selections of a user, each as likely, and how often a user of so many takes the choice without personalization."""
EFFECT = 0.15
EXPECTED = sum(visits * rate for visits, rate in VISITS.items()) / sum(VISITS)
"""The control arm's true accuracy: users of more visits count more."""


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with open_redis(RedisSettings(url=redis_url)) as redis:
        yield Store(redis, 4)


def open_outcomes(store: Store, **settings: Any) -> Outcomes:
    async def read(_: str) -> TenantSettings:
        return TenantSettings(**settings)

    return Outcomes(store.redis, store.keys, TimedCache(read), OutcomeMetrics(CollectorRegistry()))


async def visit(outcomes: Outcomes, tenant: str, user: str, rng: random.Random) -> None:
    """A user's selections, each followed by the user's choice."""
    visits = rng.choice(list(VISITS))
    rate = VISITS[visits] + EFFECT * (arm_of(tenant, user, SHARE) == "personalized")
    for number in range(visits):
        items = [f"a{number}", f"b{number}"]
        serving = await outcomes.open(tenant, user, "selection")
        await outcomes.record(serving, dict(enumerate(items)), choice=0)
        chosen, rejected = items if rng.random() < rate else items[::-1]
        await outcomes.count_events(tenant, user, [ComparisonInteraction(chosen=chosen, rejected=rejected)])


async def test_the_truth_lies_in_the_intervals(store: Store) -> None:
    """People of many visits decide alike, so that an interval over events would be too narrow."""
    outcomes, inside = open_outcomes(store, holdout_share=SHARE), {"control": 0, "personalized": 0, "uplift": 0}
    for seed in range(SEEDS):
        tenant = f"tenant-{seed}"
        users = [f"user-{number}" for number in range(USERS)]
        await asyncio.gather(*(visit(outcomes, tenant, user, random.Random(f"{seed} {user}")) for user in users))
        found = await read_uplift(store, tenant, SHARE)
        truth: dict[Arm, float] = {"control": EXPECTED, "personalized": EXPECTED + EFFECT}
        for arm, rate in truth.items():
            accuracy = found.arms[arm].accuracy
            assert accuracy.low is not None and accuracy.high is not None  # noqa: PT018
            inside[arm] += accuracy.low <= rate <= accuracy.high
            assert found.arms[arm].served["selection"] == accuracy.trials
        assert sum(figures.accuracy.users for figures in found.arms.values()) == USERS
        inside["uplift"] += found.uplift["accuracy"].low <= EFFECT <= found.uplift["accuracy"].high
    assert min(inside.values()) >= LEAST, inside


def test_intervals_cover_the_truth_of_many_tenants() -> None:
    """The estimator alone: of 100 tenants chance alone decides about two more or less."""
    rng, inside = random.Random(7), 0
    for _ in range(TENANTS):
        sums = [0] * 6
        for _ in range(USERS):
            x = rng.choice(list(VISITS))
            y = sum(rng.random() < VISITS[x] for _ in range(x))
            sums = [total + more for total, more in zip(sums, (1, x, y, x * x, y * y, x * y), strict=True)]
        rate = estimate_rate(*sums)
        assert rate.low is not None and rate.high is not None  # noqa: PT018
        inside += rate.low <= EXPECTED <= rate.high
    assert inside / TENANTS >= COVERED


def test_many_trials_of_one_user_say_less_than_those_of_many() -> None:
    """A hundred trials: of a hundred users, and of ten who always do the same."""
    alone = estimate_rate(100, 100, 50, xx=100, yy=50, xy=50)
    alike = estimate_rate(10, 100, 50, xx=1_000, yy=500, xy=500)
    assert alone.low is not None and alike.low is not None  # noqa: PT018
    assert (alone.rate, alike.rate) == (0.5, 0.5)
    assert alike.low < alone.low - 0.1


@pytest.mark.parametrize("successes", [0, 30])
def test_users_who_all_agree_leave_doubt(successes: int) -> None:
    rate = estimate_rate(10, 30, successes, xx=90, yy=3 * successes, xy=3 * successes)
    assert rate.low is not None and rate.high is not None  # noqa: PT018
    assert rate.high - rate.low > 0.2


def test_one_user_has_no_interval() -> None:
    assert (estimate_rate(1, 4, 2, 16, 4, 8).rate, estimate_rate(1, 4, 2, 16, 4, 8).low) == (0.5, None)
    assert estimate_rate(0, 0, 0, 0, 0, 0).rate is None


def test_arms_are_stable_shares_of_each_tenant() -> None:
    users = [f"user-{number}" for number in range(4_000)]
    tenth, half = [{user for user in users if arm_of("acme", user, share) == "control"} for share in (0.1, 0.5)]
    assert 330 < len(tenth) < 470
    assert 1_850 < len(half) < 2_150
    assert tenth < half  # a larger share keeps those held out
    assert len({user for user in half if arm_of("other", user, 0.5) == "control"}) < 1_150  # salted
    assert arm_of("acme", "ada", 0.0) == "personalized"
