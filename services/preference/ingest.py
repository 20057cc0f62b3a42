"""Appends interactions: checks their size, folds them into the fast profile, stores both.

One script stores the events and the new profile, unless another writer came in between; then the profile is
read and folded again. So each event is in the profile exactly once, and the profile just before an event
predicts its choices (prequential test).
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from statistics import fmean
from typing import Literal
from weakref import WeakValueDictionary

from redis.exceptions import RedisError

from alignx.schemas.interactions import Interaction
from alignx.schemas.summaries import PreferenceChange, SummaryVersion
from alignx.schemas.tenants import TenantSettings
from services.errors import AlignXError, PayloadTooLarge, UserUnknown
from services.outcomes.served import Outcomes
from services.preference.cadence import News, estimate_tokens, is_own_words, surprise_bits
from services.preference.drift import Drift, detect_drift
from services.preference.edits import create_rollback
from services.preference.queue import Queue
from services.preference.queue_records import Append, AppendResult, PrequentialSums, encode_origin, encode_predictions
from services.preference.updates.update_metrics import IngestMetrics
from services.profile.claims.sentences import tell_turns
from services.profile.fold import apply_own_text, fold
from services.profile.serialize import dumps
from services.profile.statistics import Profile
from services.server.logging import ARRIVED
from services.settings import LimitSettings
from services.slices import map_in_slices, run_in_slices, run_in_thread
from services.storage.timed_cache import TimedCache
from services.storage.users import NO_STAMP, Store, encode_interaction
from services.tracing import child_span
from services.traffic.items import has_items
from services.traffic.negatives import MOST_DRAWN, Drawn, Negatives

Draw = Callable[[Profile, Interaction], Drawn | None]
"""Draws an item of others, to compare with one that an event takes alone."""
UpdateStart = Literal["when_due", "at_once", "backfill"]
"""When the update starts: as the tenant's cadence says, without waiting for more, or once a backfill has ended."""
MAX_INLINE = 4_096
"""Bytes of events that are folded within a few milliseconds; more are in a thread, while the loop answers others."""
_NEVER = datetime.max.replace(tzinfo=UTC)
_DRIFT_PAGE = 200
"""Events read to date a change of preferences."""

logger = logging.getLogger("alignx.ingest")


