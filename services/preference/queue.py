"""The update queue: the events of a user are applied in order, once, by one worker at a time.

Redis holds everything; each operation is one Lua script (lua/*.lua), so it happens wholly or not at
all. A worker claims a user under a lease with a fencing token; a write is accepted only with that token
and only against the version and cursor it started from. The compare-and-set gives correctness; the lease
saves engine time. All waiting events of a user become one update, which is due when they are new enough to the
profile (cadence.py) or have waited long enough.

    append ──> ready ──claim──> leased ──commit──> released (or ready again, if more came)
                 ^                 ├──fail────> ready later, or the batch halved, or one event
                 └──lease expired──┘            a dead letter (retry: ready)
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

import orjson

from alignx.schemas.summaries import PreferenceChange, RejectedDraft, SummaryVersion
from alignx.schemas.webhooks import EventType
from services.engine.choice.fusion import KEEP, MAX_GAIN
from services.errors import (
    BacklogFull,
    IdempotencyMismatch,
    PayloadTooLarge,
    QueueFull,
    ResponseUnknown,
    StaleVersion,
    UserLimited,
    UserUnknown,
)
from services.preference.queue_records import (
    Append,
    AppendResult,
    Claim,
    ClaimResult,
    PrequentialSums,
    Removal,
    RetryResult,
)
from services.preference.webhooks.outbox import Hook, Outbox
from services.prompts.sentences import clip_text
from services.settings import QueueSettings, SummarySettings
from services.storage.connection import RedisClient, Script, ask_shards, live_settings, read_script
from services.storage.key_names import KeySpace, weights_key
from services.storage.user_profile import Checkpoint
from services.storage.users import LOW_PRIORITY, encode_record

SCRIPTS = (
    "append", "claim", "beat", "commit", "edit", "fail", "forget", "copy_stream", "forget_events", "trim", "publish",
    "rebuild", "quality", "weigh", "reject", "retry", "changed",
)  # fmt: skip
"""One for each operation, in lua/."""
COPY_MS = 60_000
"""How long the copy of a stream is kept of which nothing comes."""
KEEP_DEAD_LETTERS = 1_000
REJECTED_CHARS = 4_000
"""Characters kept of a rejected draft."""
KEEP_REJECTED = 10
"""Rejected drafts kept for a user."""
FailKind = Literal["engine", "wait", "budget", "refusal", "unusable", "data", "release"]
"""What is at fault: the engine; nothing, but a new model may not write yet (wait) or the tenant's tokens are spent; the
data as the engine or its replies say (refusal, unusable); the data; nothing."""


class Queue:
    """One method for each script. All raise errors of services/errors.py; none retries."""

    def __init__(
        self, redis: RedisClient, queue: QueueSettings, summary: SummarySettings, outbox: Outbox | None = None
    ) -> None:
        """`outbox` names the webhook endpoints that writes are told to."""
        self.redis = redis
        self._outbox = outbox
        self.settings = queue
        self.summary = summary
        self.keys = KeySpace(queue.shards)
        self._scripts = {name: Script(redis, read_script("services.preference", name)) for name in SCRIPTS}
        self._script_settings = queue.model_dump() | {
            "batch_events": summary.batch_events,
            "batch_tokens": summary.batch_tokens,
            "keep_versions": summary.keep_versions,
            "keep_events": summary.keep_events,
            "keep_dead_letters": KEEP_DEAD_LETTERS,
            "keep_rejected": KEEP_REJECTED,
            **live_settings(redis),
        }
        """The argument `settings` of every script."""
        self.unreachable_shards = 0
        """Shards without an answer at the latest question to all of them."""

    async def append(self, tenant: str, user: str, new: Append) -> AppendResult | None:
        """Stores the events and the profile if the user is still at the stamp; None if not.
        Raises BacklogFull, UserLimited, QueueFull, IdempotencyMismatch, ResponseUnknown; PayloadTooLarge for more
        events than a wait could let in."""
        keys = self.keys.user(tenant, user)
        names = [keys.state, keys.log, keys.ready, keys.idempotency, keys.profile, keys.quality, keys.calls]
        names += [keys.unread, keys.index, keys.chats]
        more = new.arguments() | {"member": keys.member, "user": user, "tenant": keys.tenant}
        answer = await self._ask("append", names, new.profile, *new.events, **more)
        most = min(self.settings.user_backlog, new.max_hourly or self.settings.user_backlog)
        match answer["status"]:
            case "OK" | "REPLAY" as status:
                return AppendResult(
                    tuple(answer["ids"]), answer["pending"], status == "REPLAY", answer.get("window", "")
                )
            case "GONE":
                raise ResponseUnknown
            case "MISMATCH":
                raise IdempotencyMismatch
            case "FULL" | "LIMITED" if len(new.events) > most:
                raise PayloadTooLarge(
                    f"events: {len(new.events)} interactions in one call; the limit for one user is {most}.",
                    errors=[{"field": "events", "message": f"at most {most} a call"}],
                    limit=most,
                )
            case "FULL":
                raise self._backlog_full(answer["pending"], len(new.events))
            case "LIMITED":
                detail = f"Of one user {new.max_hourly} events are taken in an hour; these {len(new.events)} pass that."
                raise UserLimited(detail, retry_after=answer["retry_ms"] / 1000, limit=new.max_hourly)
            case "BUSY":
                raise QueueFull(retry_after=5, limit=self.settings.shard_backlog)
            case _:
                return None

    async def claim(self, shard: int, worker: str, crowding: Iterable[str] = ()) -> ClaimResult:
        """A due user of the shard, if there is one. The users of `crowding` tenants, named as in members,
        are passed over."""
        prefix = self.keys.shard_prefix(shard)
        names = [prefix + "ready", prefix + "leases", prefix + "tok"]
        answer = await self._ask("claim", names, user_prefix=prefix + "u:", worker=worker, crowding=list(crowding))
        fields = answer.get("claim")
        if not fields:
            return ClaimResult(answer["expired"], None)
        tenant, user = KeySpace.split_member(fields["member"])
        return ClaimResult(answer["expired"], Claim(tenant=tenant, user=user, **fields))

    async def due_shards(self) -> list[int]:
        """Shards in which a user is due or a lease has run out, by the server's clock; in no order, but where
        only a backfill waits last."""
        now = await self._now_ms()

        def count_due(pipe: Any, prefix: str) -> None:
            _count_due(pipe, prefix, now)
            pipe.zcount(prefix + "leases", "-inf", now)

        counts = await self._ask_all_shards(count_due)
        shards = [shard for shard, (due, backfills, expired) in counts.items() if due or backfills or expired]
        random.shuffle(shards)
        return sorted(shards, key=lambda shard: not (counts[shard][0] or counts[shard][2]))

    async def depth(self) -> tuple[int, float]:
        """(users whose update is due, seconds by which the oldest is overdue; a backfill waits by design)."""
        now = await self._now_ms()

        def measure(pipe: Any, prefix: str) -> None:
            _count_due(pipe, prefix, now)
            pipe.zrangebyscore(prefix + "ready", "-inf", now, 0, 1, withscores=True)

        rows = (await self._ask_all_shards(measure)).values()
        oldest = [first[0][1] for *_, first in rows if first]
        overdue = (now - min(oldest)) / 1000 if oldest else 0.0
        return sum(due + backfills for due, backfills, _ in rows), overdue

    async def _now_ms(self) -> int:
        seconds, micros = await self.redis.time()
        return int(seconds * 1000 + micros // 1000)

    async def _ask_all_shards(self, ask: Callable[[Any, str], None]) -> dict[int, list[Any]]:
        prefixes = {shard: self.keys.shard_prefix(shard) for shard in range(self.settings.shards)}
        answers = await ask_shards(self.redis, prefixes, ask)
        self.unreachable_shards = self.settings.shards - len(answers)
        return answers

    async def beat(self, claim: Claim) -> bool:
        """Extends the lease; False when it is lost."""
        keys = self.keys.user(claim.tenant, claim.user)
        return bool(await self._run("beat", [keys.state, keys.leases], member=claim.member, token=claim.token))

    async def commit(self, claim: Claim, record: SummaryVersion, cursor: str, applied: int) -> bool:
        """Makes `record` current if nobody wrote in between; False when fenced or in conflict."""
        keys = self.keys.user(claim.tenant, claim.user)
        status = await self._run(
            "commit",
            [keys.state, keys.ready, keys.leases, keys.summary, keys.versions, keys.log, keys.live, keys.calls],
            encode_record(record),
            member=claim.member,
            token=claim.token,
            version=claim.version,
            cursor=claim.cursor,
            new_cursor=cursor,
            applied=applied,
            claimed=claim.pending,
            rebuild=claim.rebuild,
            calls=claim.calls,
            hook=await self._hook(claim.tenant, claim.user, "preferences.version", version=claim.version + 1),
        )
        return bool(status == "OK")

    async def edit(
        self, tenant: str, user: str, expected: int, record: SummaryVersion, *, stamp: str = "", profile: bytes = b""
    ) -> bool:
        """Writes a version by hand over version `expected`, with a profile if the user is still at
        `stamp`; False if not. Raises StaleVersion."""
        keys = self.keys.user(tenant, user)
        answer = await self._ask(
            "edit",
            [keys.state, keys.summary, keys.versions, keys.live, keys.profile, keys.ready, keys.index],
            encode_record(record),
            profile,
            member=keys.member,
            user=user,
            expected=expected,
            stamp=stamp,
            hook=await self._hook(tenant, user, "preferences.version", version=expected + 1),
        )
        if answer["status"] == "STALE":
            current = answer["version"]
            raise StaleVersion(f"The current version is {current}, not {expected}.", current_version=current)
        return bool(answer["status"] == "OK")

    async def fail(self, claim: Claim, kind: FailKind, *, first_id: str = "", batch: int = 0, error: str = "") -> str:
        """Ends an update that failed; returns what follows, as fail.lua names it. A refusal counts against the
        data, so the engine must have taken a prompt of our own since."""
        keys = self.keys.user(claim.tenant, claim.user)
        status = await self._run(
            "fail",
            [keys.state, keys.ready, keys.leases, keys.log, keys.dead, keys.calls],
            member=claim.member,
            token=claim.token,
            kind=kind,
            first_id=first_id,
            batch=batch,
            error=error,
            rebuild=claim.rebuild,
            hook=kind in ("data", "refusal") and await self._held_back(claim, reason="dead_letter", event_id=first_id),
        )
        return str(status)

    async def keep_rejected(self, claim: Claim, draft: RejectedDraft) -> None:
        """Keeps a reply that is no summary, while the lease is held; its text to `REJECTED_CHARS`."""
        keys = self.keys.user(claim.tenant, claim.user)
        text = clip_text(draft.text.encode("utf-8", "replace").decode(), REJECTED_CHARS)
        record = encode_record(draft.model_copy(update={"text": text}))
        hook = await self._held_back(claim, reason="checks")
        await self._run("reject", [keys.state, keys.rejected], record, token=claim.token, hook=hook)

    async def publish(self, claim: Claim, event: str, data: str) -> bool:
        """Adds to the user's live stream; False when the lease is lost."""
        keys = self.keys.user(claim.tenant, claim.user)
        return bool(await self._run("publish", [keys.state, keys.live], token=claim.token, event=event, data=data))

    async def record_quality(self, claim: Claim, scored: PrequentialSums) -> None:
        """Adds the engine's tests of the summary to the sums of the user and the tenant."""
        keys = self.keys.user(claim.tenant, claim.user)
        names = [keys.state, keys.quality]
        await self._run("quality", names, born=claim.born, tenant=keys.tenant, scored=scored.arguments())

    async def record_comparisons(self, tenant: str, added: Sequence[Mapping[str, float]]) -> None:
        """Adds comparisons to the sums from which the scorers of the tenant's selections are weighed."""
        await self._run("weigh", [weights_key(tenant)], comparisons=added, keep=KEEP, max_gain=MAX_GAIN)

    async def record_change(self, tenant: str, user: str, stamp: str, change: PreferenceChange) -> None:
        """Keeps the latest change of the preferences of a user at `stamp`, and tells the live stream."""
        keys = self.keys.user(tenant, user)
        born, _, edits = stamp.split(":")
        hook = await self._hook(tenant, user, "preferences.drift", since=change.since, comparisons=change.comparisons)
        fields = {"born": born, "edits": edits, "change": change.model_dump_json(), "hook": hook}
        await self._run("changed", [keys.state, keys.live], **fields)

    async def request_rebuild(self, tenant: str, user: str, call: str = "") -> int:
        """Events pending, dead letters among them again. Raises UserUnknown."""
        keys = self.keys.user(tenant, user)
        names = [keys.state, keys.ready, keys.calls, keys.log, keys.dead]
        answer = await self._ask("rebuild", names, member=keys.member, call=call)
        if answer["status"] == "UNKNOWN":
            raise UserUnknown
        return int(answer["pending"])

    async def retry_dead_letters(self, tenant: str, user: str, event_ids: Sequence[str], call: str = "") -> RetryResult:
        """Puts dead letters back at the end of the queue, in their order: those of `event_ids`, or all, as far
        as the backlog has room. Raises UserUnknown and BacklogFull."""
        keys = self.keys.user(tenant, user)
        names = [keys.state, keys.ready, keys.log, keys.dead, keys.calls]
        answer = await self._ask("retry", names, member=keys.member, call=call, event_ids=list(event_ids))
        if answer["status"] == "UNKNOWN":
            raise UserUnknown
        if answer["status"] == "FULL":
            raise self._backlog_full(answer["pending"], 1)
        return RetryResult(answer["pending"], [(old, new) for old, new in answer["moved"]])

    def _backlog_full(self, waiting: int, more: int) -> BacklogFull:
        limit = self.settings.user_backlog
        detail = f"{waiting} events of this user wait already; with these {more} they would pass the limit of {limit}."
        return BacklogFull(detail, retry_after=2, limit=limit)

    async def forget(self, tenant: str, user: str) -> bool:
        """Erases the user; False when there was nothing."""
        keys = self.keys.user(tenant, user)
        names = [keys.ready, keys.leases, keys.unread, keys.journal, keys.index, keys.erasures, keys.waiting_chats]
        more = {"hook": await self._hook(tenant, user, "user.erased"), "gone": self.keys.gone(tenant, user)}
        own = {"member": keys.member, "user": user, "live": keys.live, "hooks": keys.hooks}
        return bool(await self._run("forget", [*names, *keys.own, *keys.copies], **own, **more))

    async def _hook(self, tenant: str, user: str, kind: EventType, **data: Any) -> Hook:
        return await self._outbox.hook(tenant, user, kind, **data) if self._outbox else False

    async def _held_back(self, claim: Claim, **data: Any) -> Hook:
        return await self._hook(claim.tenant, claim.user, "preferences.held_back", **data)

    async def trim(self, tenant: str, user: str, stamp: str, checkpoint: Checkpoint) -> bool:
        """Drops the events of the checkpoint from the log and stores it; False when the profile was made anew since."""
        keys = self.keys.user(tenant, user)
        names, first_kept = [keys.state, keys.log, keys.checkpoint], checkpoint.first_kept
        return bool(await self._run("trim", names, checkpoint.dumps(), stamp=stamp, first_kept=first_kept))

    async def forget_events(self, tenant: str, user: str, removal: Removal) -> int | None:
        """Removes events and what came of them; the events that wait then. None when the user is not at its stamp."""
        keys, token = self.keys.user(tenant, user), uuid4().hex
        await self._run("copy_stream", [keys.state, *keys.copies], token=token)
        for stream, copy, left in zip((keys.log, keys.dead), keys.copies, removal.streams, strict=True):
            for part in left.parts():
                names = [keys.state, stream, copy]
                if not await self._run("copy_stream", names, token=token, keep_ms=COPY_MS, **part):
                    return None
        arguments = removal.arguments() | {"member": keys.member, "token": token, "gone": self.keys.gone(tenant, user)}
        hook = bool(removal.record) and await self._hook(tenant, user, "preferences.version", version=removal.number)
        answer = await self._run("forget_events", keys.rewritten, *removal.texts(), **arguments, hook=hook)
        return None if answer < 0 else int(answer)

    async def _run(self, script: str, keys: Sequence[str], *texts: str | bytes, **arguments: Any) -> Any:
        return await self._scripts[script].run(keys, *texts, settings=self._script_settings, **arguments)

    async def _ask(self, script: str, keys: Sequence[str], *texts: str | bytes, **arguments: Any) -> dict[str, Any]:
        """The answer of a script that answers a JSON document."""
        return dict(orjson.loads(await self._run(script, keys, *texts, **arguments)))


def _count_due(pipe: Any, prefix: str, now_ms: int) -> None:
    for priority in (0, LOW_PRIORITY):
        pipe.zcount(prefix + "ready", priority, priority + now_ms)
