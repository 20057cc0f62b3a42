"""What the routes do with a user: append and wait, edit, roll back, forget."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence

from alignx.schemas.interactions import Interaction
from alignx.schemas.requests import EventsAccepted, RetriedEvent, RetryQueued
from alignx.schemas.summaries import Preferences
from services.errors import UserUnknown
from services.preference import edits
from services.preference.erase import Erasure
from services.preference.ingest import Ingest
from services.preference.queue import Queue
from services.preference.queue_records import encode_origin
from services.preference.update_metrics import IngestMetrics
from services.settings import Settings
from services.storage.users import Store, event_place
from services.tracing import SPAN

_FIRST_LOOK_S, _LAST_LOOK_S = 0.01, 0.1


class PreferenceService:
    """The preference service without its HTTP. Opened by the app's lifespan."""

    def __init__(
        self, store: Store, queue: Queue, settings: Settings, metrics: IngestMetrics, erasure: Erasure
    ) -> None:
        self.store = store
        self.queue = queue
        self.settings = settings
        self.metrics = metrics
        self.erasure = erasure
        self.ingest = Ingest(store, queue, settings.limits, metrics)
        self._streams = 0

    async def append(
        self, tenant: str, user: str, interactions: Sequence[Interaction], idempotency_key: str, wait_s: float
    ) -> EventsAccepted:
        """Stores the interactions; waits up to `wait_s` seconds for the version that includes them."""
        appended = await self.ingest.append(
            tenant, user, interactions, idempotency_key=idempotency_key, at_once=wait_s > 0
        )
        version, pending = None, appended.pending
        if wait_s:
            version, pending = await self._wait(tenant, user, appended.ids[-1], wait_s, pending)
        return EventsAccepted(ids=appended.ids, pending=pending, version=version, replayed=appended.replayed)

    async def _wait(self, tenant: str, user: str, last: str, wait_s: float, pending: int) -> tuple[int | None, int]:
        deadline, pause = time.monotonic() + wait_s, _FIRST_LOOK_S
        while time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(_LAST_LOOK_S, pause * 1.5)
            try:
                state = await self.store.state(tenant, user)
            except UserUnknown:  # erased meanwhile: nothing more will come
                return None, 0
            pending = state.pending
            if event_place(state.cursor) >= event_place(last):
                return state.version, pending
        return None, pending

    async def edit(self, tenant: str, user: str, text: str, if_match: str | None) -> Preferences:
        """Raises PreconditionRequired or StaleVersion. A user who is new is created by it."""
        expected = edits.matched_version(if_match, await self._version(tenant, user))
        await self.ingest.edit(tenant, user, expected, edits.edited(text, expected))
        self.metrics.versions.labels("user").inc()
        return await self.store.preferences(tenant, user)

    async def roll_back(self, tenant: str, user: str, version: int, if_match: str | None) -> Preferences:
        """Raises UserUnknown, VersionUnknown or StaleVersion."""
        current = (await self.store.state(tenant, user)).version
        if if_match is not None:
            edits.matched_version(if_match, current)
        target = await self.store.version(tenant, user, version)
        await self.ingest.roll_back(tenant, user, current, target)
        self.metrics.rollbacks.inc()
        self.metrics.versions.labels("rollback").inc()
        return await self.store.preferences(tenant, user)

    async def rebuild(self, tenant: str, user: str) -> int:
        """Events pending. Raises UserUnknown."""
        pending = await self.queue.request_rebuild(tenant, user, encode_origin(SPAN.get()))
        self.metrics.rebuilds.inc()
        return pending

    async def retry_dead_letters(self, tenant: str, user: str, event_ids: Sequence[str]) -> RetryQueued:
        """Raises UserUnknown or BacklogFull."""
        pending, ids = await self.queue.retry_dead_letters(tenant, user, event_ids, encode_origin(SPAN.get()))
        self.metrics.dead_retries.inc(len(ids))
        return RetryQueued(
            events=tuple(RetriedEvent(event_id=old, new_event_id=new) for old, new in ids), pending=pending
        )

    async def forget(self, tenant: str, user: str) -> None:
        """Raises UserUnknown."""
        if not await self.queue.forget(tenant, user):
            raise UserUnknown
        self.metrics.erasures.inc()
        self.erasure.request()

    async def _version(self, tenant: str, user: str) -> int:
        try:
            return (await self.store.state(tenant, user)).version
        except UserUnknown:
            return 0

    def stream_is_free(self) -> bool:
        return self._streams < self.settings.limits.streams

    @contextlib.contextmanager
    def open_stream(self) -> Iterator[None]:
        """Counts an open summary stream."""
        self._streams += 1
        self.metrics.streams.set(self._streams)
        try:
            yield
        finally:
            self._streams -= 1
            self.metrics.streams.set(self._streams)