@dataclass(eq=False, repr=False)
class Ingest:
    """Writes of a user's history. One object a process."""

    store: Store
    queue: Queue
    limits: LimitSettings
    metrics: IngestMetrics
    tenants: TimedCache[TenantSettings] | None = None
    """They say how many events are taken and, with an engine, when an update is due; else each event is."""
    outcomes: Outcomes | None = None
    _: KW_ONLY
    has_engine: bool = True

    def __post_init__(self) -> None:
        self.negatives = Negatives()
        """Of those whose events are folded in a thread."""
        # Writers of one user take turns here, so that only other processes can come in between.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def append(
        self,
        tenant: str,
        user: str,
        interactions: Sequence[Interaction],
        *,
        idempotency_key: str = "",
        start: UpdateStart = "when_due",
        chat: str = "",
    ) -> AppendResult:
        """Stores all interactions or none, in the order in which they occurred. The ids are in the order given. `chat`
        is the response id of the conversation that they are. Raises PayloadTooLarge, UserLimited, BacklogFull,
        QueueFull, IdempotencyMismatch; ResponseUnknown for a conversation that does not wait any more."""
        arrived = ARRIVED.get() or time.perf_counter()
        encoded, digest = await self._encode(interactions)
        order = sort_by_time(interactions)
        interactions, encoded = [interactions[place] for place in order], [encoded[place] for place in order]
        settings, is_backfill = await self.tenants.read(tenant) if self.tenants else None, start == "backfill"
        cadence = settings if self.has_engine else None
        draw = partial(self.negatives.draw, tenant) if settings and settings.traffic else None
        tokens = estimate_tokens(encoded)
        async with self.lock(tenant, user):
            with child_span("append") as span:
                while True:
                    stamp, profile = await self.store.profile(tenant, user)
                    folded = await self._fold(tenant, profile, interactions, encoded, draw)
                    profile, choices = folded.profile, list(filter(None, folded.predictions))
                    scored = PrequentialSums.from_choices(choices)
                    new = Append(
                        events=encoded,
                        stamp=stamp,
                        profile=dumps(profile),
                        scored=scored,
                        predicted=folded.encoded if self.has_engine or draw else [],
                        drawn=folded.drawn,
                        has_items=draw is not None and any(map(has_items, interactions)),
                        idempotency_key=idempotency_key,
                        chat=chat,
                        digest=digest,
                        at_once=start == "at_once",
                        call=encode_origin(span),
                        news=replace(folded.news, tokens=tokens).within(cadence, is_backfill=is_backfill),
                        max_hourly=(settings and not is_backfill and settings.user_events_per_hour) or 0,
                    )
                    appended = await self.queue.append(tenant, user, new)
                    if appended:
                        break
                    self.metrics.moved.inc()
        self._count(interactions, scored, appended)
        appended = appended._replace(ids=_as_given(appended.ids, order), late=0 if appended.replayed else folded.late)
        if not appended.replayed:
            self.metrics.delay.observe(time.perf_counter() - arrived)
            if self.outcomes and not is_backfill:
                await self._count_outcomes(self.outcomes, tenant, user, interactions)
            if drift := detect_drift(appended.window, [fmean(choice) for choice in choices]):
                try:
                    await self._record_drift(tenant, user, stamp, profile, drift)
                except (AlignXError, RedisError) as error:  # the events are stored: the next miss renews the notice
                    logger.warning("a change of preferences was not recorded", extra={"error": type(error).__name__})
        return appended

    async def _count_outcomes(
        self, outcomes: Outcomes, tenant: str, user: str, interactions: Sequence[Interaction]
    ) -> None:
        try:
            await outcomes.count_events(tenant, user, interactions)
        except (AlignXError, RedisError) as error:  # the events are stored: a failed call would be sent again
            logger.warning("what came of an answer was not counted", extra={"error": type(error).__name__})

    async def _fold(
        self,
        tenant: str,
        profile: Profile,
        interactions: Sequence[Interaction],
        encoded: Sequence[str],
        draw: Draw | None,
    ) -> "_Folding":
        """Many events in a thread, which takes turns with the loop."""
        folding = _Folding(profile)
        steps = folding.steps(interactions, draw)
        if sum(map(len, encoded)) <= MAX_INLINE:
            await run_in_slices(steps)
        else:
            await run_in_thread(tenant, steps)
        return folding

    async def _record_drift(self, tenant: str, user: str, stamp: str, profile: Profile, drift: Drift) -> None:
        if stamp == NO_STAMP:
            stamp = f"{(await self.store.state(tenant, user)).born}:0:0"
        change = PreferenceChange(
            since=await self._choice_time(tenant, user, drift.comparisons),
            detected_at=datetime.now(UTC),
            comparisons=drift.comparisons,
            accuracy_before=round(drift.accuracy_before, 4),
            accuracy_since=round(drift.accuracy_since, 4),
            text=tell_turns(profile, await self.store.policy(tenant)),
        )
        await self.queue.record_change(tenant, user, stamp, change)
        self.metrics.changes.inc()
        logger.info("preferences changed", extra={"tenant": tenant, "comparisons": drift.comparisons})

    async def _choice_time(self, tenant: str, user: str, back: int) -> datetime:
        """When the choice was received that is `back` choices behind the newest, as far as the last page shows. Raises
        UserUnknown where none is kept any more."""
        events = await self.store.events_before(tenant, user, "+", _DRIFT_PAGE)
        if not events:
            raise UserUnknown
        for event in reversed(events):
            back -= bool(event.interaction.pairs())
            if back <= 0:
                break
        return event.received_at

    async def edit(self, tenant: str, user: str, expected: int, record: SummaryVersion) -> None:
        """Makes the user's own text current; the profile's text starts with it from then on. Raises StaleVersion."""

        async def replace_text(profile: Profile) -> Profile:
            return apply_own_text(profile, record.text, record.created_at)

        await self._rewrite(tenant, user, expected, record, replace_text)

    async def roll_back(self, tenant: str, user: str, current: int, target: SummaryVersion) -> None:
        """Makes the text of `target` current again and restores the profile of that time: events that later
        summaries include no longer count, events that still wait do. Raises StaleVersion."""
        record = create_rollback(target, current)

        async def refold(_: Profile) -> Profile:
            return await self.store.fold_history(tenant, user, record)

        await self._rewrite(tenant, user, current, record, refold)

    async def _rewrite(
        self,
        tenant: str,
        user: str,
        expected: int,
        record: SummaryVersion,
        change: Callable[[Profile], Awaitable[Profile]],
    ) -> None:
        async with self.lock(tenant, user):
            while True:
                stamp, profile = await self.store.profile(tenant, user)
                raw = dumps(await change(profile))
                if await self.queue.edit(tenant, user, expected, record, stamp=stamp, profile=raw):
                    return
                self.metrics.moved.inc()

    def lock(self, tenant: str, user: str) -> asyncio.Lock:
        """Held by whoever writes the user's profile in this process."""
        return self._locks.setdefault((tenant, user), asyncio.Lock())

    async def _encode(self, interactions: Sequence[Interaction]) -> tuple[list[str], str]:
        """The events as the log stores them, and the fingerprint of all."""
        if len(interactions) > self.limits.events_per_call:
            raise PayloadTooLarge(
                f"events: {len(interactions)} interactions in one call; the limit is {self.limits.events_per_call}.",
                errors=[{"field": "events", "message": f"at most {self.limits.events_per_call} a call"}],
                limit=self.limits.events_per_call,
            )
        fingerprint = hashlib.sha256()

        def encode(numbered: tuple[int, Interaction]) -> str:
            index, interaction = numbered
            event = encode_interaction(interaction)
            raw = event.encode()
            if len(raw) > self.limits.event_bytes:
                raise PayloadTooLarge(
                    f"events.{index}: {len(raw)} bytes; the limit for one event is {self.limits.event_bytes}.",
                    errors=[{"field": f"events.{index}", "message": f"at most {self.limits.event_bytes} bytes"}],
                    limit=self.limits.event_bytes,
                )
            fingerprint.update(b"\n" + raw if index else raw)
            return event

        encoded = await map_in_slices(encode, enumerate(interactions))
        return encoded, fingerprint.hexdigest()[:32]

    def _count(self, interactions: Sequence[Interaction], scored: PrequentialSums, appended: AppendResult) -> None:
        if appended.replayed:
            self.metrics.replays.inc()
            return
        self.metrics.quality.add("profile", "profile", scored)
        for kind, count in Counter(interaction.type for interaction in interactions).items():
            self.metrics.events.labels(kind).inc(count)


