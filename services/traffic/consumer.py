"""Counts the items of users' events, behind the append: a task of the worker.

The append marks a user as unread. A consumer takes the marks of each shard under a lease, reads the user's log from
its own cursor, foresees each new choice by the tenant's weights and learns from it, and adds the items to the tenant's
counts. What a user has added is in their journal; that of an erased user is subtracted. Several consumers may run.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.exceptions import RedisError

from alignx.schemas.tenants import TenantSettings
from services.storage.connection import RedisClient, Script, ask_shards, read_script
from services.storage.key_names import GONE, KeySpace
from services.storage.timed_cache import TimedCache
from services.traffic.choices import Comparison, Entry, Past, compare, parse_entry
from services.traffic.item_store import ItemStore, Owner, StoredJournal
from services.traffic.items import find_contacts
from services.traffic.journal import Changes, Journal
from services.traffic.mixture import Mixture, hit, parse_mixtures

LEASE_S: Final = 30.0
_PAGE: Final = 200
"""Events read at once."""
_SCAN: Final = 1_000
_POLL_S, _PAUSE_S = 0.5, 1.0
logger = logging.getLogger("alignx.items")


class TrafficMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("alignx_items_events", "Events whose items are counted", registry=registry)
        self.unread = Gauge(
            "alignx_items_unread_users", "Users with events that are not counted yet", registry=registry
        )
        self.lag = Gauge(
            "alignx_items_lag_seconds", "Seconds since the oldest event that is not counted yet", registry=registry
        )
        self.comparisons = Counter(
            "alignx_mixture_comparisons",
            "Choices that the weights were tested on before they learned",
            registry=registry,
        )
        self.correct = Counter(
            "alignx_mixture_correct",
            "Of these, the ones foreseen rightly, a tie counting half",
            registry=registry,
        )


class Consumer:
    """One object a worker; `run` until `stop`."""

    def __init__(
        self, redis: RedisClient, keys: KeySpace, tenants: TimedCache[TenantSettings], metrics: TrafficMetrics
    ) -> None:
        self.redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self.keys = keys
        self.items = ItemStore(redis)
        self.metrics = metrics
        self._tenants = tenants
        self._next = Script(redis, read_script("services.traffic", "next_unread"))
        self._read = Script(redis, read_script("services.traffic", "read"))
        self._stopping = False

    def stop(self, work: "asyncio.Task[None]") -> None:
        """Ends `run`, whose task is `work`; a cancellation alone can get lost, as in the dispatcher."""
        self._stopping = True
        work.cancel()

    async def run(self) -> None:
        """Works until `stop`."""
        is_marked = False
        while not self._stopping:
            pause = _POLL_S
            try:
                if not is_marked:
                    await self.mark_histories()
                    is_marked = True
                if await self.read_all():
                    pause = 0.0
            except RedisError as error:
                logger.warning("items are not counted", extra={"error": type(error).__name__})
                pause = _PAUSE_S
            except Exception:  # else the task would end, and the counts stand still
                logger.exception("items are not counted")
                pause = _PAUSE_S
            await asyncio.sleep(pause)

    async def mark_histories(self) -> None:
        """Marks all users of an earlier release as unread, once a shard."""
        for shard in range(self.keys.shards):
            prefix = self.keys.shard_prefix(shard)
            if await self.redis.exists(prefix + "unread-all"):
                continue
            async for key in self.redis.scan_iter(match=f"{prefix}u:*:st", count=_SCAN):
                member = key.removeprefix(f"{prefix}u:").removesuffix(":st")
                await self.redis.zadd(prefix + "unread", {member: int(time.time() * 1000)}, nx=True)
            await self.redis.set(prefix + "unread-all", 1)

    async def read_all(self) -> int:
        """Reads one user of each shard that has any unread; returns how many."""
        seconds, micros = await self.redis.time()
        now = seconds * 1000 + micros // 1000
        prefixes = {shard: self.keys.shard_prefix(shard) for shard in range(self.keys.shards)}

        def measure(pipe: Any, prefix: str) -> None:
            pipe.zcard(prefix + "unread")
            pipe.zrangebyscore(prefix + "unread", "-inf", now, 0, 1, withscores=True)

        answers = await ask_shards(self.redis, prefixes, measure)
        oldest = [first[0][1] for _, first in answers.values() if first]
        self.metrics.unread.set(sum(count for count, _ in answers.values()))
        self.metrics.lag.set(max(0.0, (now - min(oldest)) / 1000) if oldest else 0.0)
        users = await asyncio.gather(*(self._read_next(shard) for shard, (_, first) in answers.items() if first))
        return sum(users)

    async def _read_next(self, shard: int) -> bool:
        unread = self.keys.shard_prefix(shard) + "unread"
        deadline = time.monotonic() + LEASE_S / 2
        answer = await self._next.run([unread], lease_ms=LEASE_S * 1000)
        if not answer:
            return False
        member, ends = answer
        tenant, user, *gone = KeySpace.split_unread(member)
        is_gone = gone == [GONE]
        keys = self.keys.user(tenant, user)
        journal = self.keys.gone_key(shard, member) if is_gone else keys.journal
        if is_gone:
            await self._subtract(tenant, journal)
        if is_gone or await self._read_log(tenant, user, deadline):
            await self._read.run([unread, journal], member=member, ends=ends, is_gone=is_gone)
        return True

    async def _subtract(self, tenant: str, key: str) -> None:
        """Takes an erased user out of the counts."""
        stored = await self._settled(tenant, key)
        changes = Changes()
        stored.journal.clear(changes)
        if changes:
            await self.items.write(key, stored, stored.cursor, changes)
            await self._settled(tenant, key)

    async def _settled(self, tenant: str, key: str) -> StoredJournal:
        """The journal, once all that it holds is counted."""
        while (stored := await self.items.journal(key)).token:
            await self.items.settle(tenant, key, stored)
        return stored

    async def _read_log(self, tenant: str, user: str, deadline: float) -> bool:
        """Whether all of the log is read; not so when it takes too long, and another consumer may have begun."""
        keys, settings = self.keys.user(tenant, user), await self._tenants.read(tenant)
        if not settings.traffic:
            return True
        while time.monotonic() < deadline:
            stamp = await self.redis.hmget(keys.state, "born", "edits")
            stored = await self._settled(tenant, keys.journal)
            page = await self.redis.xrange(keys.log, f"({stored.cursor}", "+", count=_PAGE)
            if not page:
                return True
            entries = [entry for event_id, fields in page if (entry := parse_entry(event_id, fields))]
            past = await self._look_up(tenant, entries, stored.journal, settings.traffic_least_users)
            changes, comparisons = Changes(), list[Comparison]()
            for entry in entries:
                comparisons += compare(entry, past, stored.journal)
                stored.journal.add(find_contacts(entry.event), entry.hour, changes)
                await asyncio.sleep(0)  # a comparison takes a millisecond: the worker has other tasks
            owner = Owner(keys.state, *stamp)
            if await self.items.write(keys.journal, stored, page[-1][0], changes, owner):
                self.metrics.events.inc(len(entries))
                await self._learn(tenant, comparisons)  # at most once: what is lost here teaches nothing
                await self._settled(tenant, keys.journal)
        return False

    async def _look_up(self, tenant: str, entries: Sequence[Entry], journal: Journal, least_users: int) -> Past:
        """What is known before the events of all that they compare."""
        met = {contact for entry in entries for contact in entry.compared}
        if not met:
            return Past({}, {}, least_users)
        taken = [contact for entry in entries if (contact := find_contacts(entry.event).taken)]
        likes = dict.fromkeys([*journal.recent_likes(), *taken])
        counts = await self.items.counts(tenant, [key for contact in met | likes.keys() for key in contact])
        neighbours = await self.items.neighbours(tenant, [like.key for like in likes if like.key in counts])
        return Past(counts, neighbours, least_users)

    async def _learn(self, tenant: str, comparisons: Sequence[Comparison]) -> None:
        for kind in dict.fromkeys(comparison.kind for comparison in comparisons):
            own = [comparison.difference for comparison in comparisons if comparison.kind == kind]
            before = (await self.items.learned(tenant)).get(kind, "")
            while True:
                mixture = parse_mixtures({kind: before}).get(kind, Mixture())
                hits = 0.0
                for difference in own:
                    hits += hit(difference.weigh(mixture.current))
                    mixture = mixture.learn(difference)
                after = mixture.text()
                current = await self.items.learn(tenant, kind, before, after)
                if current == after:
                    break
                before = current
            self.metrics.comparisons.inc(len(own))
            self.metrics.correct.inc(hits)
