"""The update queue: events of a user are applied in order, once, by one worker at a time.

Redis holds everything; each operation is one Lua script (lua/*.lua), so it happens wholly or not at
all. A worker claims a user under a lease with a fencing token; what it writes is accepted only with
that token and only against the version and cursor it started from. The compare-and-set gives
correctness; the lease saves engine time. All waiting events of a user become one update.

    append ──> ready ──claim──> leased ──commit──> released (or ready again, if more came)
                 ^                 ├──fail────> ready later, or the batch halved, or one event set aside
                 └──lease expired──┘                                                (a dead letter; retry: ready)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alignx.schemas.summaries import SummaryVersion
from services.errors import BacklogFull, IdempotencyMismatch, QueueFull, StaleVersion, UserUnknown
from services.settings import QueueSettings, SummarySettings
from services.storage.connection import RedisClient, Script, ask_shards, read_script
from services.storage.key_names import KeySpace
from services.storage.users import encode_record

SCRIPTS = ("append", "claim", "beat", "commit", "edit", "fail", "forget", "publish", "rebuild", "quality", "retry")
"""One an operation, in lua/."""
LIVE_MS = 60_000
"""How long a finished live stream can still be resumed."""
DEAD_LETTERS_KEPT = 1_000
FailKind = Literal["engine", "refusal", "data", "release"]
"""Who is at fault: the engine, it or the data, the data, nobody."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Sums of prequential tests: how many choices, how many predicted, probability given to them."""

    count: int = 0
    hits: float = 0.0
    mass: float = 0.0

    @classmethod
    def of(cls, probabilities: Sequence[float]) -> "Scored":
        hits = sum(0.5 if p == 0.5 else float(p > 0.5) for p in probabilities)
        return cls(len(probabilities), hits, sum(probabilities))


@dataclass(frozen=True, slots=True)
class Appended:
    ids: tuple[str, ...]
    pending: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A user in a worker's hands."""

    tenant: str
    user: str
    member: str
    token: str
    cursor: str
    version: int
    pending: int
    cap: int
    """At most this many events in this update; 0 is no cap."""
    suspect: bool
    """The next event has killed workers before: it is not to be tried again."""
    rebuild: str
    """Which rebuild was asked for; empty for none."""
    born: str
    last_id: str
    """The newest event at the time of the claim."""
    calls: str = ""
    """Which calls asked for the update, as origins.py reads it."""
    at_ms: int = 0
    """When it was claimed, by Redis's clock."""


