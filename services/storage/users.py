"""Reads a user's history, profile and summary from Redis, by the names of key_names.py."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from alignx.schemas.interactions import INTERACTION, Interaction, Pair
from alignx.schemas.summaries import (
    DeadLetter,
    PreferenceChange,
    Preferences,
    Prequential,
    RejectedDraft,
    StoredInteraction,
    SummaryVersion,
    WaitReason,
)
from alignx.schemas.tenants import TenantSettings
from services.errors import AlignXError, StoreUnavailable, UserUnknown, VersionUnknown
from services.profile.serialize import loads
from services.profile.stated.sensitive import DEFAULT, Policy, read_policy
from services.profile.statistics import EMPTY, Profile
from services.storage.connection import RedisClient, Script, ping, read_script
from services.storage.key_names import KeySpace, weights_key
from services.storage.prequential import SCORERS, parse_quality
from services.storage.timed_cache import TimedCache
from services.storage.user_profile import Checkpoint, HistoryFold, render_profile

LOW_PRIORITY = 2**50
"""Added to the due time (ms) of users who wait for a backfill, as in lua/schedule.lua: all others go first."""
_EVIDENCE_EVENTS = 200
"""Newest events whose ids claims may name."""
_PAGE = 500
_RECENT_EVENTS = 20


@dataclass(frozen=True, slots=True)
class UserState:
    """The small numbers kept of a user, as one hash."""

    born: str
    """When the user was first seen (ms); tells a user from a later one of the same name."""
    events: int
    """Events ever accepted."""
    pending: int
    waiting_for: WaitReason | None
    version: int
    cursor: str
    """Id of the last event that is part of the summary."""
    quality: dict[str, Prequential]
    changed: PreferenceChange | None

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> "UserState":
        return cls(
            born=fields["born"],
            events=int(fields.get("n", 0)),
            pending=max(0, int(fields.get("pend", 0))),
            waiting_for=_wait_reason(fields, 1000 * time.time()),
            version=int(fields.get("ver", 0)),
            cursor=fields.get("cur", "0-0"),
            quality=parse_quality(fields),
            changed=PreferenceChange.model_validate_json(text) if (text := fields.get("changed")) else None,
        )


def _wait_reason(fields: Mapping[str, str], now_ms: float) -> WaitReason | None:
    if int(fields.get("pend", 0)) <= 0:
        return None
    if "own" in fields:
        return "update"
    if float(fields.get("hold", 0)) > now_ms:
        return "engine" if "strikes" in fields else "budget" if "spent" in fields else "trial"
    if "t0" in fields or "due" not in fields:
        return "worker"
    return "backfill" if float(fields["due"]) >= LOW_PRIORITY else "cadence"


NO_STAMP = "0:0:0"
"""Stamp of a user who does not exist yet."""


class Store:
    """Reads of a user's history and summary. Every method names tenant and user."""

    def __init__(self, redis: RedisClient, shards: int, tenants: TimedCache[TenantSettings] | None = None) -> None:
        """`tenants` say what is kept out of the profile's text; without them the default is."""
        self.redis = redis
        self.tenants = tenants
        self.keys = KeySpace(shards)
        self._evidence = Script(redis, read_script("services.storage", "evidence"))
        self._weight_sums = TimedCache(self._read_weight_sums)

    async def ready(self) -> None:
        """Raises StoreUnavailable unless Redis answers a write-free round trip; of a cluster, a part."""
        try:
            await ping(self.redis)
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise StoreUnavailable from error

    async def claim_shards(self) -> None:
        """Records the number of shards at the first start and refuses another number later."""
        await reply(self.redis.set("pi:shards", self.keys.shards, nx=True))
        stored = int(await reply(self.redis.get("pi:shards")))
        if stored != self.keys.shards:
            raise AlignXError(
                f"ALIGNX_QUEUE__SHARDS is {self.keys.shards}, but this Redis holds {stored} shards. "
                "The number is fixed when a deployment first starts."
            )

    async def state(self, tenant: str, user: str) -> UserState:
        """Raises UserUnknown."""
        fields = await reply(self.redis.hgetall(self.keys.user(tenant, user).state))
        if not fields:
            raise UserUnknown
        return UserState.parse(fields)

    async def profile(self, tenant: str, user: str) -> tuple[str, Profile]:
        """The user's stamp, which changes with every write of the profile, and the profile;
        (NO_STAMP, the empty profile) when unknown."""
        keys = self.keys.user(tenant, user)
        pipe = self.redis.pipeline(transaction=False)
        pipe.hmget(keys.state, "born", "n", "edits")
        pipe.get(keys.profile)
        (born, events, edits), raw = await pipe.execute()
        stamp = f"{born}:{events or 0}:{edits or 0}" if born else NO_STAMP
        return stamp, await self._load(raw, tenant, user)

    async def evidence(self, tenant: str, user: str) -> tuple[Profile, list[str]]:
        """The profile, and the ids of the newest events that it has folded, oldest first; none where events were set
        aside, since their places are not known then."""
        keys = self.keys.user(tenant, user)
        raw, *newest = await self._evidence.run([keys.profile, keys.log, keys.dead], most=_EVIDENCE_EVENTS)
        return await self._load(raw, tenant, user), newest[::-1]

    async def _load(self, raw: str | None, tenant: str, user: str) -> Profile:
        """The user's profile, of which `raw` is stored."""
        try:
            return loads(raw.encode()) if raw else EMPTY
        except ValueError:  # of another release; the next event stores it anew
            return await self.fold_history(tenant, user)

    async def policy(self, tenant: str) -> Policy:
        """What is kept out of what is inferred of a tenant's users."""
        return read_policy(await self.tenants.read(tenant)) if self.tenants else DEFAULT

    async def fold_history(self, tenant: str, user: str, rollback: SummaryVersion | None = None) -> Profile:
        """The profile from the checkpoint and the kept events, with the user's own text at its time, and without what
        rollbacks took back, or the `rollback` to come. Raises UserUnknown."""
        versions = [*([rollback] if rollback else []), *await self.versions(tenant, user, None, None)]
        checkpoint = await self.checkpoint(tenant, user)
        folding = HistoryFold(versions, checkpoint.profile)
        async for event in self.history(tenant, user):
            folding.add(event)
        return folding.end()

    async def history(self, tenant: str, user: str) -> AsyncIterator[StoredInteraction]:
        """All kept events, oldest first."""
        after = None
        while page := await self.events(tenant, user, after, _PAGE):
            for event in page:
                yield event
                await asyncio.sleep(0)  # a long history would keep others waiting
            after = page[-1].event_id

    async def checkpoint(self, tenant: str, user: str) -> Checkpoint:
        """What is known of the events that left the log."""
        raw = await reply(self.redis.get(self.keys.user(tenant, user).checkpoint))
        if not raw:
            return Checkpoint()
        first, last, dump = raw.split(" ", 2)
        try:
            return Checkpoint(first, last, loads(dump.encode()))
        except ValueError:  # of another release
            return Checkpoint(first, last)

    async def preferences(self, tenant: str, user: str) -> Preferences:
        """The current summary, or the profile's text while no version exists. Raises UserUnknown."""
        keys = self.keys.user(tenant, user)
        pipe = self.redis.pipeline(transaction=False)
        pipe.hgetall(keys.state)
        pipe.get(keys.summary)
        fields, record = await pipe.execute()
        if not fields:
            raise UserUnknown
        state = UserState.parse(fields)
        if record:
            current = SummaryVersion.model_validate_json(record)
        else:
            profile, event_ids = await self.evidence(tenant, user)
            current = render_profile(profile, event_ids, state.events, await self.policy(tenant))
        return Preferences(
            **dict(current),
            user=user,
            pending=state.pending,
            waiting_for=state.waiting_for,
            events_total=state.events,
            quality=state.quality,
            changed=state.changed,
        )

    async def version(self, tenant: str, user: str, number: int) -> SummaryVersion:
        """Raises UserUnknown or VersionUnknown."""
        versions = await self._versions(tenant, user, [number])
        if not versions:
            raise VersionUnknown(f"Version {number} does not exist or is no longer kept.")
        return versions[0]

    async def versions(self, tenant: str, user: str, before: int | None, limit: int | None) -> list[SummaryVersion]:
        """Newest first, all older than `before` if it is given, at most `limit` if it is. Raises UserUnknown."""
        state = await self.state(tenant, user)
        older = await reply(self.redis.hkeys(self.keys.user(tenant, user).versions))
        newest = state.version if before is None else min(state.version, before - 1)
        numbers = sorted({state.version, *map(int, older)}, reverse=True)  # with gaps: some are dropped or forgotten
        return await self._versions(tenant, user, [number for number in numbers if 0 < number <= newest][:limit])

    async def _versions(self, tenant: str, user: str, numbers: Sequence[int]) -> list[SummaryVersion]:
        keys = self.keys.user(tenant, user)
        pipe = self.redis.pipeline(transaction=False)
        pipe.exists(keys.state)
        pipe.get(keys.summary)
        pipe.hmget(keys.versions, [str(number) for number in numbers] or ["0"])
        exists, current, older = await pipe.execute()
        if not exists:
            raise UserUnknown
        records = [SummaryVersion.model_validate_json(record) for record in (current, *older) if record]
        by_number = {record.version: record for record in records}
        return [by_number[number] for number in numbers if number in by_number]

    async def events(self, tenant: str, user: str, after: str | None, limit: int) -> list[StoredInteraction]:
        """Kept events after the id `after`, oldest first, at most `limit`."""
        entries = await reply(
            self.redis.xrange(self.keys.user(tenant, user).log, f"({after}" if after else "-", "+", count=limit)
        )
        return [parse_event(event_id, fields) for event_id, fields in entries]

    async def events_before(self, tenant: str, user: str, end: str, limit: int) -> list[StoredInteraction]:
        """The latest events up to the id `end`, or before it when it is written "(id"; oldest
        first. `end` "+" is the newest."""
        entries = await reply(self.redis.xrevrange(self.keys.user(tenant, user).log, end, "-", count=limit))
        return [parse_event(event_id, fields) for event_id, fields in reversed(entries)]

    async def choices_before(self, tenant: str, user: str, end: str, most: int) -> list[Pair]:
        """The latest choices up to the id `end`, oldest first; of several that one event holds, the first."""
        events = await self.events_before(tenant, user, end, _RECENT_EVENTS)
        return [pair for event in events for pair in event.interaction.pairs()[:1]][-most:]

    async def first_id(self, tenant: str, user: str, after: str) -> str:
        """Id of the first event after `after`, without reading what it holds; "" if there is none."""
        entries = await reply(self.redis.xrange(self.keys.user(tenant, user).log, f"({after}", "+", count=1))
        return str(entries[0][0]) if entries else ""

    async def dead_letters(self, tenant: str, user: str, after: str | None, limit: int) -> list[tuple[str, DeadLetter]]:
        """Oldest first, each with the id of its entry, which is the cursor of the list."""
        entries = await reply(
            self.redis.xrange(self.keys.user(tenant, user).dead, f"({after}" if after else "-", "+", count=limit)
        )
        return [(entry_id, _parse_dead_letter(entry_id, fields)) for entry_id, fields in entries]

    async def rejected(self, tenant: str, user: str) -> list[RejectedDraft]:
        """Replies that were no summary, newest first."""
        drafts = await reply(self.redis.lrange(self.keys.user(tenant, user).rejected, 0, -1))
        return [RejectedDraft.model_validate_json(draft) for draft in drafts]

    async def tenant_quality(self, tenant: str) -> dict[str, Prequential]:
        """Prequential quality of all users of a tenant, erased ones included."""
        prefix = f"{quote(tenant, safe='')}:"
        shards = [self.keys.shard_prefix(shard) + "quality" for shard in range(self.keys.shards)]
        names = [f"{prefix}{scorer}.{sum_}" for scorer in SCORERS for sum_ in ("n", "ok", "p")]
        rows = await asyncio.gather(*(reply(self.redis.hmget(shard, names)) for shard in shards))
        totals = [sum(float(row[index] or 0) for row in rows) for index in range(len(names))]
        return parse_quality(dict(zip(names, map(str, totals), strict=True)), prefix)

    async def weight_sums(self, tenant: str) -> dict[str, float]:
        """From which the scorers of the tenant's selections are weighed; at most a second old."""
        return await self._weight_sums.read(tenant)

    async def _read_weight_sums(self, tenant: str) -> dict[str, float]:
        stored = await reply(self.redis.hgetall(weights_key(tenant)))
        return {name: float(value) for name, value in stored.items()}


