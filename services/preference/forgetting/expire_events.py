"""Forgets events past the age that their tenant sets (`event_ttl`): a task of the worker.

Each shard is swept once in `ALIGNX_RETENTION__SWEEP_S` seconds by whichever worker takes its key first. While a worker
sweeps, the key is a lease; afterwards it stays until the next sweep is due, so no worker leads and none needs a cursor:
a sweep that broke off begins again and passes over those whom it has cleared, at one read each. One user is cleared at
a time, by what forgetting an event does (forget_events.py); between two of them the sweep rests.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import uuid4

import orjson
from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from alignx.schemas.tenants import TenantSettings
from services.errors import UserUnknown
from services.preference.forgetting.age_limits import AgeLimits
from services.preference.forgetting.forget_events import forget_events
from services.preference.queue import KEEP_DEAD_LETTERS, Queue
from services.server.app import STORE_FAULTS
from services.settings import Settings
from services.storage.aof_rewrite import AofRewriter
from services.storage.audit_log import AuditLog
from services.storage.key_names import TENANTS
from services.storage.timed_cache import TimedCache
from services.storage.users import Store

LEASE_S: Final = 120
_USER_S: Final = 60.0
"""Longest time for one user, who may change again and again meanwhile."""
_POLL_S: Final = 30.0
_REST: Final = 3.0
"""The rest after a user, in multiples of the time that the user took."""
_USERS: Final = 200
_EVENTS: Final = 500
_ID_BYTES: Final = 40
ACTION: Final = "events.expired"
logger = logging.getLogger("alignx.expiry")


class ExpiryMetrics:
    """What sweeps came to, over all tenants."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self.events = counter("alignx_expired_events", "Events forgotten because they were older than event_ttl")
        self.users = counter("alignx_expired_users", "Users of whom a sweep has forgotten such events")
        self.failures = counter("alignx_expiry_failures", "Users, or tenants, whom a sweep has left to the next one")
        self.sweeps = counter("alignx_expiry_sweeps", "Shards swept for such events")


@dataclass(eq=False, repr=False)
class EventExpiry:
    """One object a worker; `run` until `stop`."""

    store: Store
    queue: Queue
    tenants: TimedCache[TenantSettings]
    rewriter: AofRewriter
    settings: Settings
    metrics: ExpiryMetrics

    def __post_init__(self) -> None:
        self._audit = AuditLog(self.store.redis, self.settings.gateway)
        self._redis: Any = self.store.redis  # its methods are typed for the blocking client and this one at once
        self._name = uuid4().hex
        self._stopping = False

    def stop(self, work: "asyncio.Task[None]") -> None:
        """Ends `run`, whose task is `work`; a cancellation alone can get lost, as in the dispatcher."""
        self._stopping = True
        work.cancel()

    async def run(self) -> None:
        """Works until `stop`."""
        while not self._stopping:
            try:
                seconds, micros = await self._redis.time()
                await self.sweep(seconds * 1000 + micros // 1000)
            except RedisError as error:
                logger.warning("old events are not forgotten", extra={"error": type(error).__name__})
            except Exception:  # else the task would end, and events stay for ever
                logger.exception("old events are not forgotten")
            if not self._stopping:  # the cancellation may have got lost
                await asyncio.sleep(_POLL_S)

    async def sweep(self, now_ms: int) -> None:
        """Sweeps the shards that are due, as at a moment. Raises STORE_FAULTS: the shard is then swept anew."""
        for shard in range(self.store.keys.shards):
            key = self.store.keys.expiry(shard)
            if await self._redis.set(key, self._name, nx=True, ex=LEASE_S):
                for tenant in await self._redis.zrange(TENANTS, 0, -1):
                    try:
                        if limits := AgeLimits.read(await self.tenants.read(tenant), now_ms):
                            await self._sweep_tenant(shard, tenant, limits)
                    except STORE_FAULTS:
                        raise
                    except Exception as error:  # of one tenant, which must not keep the others' events
                        self.metrics.failures.inc()
                        logger.warning(
                            "a tenant's old events stay until the next sweep", extra={"error": type(error).__name__}
                        )
                await self._redis.set(key, self._name, ex=self.settings.retention.sweep_s)
                self.metrics.sweeps.inc()

    async def _sweep_tenant(self, shard: int, tenant: str, limits: AgeLimits) -> None:
        users = events = 0
        async for names in self._pages(shard, tenant):
            for user in await self._find_due(tenant, names, limits):
                began = time.monotonic()
                removed = await self._clear(tenant, user, limits)
                users, events = users + bool(removed), events + removed
                await self._redis.expire(self.store.keys.expiry(shard), LEASE_S)
                await asyncio.sleep(_REST * (time.monotonic() - began))
        if users:
            await self._audit.add(tenant, "worker", ACTION, f"{events} events of {users} users")

    async def _pages(self, shard: int, tenant: str) -> AsyncIterator[list[str]]:
        """The tenant's users of the shard."""
        index, start = self.store.keys.user_index(tenant, shard), "-"
        while names := await self._redis.zrangebylex(index, start, "+", 0, _USERS):
            yield names
            start = f"({names[-1]}"
            await self._redis.expire(self.store.keys.expiry(shard), LEASE_S)

    async def _find_due(self, tenant: str, names: Sequence[str], limits: AgeLimits) -> list[str]:
        """Of these users those who have an event that is too old, or had one before the log."""
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            keys = self.store.keys.user(tenant, name)
            pipe.xrange(keys.log, "-", limits.latest, count=1)
            pipe.exists(keys.dead)
            pipe.getrange(keys.checkpoint, 0, _ID_BYTES)
        answers = await pipe.execute()
        due = []
        for name, old, has_dead, checkpoint in zip(names, *(answers[place::3] for place in range(3)), strict=True):
            is_past = bool(checkpoint) and limits.is_past(checkpoint.split(" ")[0])
            if is_past or ((old or has_dead) and await self._has_past(tenant, name, limits)):
                due.append(name)
        return due

    async def _has_past(self, tenant: str, user: str, limits: AgeLimits) -> bool:
        log, start = self.store.keys.user(tenant, user).log, "-"
        while entries := await self._redis.xrange(log, start, limits.latest, count=_EVENTS):
            if any(limits.is_past(event_id, orjson.loads(fields["d"])["type"]) for event_id, fields in entries):
                return True
            start = f"({entries[-1][0]}"
        letters = await self.store.dead_letters(tenant, user, None, KEEP_DEAD_LETTERS)
        return any(limits.is_past_dead(letter) for _, letter in letters)

    async def _clear(self, tenant: str, user: str, limits: AgeLimits) -> int:
        """How many events of the user are forgotten."""
        try:
            async with asyncio.timeout(_USER_S):
                removed = await forget_events(self.store, self.queue, tenant, user, limits)
        except UserUnknown:  # erased meanwhile
            return 0
        except STORE_FAULTS:
            raise
        except Exception as error:  # of one user, which must not keep the others' events
            self.metrics.failures.inc()
            logger.warning("a user's old events stay until the next sweep", extra={"error": type(error).__name__})
            return 0
        if removed.event_ids or removed.checkpoint:
            self.rewriter.request()
            self.metrics.users.inc()
            self.metrics.events.inc(len(removed.event_ids))
        return len(removed.event_ids)
