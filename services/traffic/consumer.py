"""Counts the items of users' events, behind the append: a task of the worker.

The append marks a user as unread. A consumer takes the marks of each shard under a lease, reads the user's log from
its own cursor, foresees each new choice by the tenant's weights and learns from it, and adds the items to the tenant's
counts. What a user has added is in their journal; that of an erased user is subtracted. Several consumers may run.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from math import log
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import ValidationError
from redis.exceptions import RedisError

from alignx.schemas.interactions import INTERACTION, Interaction
from alignx.schemas.tenants import TenantSettings
from services.engine.choice.fusion import kind_of
from services.storage.connection import RedisClient, Script, ask_shards, read_script
from services.storage.key_names import GONE, KeySpace
from services.storage.timed_cache import TimedCache
from services.storage.users import parse_event_id
from services.traffic.features import Traffic, compare_popularity
from services.traffic.item_store import ItemStore, Owner, StoredJournal
from services.traffic.items import Contact, find_contact, find_contacts
from services.traffic.journal import Changes, Journal
from services.traffic.mixture import Features, Kind, Mixture, hit, parse_mixtures, subtract
from services.traffic.negatives import Drawn

LEASE_S: Final = 30.0
_PAGE: Final = 200
"""Events read at once."""
_SCAN: Final = 1_000
_POLL_S, _PAUSE_S = 0.5, 1.0
_LEARN_FOR_MS: Final = 3_600_000
"""Age of an event past which it teaches nothing: a history that is read again has taught already."""
_HOUR_MS: Final = 3_600_000
_PAIRS: Final = 2
"""Choices of one event that teach: the others were shown beside the same item."""
_CERTAIN: Final = 1e-9

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


class Entry(NamedTuple):
    """An event of a user's log."""

    event_id: str
    event: Interaction
    predicted: tuple[float, ...]
    """By the profile, of each of the event's first choices."""
    drawn: Drawn | None

    @classmethod
    def parse(cls, event_id: str, fields: Mapping[str, str]) -> "Entry":
        """Raises ValidationError."""
        predicted = tuple(map(float, fields.get("p", "").split()))
        drawn = Drawn.parse(fields["x"]) if fields.get("x") else None
        return cls(event_id, INTERACTION.validate_json(fields["d"]), predicted, drawn)

    @property
    def hour(self) -> int:
        """Since 1970; when it happened, as far as that is before it was received."""
        received = parse_event_id(self.event_id)[0]
        happened = self.event.occurred_at
        at = min(received, int(happened.timestamp() * 1000)) if happened else received
        return max(0, at // _HOUR_MS)


class Comparison(NamedTuple):
    kind: Kind
    difference: Features


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
        is_done = await (self._subtract(tenant, journal) if is_gone else self._read_log(tenant, user, deadline))
        if is_done:
            await self._read.run([unread, journal], member=member, ends=ends, is_gone=is_gone)
        return True

    async def _subtract(self, tenant: str, key: str) -> bool:
        """Takes an erased user out of the counts."""
        stored = await self._settled(tenant, key)
        changes = Changes()
        stored.journal.clear(changes)
        if changes:
            await self.items.write(key, stored, stored.cursor, changes)
            await self._settled(tenant, key)
        return True

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
            entries = [entry for event_id, fields in page if (entry := _parse(event_id, fields))]
            traffic = await self._look_up(tenant, entries, stored.journal, settings.traffic_least_users)
            changes, comparisons = Changes(), list[Comparison]()
            for entry in entries:
                comparisons += compare(entry, traffic, stored.journal)
                stored.journal.add(find_contacts(entry.event), entry.hour, changes)
                await asyncio.sleep(0)  # a comparison takes a millisecond: the worker has other tasks
            owner = Owner(keys.state, *stamp)
            if await self.items.write(keys.journal, stored, page[-1][0], changes, owner):
                self.metrics.events.inc(len(entries))
                await self._learn(tenant, comparisons)  # at most once: what is lost here teaches nothing
                await self._settled(tenant, keys.journal)
        return False

    async def _look_up(self, tenant: str, entries: Sequence[Entry], journal: Journal, least_users: int) -> Traffic:
        """What is known before the events of all that they compare."""
        keys, likes = list[str](), journal.recent_likes()
        for entry in entries:
            contacts = find_contacts(entry.event)
            likes += [contacts.taken.key] if contacts.taken else []
            if entry.drawn or entry.predicted:
                met = (*([contacts.taken] if contacts.taken else []), *contacts.others)
                keys += [key for one in met for key in one]
            keys += [entry.drawn.key, entry.drawn.category] if entry.drawn else []
        if not keys:
            return Traffic({}, {}, 0.0, least_users)
        likes = list(dict.fromkeys(likes))
        counts = await self.items.counts(tenant, [*keys, *likes])
        neighbours = await self.items.neighbours(tenant, likes)
        return Traffic(counts, neighbours, 0.0, least_users)

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


def _parse(event_id: str, fields: Mapping[str, str]) -> Entry | None:
    """None for an event that this release cannot read."""
    try:
        return Entry.parse(event_id, fields)
    except ValidationError:
        return None


def compare(entry: Entry, traffic: Traffic, journal: Journal) -> list[Comparison]:
    """The choices of an event, by what was known before it."""
    is_old = time.time() * 1000 - parse_event_id(entry.event_id)[0] > _LEARN_FOR_MS
    if is_old or not (entry.predicted or entry.drawn):
        return []
    traffic = traffic._replace(hour=entry.hour)
    near = traffic.nearness(journal.recent_likes())
    if entry.drawn:
        taken, other = find_contacts(entry.event).taken, Contact(entry.drawn.key, entry.drawn.category)
        known = journal.likes.keys() | journal.shown.keys()
        # One that nobody has met before is no fair match for one that was drawn from those that others met.
        if taken is None or taken.key not in traffic.counts or not known.isdisjoint((taken.key, other.key)):
            return []
        difference = subtract(traffic.features(taken, near), traffic.features(other, near))
        return [Comparison("drawn", difference._replace(profile=entry.drawn.odds, given=entry.drawn.given))]
    comparisons = []
    for pair, probability in zip(entry.event.pairs()[:_PAIRS], entry.predicted, strict=False):
        chosen, rejected = find_contact(pair.chosen), find_contact(pair.rejected)
        if chosen or rejected:
            difference = subtract(traffic.features(chosen, near), traffic.features(rejected, near))
            given = compare_popularity(pair.chosen, pair.rejected)
            odds = log(max(_CERTAIN, probability) / max(_CERTAIN, 1 - probability)) - given
            kind = kind_of((pair.chosen, pair.rejected))
            comparisons.append(Comparison(kind, difference._replace(profile=odds, given=given)))
    return comparisons