def parse_event(event_id: str, fields: Mapping[str, str]) -> StoredInteraction:
    """An entry of a user's log."""
    return StoredInteraction(
        event_id=event_id,
        received_at=event_time(event_id),
        interaction=INTERACTION.validate_json(fields["d"]),
        predicted=tuple(map(float, fields.get("p", "").split())),
        first_id=fields.get("o", ""),
    )


def _parse_dead_letter(entry_id: str, fields: Mapping[str, str]) -> DeadLetter:
    try:
        interaction = INTERACTION.validate_json(fields["d"])
    except ValidationError:
        interaction = None
    return DeadLetter(
        event_id=fields["id"],
        error=fields["error"],
        failed_at=event_time(entry_id),
        interaction=interaction,
        first_id=fields.get("o", ""),
    )


def event_time(event_id: str) -> datetime:
    """When the event was stored: its id begins with milliseconds since 1970."""
    return datetime.fromtimestamp(int(event_id.split("-")[0]) / 1000, UTC)


def encode_record(version: SummaryVersion | RejectedDraft) -> str:
    """A version, or a rejected draft, as it is stored: defaults left out, to save memory."""
    return version.model_dump_json(exclude_defaults=True)


def encode_interaction(interaction: Interaction) -> str:
    """An event as the log stores it: its JSON without what is empty."""
    return interaction.model_dump_json(exclude_none=True)


async def reply(pending: Any) -> Any:
    """Awaits a command: redis-py types one as maybe-awaitable because its sync client shares them."""
    return await pending
