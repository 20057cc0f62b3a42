"""What the routes do with a user: append and wait, read, follow, edit, roll back, erase."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from opentelemetry.trace import get_current_span

from alignx.schemas.forgetting import Forgotten
from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.many_users import EraseRequest, UsersErased
from alignx.schemas.outcomes import FeedbackRequest, FeedbackStored
from alignx.schemas.requests import (
    CatalogueRequest,
    CatalogueStored,
    EventsAccepted,
    EventsRequest,
    RetriedEvent,
    RetryQueued,
)
from alignx.schemas.summaries import (
    DeadLetterList,
    InteractionList,
    Order,
    Preferences,
    RejectedDraftList,
    VersionDiff,
    VersionList,
)
from alignx.schemas.tenants import TenantSettings
from services.errors import Unavailable, UserUnknown
from services.outcomes.chats import ChatOutbox
from services.outcomes.served import Outcomes
from services.preference import edits
from services.preference.forgetting.about import About
from services.preference.forgetting.forget_events import forget_events
from services.preference.ingest import Ingest, UpdateStart
from services.preference.learner import Learner
from services.preference.live import LiveStreams
from services.preference.many_users.bulk_erase import erase_users
from services.preference.many_users.user_index import UserIndex
from services.preference.queue import Queue
from services.preference.queue_records import encode_origin
from services.preference.updates.update_metrics import IngestMetrics
from services.server.state import Drain
from services.settings import Settings
from services.storage.aof_rewrite import AofRewriter
from services.storage.key_names import ENGINE_FAULT
from services.storage.timed_cache import TimedCache
from services.storage.user_profile import parse_event_id
from services.storage.users import Store, reply
from services.traffic.catalogue import Catalogue

_MIN_PAUSE_S, _MAX_PAUSE_S = 0.01, 0.1
_NEWEST = 10
"""Versions among which that of an update is looked for: the user may have written over it since."""


@dataclass(eq=False, repr=False)
class PreferenceService:
    """The preference service without its HTTP. Opened by the app's lifespan."""

    store: Store
    queue: Queue
    settings: Settings
    metrics: IngestMetrics
    rewriter: AofRewriter
    live: LiveStreams
    drain: Drain
    tenants: TimedCache[TenantSettings]
    outcomes: Outcomes

    def __post_init__(self) -> None:
        store, limits, has_engine = self.store, self.settings.limits, self.settings.engine.enabled
        self.ingest = Ingest(
            store, self.queue, limits, self.metrics, self.tenants, self.outcomes, has_engine=has_engine
        )
        self.learner = Learner(self.ingest, ChatOutbox(store.redis, store.keys), self.outcomes, self.metrics)
        self.catalogue = Catalogue(store.redis)
        self.index = UserIndex(store.redis, store.keys)

    async def append(
        self, tenant: str, user: str, body: EventsRequest, idempotency_key: str, wait_s: float
    ) -> EventsAccepted:
        """Stores the interactions; waits up to `wait_s` seconds for the version that includes them."""
        start: UpdateStart = "at_once" if wait_s > 0 else "backfill" if body.backfill else "when_due"
        appended = await self.ingest.append(tenant, user, body.events, idempotency_key=idempotency_key, start=start)
        version, pending = None, appended.pending
        if wait_s:
            version, pending = await self._wait(tenant, user, max(appended.ids, key=parse_event_id), wait_s, pending)
        return EventsAccepted(
            ids=appended.ids, pending=pending, version=version, replayed=appended.replayed, late=appended.late
        )

    async def take_feedback(self, tenant: str, user: str, feedback: FeedbackRequest) -> FeedbackStored:
        """Raises ResponseUnknown, InvalidRequest, and what an append raises. What fails can be sent again."""
        await self.outcomes.take_feedback(tenant, user, feedback)
        if feedback.chosen is None or feedback.rejected is None:
            return FeedbackStored(response_id=feedback.response_id)
        comparison = ComparisonInteraction(
            query=feedback.query or None, chosen=feedback.chosen, rejected=feedback.rejected, source="feedback"
        )
        key = f"feedback:{feedback.response_id}"
        appended = await self.ingest.append(tenant, user, [comparison], idempotency_key=key)
        return FeedbackStored(response_id=feedback.response_id, event_id=appended.ids[0])

    async def _wait(self, tenant: str, user: str, last: str, wait_s: float, pending: int) -> tuple[int | None, int]:
        deadline, pause = time.monotonic() + wait_s, _MIN_PAUSE_S
        while time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(_MAX_PAUSE_S, pause * 1.5)
            try:
                state = await self.store.state(tenant, user)
                if parse_event_id(state.cursor) >= parse_event_id(last):
                    return await self._version_with(tenant, user, last), state.pending
            except UserUnknown:  # erased meanwhile: nothing more will come
                return None, 0
            pending = state.pending
        return None, pending

    async def _version_with(self, tenant: str, user: str, event_id: str) -> int | None:
        """The latest version whose events reach this one; None where it was set aside and none has followed."""
        for version in await self.store.versions(tenant, user, None, _NEWEST):
            if version.events.last:  # a text written by hand adds no events
                return version.version if parse_event_id(version.events.last) >= parse_event_id(event_id) else None
        return None

    async def edit(self, tenant: str, user: str, text: str, if_match: str | None) -> Preferences:
        """Raises PreconditionRequired or StaleVersion. A user who is new is created by it."""
        expected = edits.resolve_if_match(if_match, await self._version(tenant, user))
        await self.ingest.edit(tenant, user, expected, edits.create_edit(text, expected))
        self.metrics.versions.labels("user").inc()
        return await self.preferences(tenant, user)

    async def roll_back(self, tenant: str, user: str, version: int, if_match: str | None) -> Preferences:
        """Raises UserUnknown, VersionUnknown or StaleVersion."""
        current = (await self.store.state(tenant, user)).version
        if if_match is not None:
            edits.resolve_if_match(if_match, current)
        target = await self.store.version(tenant, user, version)
        await self.ingest.roll_back(tenant, user, current, target)
        self.metrics.rollbacks.inc()
        self.metrics.versions.labels("rollback").inc()
        return await self.preferences(tenant, user)

    async def rebuild(self, tenant: str, user: str) -> int:
        """Events pending. Raises UserUnknown."""
        pending = await self.queue.request_rebuild(tenant, user, encode_origin(get_current_span()))
        self.metrics.rebuilds.inc()
        return pending

    async def retry_dead_letters(self, tenant: str, user: str, event_ids: Sequence[str]) -> RetryQueued:
        """Raises UserUnknown or BacklogFull."""
        pending, ids = await self.queue.retry_dead_letters(tenant, user, event_ids, encode_origin(get_current_span()))
        self.metrics.dead_retries.inc(len(ids))
        return RetryQueued(
            events=tuple(RetriedEvent(event_id=old, new_event_id=new) for old, new in ids), pending=pending
        )

    async def erase(self, tenant: str, user: str) -> None:
        """Raises UserUnknown."""
        if not await self.queue.forget(tenant, user):
            raise UserUnknown
        self.metrics.erasures.inc()
        self.rewriter.request()

    async def forget_events(self, tenant: str, user: str, target: str | About, *, dry_run: bool = False) -> Forgotten:
        """Raises UserUnknown or EventUnknown."""
        if isinstance(target, About) and not dry_run:
            await self.learner.finish(tenant, user)  # else a chat about it would become an event later
        async with self.ingest.lock(tenant, user):
            forgotten = await forget_events(self.store, self.queue, tenant, user, target, dry_run=dry_run)
        if not dry_run:
            self.rewriter.request()
        return forgotten

    async def erase_many(self, tenant: str, body: EraseRequest) -> UsersErased:
        """Erases what the request names, as far as Redis answers."""
        erased = await erase_users(self.queue, self.index, tenant, body)
        if erased.erased:
            self.metrics.erasures.inc(len(erased.erased))
            self.rewriter.request()
        return erased

    async def put_items(self, tenant: str, body: CatalogueRequest) -> CatalogueStored:
        """Raises PayloadTooLarge."""
        size = await self.catalogue.put(tenant, body.items)
        self.ingest.negatives.add(tenant, body.items)
        return CatalogueStored(items=size)

    async def _version(self, tenant: str, user: str) -> int:
        try:
            return (await self.store.state(tenant, user)).version
        except UserUnknown:
            return 0

    # --- reads -----------------------------------------------------------------------------------

    async def events(self, tenant: str, user: str, after: str | None, limit: int, order: Order) -> InteractionList:
        """Raises UserUnknown, as all reads do."""
        await self.store.state(tenant, user)
        if order == "asc":
            events = await self.store.events(tenant, user, after, limit)
        elif after and parse_event_id(after) == (0, 0):  # Redis takes no range before the least id
            events = []
        else:
            events = (await self.store.events_before(tenant, user, f"({after}" if after else "+", limit))[::-1]
        return InteractionList(events=tuple(events), next=events[-1].event_id if len(events) == limit else None)

    async def dead_letters(self, tenant: str, user: str, after: str | None, limit: int) -> DeadLetterList:
        await self.store.state(tenant, user)
        letters = await self.store.dead_letters(tenant, user, after, limit)
        return DeadLetterList(
            events=tuple(letter for _, letter in letters), next=letters[-1][0] if len(letters) == limit else None
        )

    async def preferences(self, tenant: str, user: str) -> Preferences:
        current = await self.store.preferences(tenant, user)
        if current.waiting_for == "worker" and await reply(self.store.redis.exists(ENGINE_FAULT)):
            return current.model_copy(update={"waiting_for": "engine"})  # a worker says so of all
        return current

    async def versions(self, tenant: str, user: str, before: int | None, limit: int) -> VersionList:
        versions = await self.store.versions(tenant, user, before, limit)
        has_more = len(versions) == limit and versions[-1].version > 1
        return VersionList(versions=tuple(versions), next=versions[-1].version if has_more else None)

    async def rejected(self, tenant: str, user: str) -> RejectedDraftList:
        await self.store.state(tenant, user)
        return RejectedDraftList(drafts=tuple(await self.store.rejected(tenant, user)))

    async def diff(self, tenant: str, user: str, old: int, new: int) -> VersionDiff:
        """Raises VersionUnknown too."""
        before, after = [await self.store.version(tenant, user, number) for number in (old, new)]
        return edits.diff(before, after)

    async def open_stream(self, tenant: str, user: str, last_event_id: str | None) -> AsyncGenerator[bytes]:
        """The summary as server-sent events while it is written. Raises Unavailable when too many are open."""
        await self.store.state(tenant, user)
        self.drain.refuse()
        if self.live.streams >= self.settings.limits.streams:
            raise Unavailable("This instance has no stream left; try again.", retry_after=5)
        return self.live.follow(tenant, user, last_event_id)