class Queue:
    """One method for each script; all raise the tree's errors, none retries."""

    def __init__(self, redis: RedisClient, queue: QueueSettings, summary: SummarySettings) -> None:
        self.redis = redis
        self.settings = queue
        self.summary = summary
        self.keys = KeySpace(queue.shards)
        self._scripts = {name: Script(redis, read_script("services.preference", name)) for name in SCRIPTS}
        self.away = 0
        """Shards that did not answer the latest look at all of them: a part of the cluster is away."""

    async def append(
        self,
        tenant: str,
        user: str,
        events: Sequence[str],
        *,
        stamp: str,
        profile: bytes,
        scored: Scored,
        idempotency_key: str = "",
        digest: str = "",
        at_once: bool = False,
        call: str = "",
    ) -> Appended | None:
        """Stores encoded events and the profile that includes them, if the user is still at `stamp`;
        None if not. `call` is kept for the update that follows. Raises BacklogFull, QueueFull, IdempotencyMismatch."""
        keys, limit = self.keys.user(tenant, user), self.settings
        reply = await self._scripts["append"](
            keys=[keys.state, keys.log, keys.ready, keys.idempotency, keys.profile, keys.quality, keys.calls],
            args=[
                keys.member,
                stamp,
                profile,
                0 if at_once else limit.debounce_ms,
                limit.max_wait_ms,
                limit.user_backlog,
                limit.shard_backlog,
                idempotency_key,
                digest,
                limit.idempotency_s * 1000,
                scored.count,
                scored.hits,
                scored.mass,
                keys.member.split(":")[0],
                call,
                *events,
            ],
        )
        match reply[0]:
            case "OK":
                return Appended(tuple(reply[2:]), int(reply[1]))
            case "REPLAY":
                return Appended(tuple(reply[2].split()), int(reply[1]), replayed=True)
            case "MISMATCH":
                raise IdempotencyMismatch
            case "FULL":
                raise self._backlog_full(reply[1], len(events))
            case "BUSY":
                raise QueueFull(retry_after=5, limit=limit.shard_backlog)
            case _:
                return None

    async def due_shards(self) -> list[int]:
        """Shards in which a user is due or a lease has run out, by the server's clock."""
        seconds, micros = await self.redis.time()
        now = seconds * 1000 + micros // 1000

        def count_due(pipe: Any, prefix: str) -> None:
            pipe.zcount(prefix + "ready", "-inf", now)
            pipe.zcount(prefix + "leases", "-inf", now)

        return [shard for shard, counts in (await self._each_shard(count_due)).items() if any(counts)]

    async def _each_shard(self, ask: Callable[[Any, str], None]) -> dict[int, list[Any]]:
        prefixes = {shard: self.keys.shard_prefix(shard) for shard in range(self.settings.shards)}
        found = await ask_shards(self.redis, prefixes, ask)
        self.away = self.settings.shards - len(found)
        return found

    async def claim(self, shard: int, worker: str, crowding: Iterable[str] = ()) -> tuple[int, Claim | None]:
        """(leases found expired, a due user of the shard if there is one). The users of `crowding`
        tenants, named as in members, are passed over."""
        prefix, limit = self.keys.shard_prefix(shard), self.settings
        expired, *row = await self._scripts["claim"](
            keys=[prefix + "ready", prefix + "leases", prefix + "tok"],
            args=[
                prefix + "u:",
                worker,
                limit.lease_ms,
                limit.tenant_in_flight,
                limit.data_retries,
                self.summary.batch_events,
                *crowding,
            ],
        )
        if not row:
            return int(expired), None
        member, token, cursor, version, pending, cap, suspect, rebuild, born, last_id, calls, at_ms = row
        tenant, user = KeySpace.split_member(member)
        claim = Claim(
            tenant=tenant,
            user=user,
            member=member,
            token=str(token),
            cursor=cursor,
            version=int(version),
            pending=int(pending),
            cap=int(cap),
            suspect=suspect == "1",
            rebuild=rebuild,
            born=born,
            last_id=last_id,
            calls=calls,
            at_ms=int(at_ms),
        )
        return int(expired), claim

    async def depth(self) -> tuple[int, float]:
        """(users waiting for an update, seconds by which the oldest is overdue)."""
        seconds, _ = await self.redis.time()

        def measure(pipe: Any, prefix: str) -> None:
            pipe.zcard(prefix + "ready")
            pipe.zrange(prefix + "ready", 0, 0, withscores=True)

        rows = (await self._each_shard(measure)).values()
        oldest = [first[0][1] for _, first in rows if first]
        overdue = seconds - min(oldest) / 1000 if oldest else 0.0
        return sum(waiting for waiting, _ in rows), max(0.0, overdue)

    async def beat(self, claim: Claim) -> bool:
        """Extends the lease; False when it is lost."""
        keys = self.keys.user(claim.tenant, claim.user)
        reply = await self._scripts["beat"](
            keys=[keys.state, keys.leases], args=[claim.member, claim.token, self.settings.lease_ms]
        )
        return bool(reply)

    async def commit(self, claim: Claim, record: SummaryVersion, cursor: str, applied: int) -> bool:
        """Makes `record` current if nobody wrote in between; False when fenced or in conflict."""
        keys = self.keys.user(claim.tenant, claim.user)
        reply = await self._scripts["commit"](
            keys=[keys.state, keys.ready, keys.leases, keys.summary, keys.versions, keys.log, keys.live, keys.calls],
            args=[
                claim.member,
                claim.token,
                claim.version,
                claim.cursor,
                cursor,
                applied,
                claim.rebuild,
                encode_record(record),
                self.summary.keep_versions,
                self.summary.keep_events,
                LIVE_MS,
                claim.calls,
            ],
        )
        return bool(reply[0] == "OK")

    async def edit(
        self, tenant: str, user: str, expected: int, record: SummaryVersion, *, stamp: str = "", profile: bytes = b""
    ) -> bool:
        """Writes a version by hand over version `expected`, with a profile if the user is still at
        `stamp`; False if not. Raises StaleVersion."""
        keys = self.keys.user(tenant, user)
        reply = await self._scripts["edit"](
            keys=[keys.state, keys.summary, keys.versions, keys.live, keys.profile],
            args=[expected, encode_record(record), self.summary.keep_versions, LIVE_MS, stamp, profile],
        )
        if reply[0] == "STALE":
            raise StaleVersion(f"The current version is {reply[1]}, not {expected}.", current_version=int(reply[1]))
        return bool(reply[0] == "OK")

    async def fail(
        self, claim: Claim, kind: FailKind, *, first: str = "", batch: int = 0, error: str = "", passed_ms: int = 0
    ) -> str:
        """Ends an update that did not work; what follows, in the script's word. A refusal is the engine's
        fault unless it has served another user, claimed at `passed_ms`, since it last refused this one."""
        keys, limit = self.keys.user(claim.tenant, claim.user), self.settings
        reply = await self._scripts["fail"](
            keys=[keys.state, keys.ready, keys.leases, keys.log, keys.dead, keys.calls],
            args=[
                claim.member,
                claim.token,
                kind,
                first,
                batch,
                error,
                limit.data_retries,
                limit.event_failures,
                limit.backoff_ms,
                limit.backoff_max_ms,
                DEAD_LETTERS_KEPT,
                claim.rebuild,
                passed_ms,
            ],
        )
        return str(reply[0])

    async def publish(self, claim: Claim, event: str, data: str) -> bool:
        """Adds to the user's live stream; False when the lease is lost."""
        keys = self.keys.user(claim.tenant, claim.user)
        reply = await self._scripts["publish"](keys=[keys.state, keys.live], args=[claim.token, event, data, LIVE_MS])
        return bool(reply)

    async def record_quality(self, claim: Claim, scored: Scored) -> None:
        """Adds the engine's tests of the summary to the sums of the user and the tenant."""
        keys = self.keys.user(claim.tenant, claim.user)
        await self._scripts["quality"](
            keys=[keys.state, keys.quality],
            args=[claim.born, claim.member.split(":")[0], scored.count, scored.hits, scored.mass],
        )

    async def request_rebuild(self, tenant: str, user: str, call: str = "") -> int:
        """Events pending, dead letters among them again. Raises UserUnknown."""
        keys = self.keys.user(tenant, user)
        reply = await self._scripts["rebuild"](
            keys=[keys.state, keys.ready, keys.calls, keys.log, keys.dead], args=[keys.member, call]
        )
        if reply[0] == "UNKNOWN":
            raise UserUnknown
        return int(reply[1])

    async def retry_dead_letters(
        self, tenant: str, user: str, event_ids: Sequence[str], call: str = ""
    ) -> tuple[int, list[tuple[str, str]]]:
        """Puts dead letters back at the end of the queue, in their order: those of `event_ids`, or all, as far as
        the backlog has room. Gives the events pending, and the old and the new id of each. Raises UserUnknown
        and BacklogFull."""
        keys = self.keys.user(tenant, user)
        word, *rest = await self._scripts["retry"](
            keys=[keys.state, keys.ready, keys.log, keys.dead, keys.calls],
            args=[keys.member, self.settings.user_backlog, call, *event_ids],
        )
        if word == "UNKNOWN":
            raise UserUnknown
        if word == "FULL":
            raise self._backlog_full(rest[0], 1)
        pending, *ids = rest
        return int(pending), list(zip(ids[::2], ids[1::2], strict=True))

    def _backlog_full(self, waiting: int, more: int) -> BacklogFull:
        limit = self.settings.user_backlog
        detail = f"{waiting} events of this user wait already; with these {more} they would pass the limit of {limit}."
        return BacklogFull(detail, retry_after=2, limit=limit)

    async def forget(self, tenant: str, user: str) -> bool:
        """Erases the user; False when there was nothing."""
        keys = self.keys.user(tenant, user)
        erased = await self._scripts["forget"](
            keys=[
                keys.ready,
                keys.leases,
                keys.state,
                keys.log,
                keys.profile,
                keys.summary,
                keys.versions,
                keys.dead,
                keys.idempotency,
                keys.live,
                keys.calls,
            ],
            args=[keys.member],
        )
        return bool(erased)
