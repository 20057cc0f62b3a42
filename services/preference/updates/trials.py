"""A new model, adapter or prompt template writes for a share of a tenant's users first, and is held back if its
summaries predict worse than those before it.

Each user on trial counts once: the new text and the one that it replaces predict choices which the older text has
read, and the mean difference is one bet (regression.py). The trial ends well after `trial_users` users or
`trial_s` seconds; it ends badly when the evidence passes 100 to 1. Then users wait, with the summaries that they
have, until the engine serves another model or the tenant's trials are turned off.

    pi:trials:<tenant>  HASH  incumbent, users (of the tenant that have a version), candidate, began (ms), tested,
                              evidence, held
"""

import logging
import time
import zlib
from collections.abc import Mapping
from math import log
from typing import Any, Final, Literal

from prometheus_client import Counter

from alignx.schemas.summaries import ModelTrial, SummaryVersion
from alignx.schemas.tenants import TenantSettings
from services.preference.queue_records import Claim
from services.preference.updates.regression import bet
from services.storage.connection import RedisClient
from services.storage.key_names import trial_key
from services.storage.timed_cache import TimedCache

Admission = Literal["accepted", "trial", "wait"]
_LIMIT: Final = log(100)

logger = logging.getLogger("alignx.trials")


class Trials:
    """The trials of all tenants, as one worker sees them."""

    def __init__(self, redis: RedisClient, tenants: TimedCache[TenantSettings], ended: Counter) -> None:
        """`ended` counts trials by outcome."""
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._tenants = tenants
        self._ended = ended
        self._cache = TimedCache(self._read_fields)

    async def admit(self, claim: Claim, candidate: str) -> Admission:
        """Whether `candidate`, a model with its prompt template, may write for the user of the claim."""
        fields, settings = await self._cache.read(claim.tenant), await self._tenants.read(claim.tenant)
        incumbent = fields.get("incumbent")
        if incumbent == candidate:
            return "accepted"
        if not incumbent or not settings.trial_users:
            await self._write(claim.tenant, candidate)
            return "accepted"
        if fields.get("candidate") != candidate:
            await self._begin(claim.tenant, candidate)
            fields = await self._cache.read(claim.tenant)
        if fields.get("held"):
            return "wait"
        if _now_ms() - int(fields["began"]) > 1_000 * settings.trial_s:
            await self._accept(claim.tenant, candidate)
            return "accepted"
        is_small = int(fields.get("users", 0)) < settings.trial_users
        is_in_share = zlib.crc32(f"trial/{claim.member}".encode()) % 1_000 < 1_000 * settings.trial_share
        return "trial" if is_small or is_in_share else "wait"

    async def is_older(self, tenant: str, version: SummaryVersion) -> bool:
        """Whether the version is from before the trial, so that its user has not been counted."""
        began_ms = int((await self._cache.read(tenant)).get("began", 0))
        return version.created_at.timestamp() * 1_000 < began_ms

    async def record(self, tenant: str, candidate: str, old: float, new: float) -> None:
        """One user's old and new text predicted the same choices; `old` and `new` are the shares they got right."""
        key = trial_key(tenant)
        self._cache.drop(tenant)
        if await self._redis.hexists(key, "held"):
            return  # this user's update was on its way
        tested = await self._redis.hincrby(key, "tested", 1)
        evidence = await self._redis.hincrbyfloat(key, "evidence", bet(old, new))
        if evidence >= _LIMIT:
            await self._redis.hset(key, "held", 1)
            self._ended.labels("held").inc()
            logger.error("a model's summaries predict worse; it is held back", extra=_names(tenant, candidate))
        elif tested >= (await self._tenants.read(tenant)).trial_users:
            await self._accept(tenant, candidate)

    async def count_user(self, tenant: str) -> None:
        """A user of the tenant has a first version."""
        await self._redis.hincrby(trial_key(tenant), "users", 1)

    async def _begin(self, tenant: str, candidate: str) -> None:
        fresh = {"candidate": candidate, "began": _now_ms(), "tested": 0, "evidence": 0}
        await self._redis.hset(trial_key(tenant), mapping=fresh)
        await self._redis.hdel(trial_key(tenant), "held")
        self._cache.drop(tenant)
        logger.info("a model is on trial", extra=_names(tenant, candidate))

    async def _accept(self, tenant: str, candidate: str) -> None:
        await self._write(tenant, candidate)
        self._ended.labels("accepted").inc()
        logger.info("a model is accepted", extra=_names(tenant, candidate))

    async def _write(self, tenant: str, candidate: str) -> None:
        """The candidate becomes the incumbent."""
        key = trial_key(tenant)
        await self._redis.hset(key, "incumbent", candidate)
        await self._redis.hdel(key, "candidate", "began", "tested", "evidence", "held")
        self._cache.drop(tenant)

    async def _read_fields(self, tenant: str) -> Mapping[str, str]:
        fields: Mapping[str, str] = await self._redis.hgetall(trial_key(tenant))
        return fields


async def read_trial(redis: Any, tenant: str) -> ModelTrial:
    """The state of a tenant's trial, for people."""
    fields = await redis.hgetall(trial_key(tenant))
    state = "held" if fields.get("held") else "trial" if fields.get("candidate") else "none"
    return ModelTrial(
        state=state,
        incumbent=fields.get("incumbent"),
        candidate=fields.get("candidate"),
        users_tested=int(fields.get("tested", 0)),
        evidence=round(float(fields.get("evidence", 0)), 4),
    )


def _names(tenant: str, candidate: str) -> dict[str, str]:
    return {"tenant": tenant, "candidate": candidate}


def _now_ms() -> int:
    return int(1_000 * time.time())