class _Folding:
    """A profile with further events, and what it foretold of each."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.predictions: list[tuple[float, ...]] = []
        self.encoded: list[str] = []
        """The predictions as the log stores them."""
        self.drawn: list[str] = []
        """Items to compare those with that the events take alone."""
        self.news = News()
        self.late = 0
        """Events that occurred before others that the profile had."""

    def steps(self, interactions: Sequence[Interaction], draw: Draw | None) -> Iterator[None]:
        """Folds the events, one at each step."""
        received, latest = datetime.now(UTC), self.profile.latest
        left, bits, is_due = MOST_DRAWN if draw else 0, 0.0, False
        for event in interactions:
            self.late += event.occurred_at is not None and event.occurred_at.timestamp() < latest
            before = self.profile
            other = draw(before, event) if draw and left else None
            self.drawn.append(other.text() if other else "")
            left -= other is not None
            self.profile, predicted = fold(before, event, received)
            self.predictions.append(predicted)
            self.encoded.append(encode_predictions(predicted))
            bits += surprise_bits(predicted, before, self.profile)
            is_due = is_due or is_own_words(event, before, self.profile)
            self.news = News(is_due=is_due, bits=bits)
            yield


def sort_by_time(interactions: Sequence[Interaction]) -> list[int]:
    """The places of events in the order in which they occurred; those that do not say when last, in the order given."""
    times = [event.occurred_at for event in interactions]
    return sorted(range(len(times)), key=lambda place: (times[place] is None, times[place] or _NEVER))


def _as_given(ids: Sequence[str], order: Sequence[int]) -> tuple[str, ...]:
    """The ids of sorted events, in the order in which the caller gave these."""
    return tuple(event_id for _, event_id in sorted(zip(order, ids, strict=True)))
