"""What became of answers by arm, with 95 % intervals that allow for a user's trials being alike.

Users are the clusters. A rate is the ratio of all successes to all trials, its variance that of a ratio over
clusters by the delta method (Deng, Knoblich and Lu 2018, "Applying the Delta Method in Metric Analytics"). From it
follows the effective number of trials, reduced by Student's t for few users (Korn and Graubard 1998, "Confidence
intervals for proportions with small expected number of positive counts"), with which Wilson's interval is taken. The
interval of the difference combines those of both rates (Newcombe 1998, method 10).
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from math import sqrt
from typing import Any, Final, get_args
from urllib.parse import quote

from alignx.schemas.outcomes import Arm, ArmFigures, Difference, Kind, Measure, Rate, Uplift
from services.profile.scoring import interval
from services.storage.users import Store, reply

_SUMS: Final = ("users", "x", "y", "xx", "yy", "xy")
_MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_Z: Final = 1.959964


async def read_uplift(store: Store, tenant: str, share: float) -> Uplift:
    """The figures of a tenant's answers while its holdout was `share`, erased users included."""
    arms: dict[Arm, ArmFigures] = {arm: await _read_arm(store, tenant, share, arm) for arm in get_args(Arm)}
    since, until = await _read_period(store, tenant, share)
    rates = {measure: [getattr(arms[arm], measure) for arm in ("personalized", "control")] for measure in _MEASURES}
    found = {measure: difference for measure, pair in rates.items() if (difference := _subtract(*pair))}
    return Uplift(holdout_share=share, since=since, until=until, arms=arms, uplift=found)


async def _read_rows(store: Store, tenant: str, share: float, names: Sequence[str]) -> list[list[str | None]]:
    """The fields `names` of the tenant's figures, a row for each shard."""
    fields = [f"{quote(tenant, safe='')}:{share:g}:{name}" for name in names]
    shards = [store.keys.shard_prefix(shard) + "arms" for shard in range(store.keys.shards)]
    return list(await asyncio.gather(*(reply(store.redis.hmget(shard, fields)) for shard in shards)))


async def _read_period(store: Store, tenant: str, share: float) -> tuple[datetime | None, datetime | None]:
    """When the first and the latest answer were served."""
    rows = await _read_rows(store, tenant, share, ("since", "until"))
    first, last = ([_read_time(time) for time in times if time] for times in zip(*rows, strict=True))
    return min(first, default=None), max(last, default=None)


def _read_time(milliseconds: str) -> datetime:
    """Of a hexadecimal number, as ids of answers begin with."""
    return datetime.fromtimestamp(int(milliseconds, 16) / 1000, UTC)


async def _read_arm(store: Store, tenant: str, share: float, arm: Arm) -> ArmFigures:
    names = [f"{arm}:served.{kind}" for kind in _KINDS]
    names += [f"{arm}:{measure}.{name}" for measure in _MEASURES for name in _SUMS]
    rows = await _read_rows(store, tenant, share, names)
    totals = [sum(int(row[place] or 0) for row in rows) for place in range(len(names))]
    served, sums = totals[: len(_KINDS)], totals[len(_KINDS) :]
    rates: dict[str, Any] = {
        measure: estimate_rate(*sums[place * len(_SUMS) : (place + 1) * len(_SUMS)])
        for place, measure in enumerate(_MEASURES)
    }
    return ArmFigures(served=dict(zip(_KINDS, served, strict=True)), **rates)


def estimate_rate(users: int, trials: int, successes: int, xx: int, yy: int, xy: int) -> Rate:
    """From sums over users of trials x and successes y: x², y² and xy."""
    if not trials:
        return Rate(users=users)
    rate = successes / trials
    fields: dict[str, Any] = {"users": users, "trials": trials, "successes": successes, "rate": round(rate, 4)}
    if users < 2:
        return Rate(**fields)
    residues = yy - 2 * rate * xy + rate * rate * xx
    variance = users / (users - 1) * residues / trials**2
    # Users of whom all agree tell no variance: each then counts as one trial.
    effective = min(trials, rate * (1 - rate) / variance) if variance > 1e-12 else users
    low, high = interval(rate, effective * (_Z / _student(users - 1)) ** 2)
    return Rate(**fields, low=round(low, 4), high=round(high, 4))


def _student(freedom: int) -> float:
    """The 97.5 % point of Student's t (Abramowitz and Stegun 26.7.5, to the third term)."""
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _subtract(one: Rate, other: Rate) -> Difference | None:
    if one.rate is None or one.low is None or one.high is None:
        return None
    if other.rate is None or other.low is None or other.high is None:
        return None
    value = one.rate - other.rate
    low = value - sqrt((one.rate - one.low) ** 2 + (other.high - other.rate) ** 2)
    high = value + sqrt((one.high - one.rate) ** 2 + (other.rate - other.low) ** 2)
    return Difference(value=round(value, 4), low=round(low, 4), high=round(high, 4))
