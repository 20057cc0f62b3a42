"""One claimed user from its waiting events to a committed summary version.

Reads the batch within its budgets, lets a writer draft the summary, tests the past summary on the new
choices meanwhile, and commits. Engine errors back off: the events wait. Data errors, also refusals of an engine that
takes a prompt of our own after them, halve the batch until one event is left, which becomes a dead letter. Replies
that are no summary halve it too; the event that is left is passed over, and a rebuild reads it again. In place of a
small model (`grounded`) the profile then writes the version.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson
from redis.exceptions import RedisError

from alignx.schemas.interactions import Interaction, StatementInteraction
from alignx.schemas.summaries import EventRange, RejectedDraft, StoredInteraction, SummaryVersion
from services.engine.limits import Engine
from services.engine.shared_calls import SharedCalls
from services.errors import (
    AlignXError,
    BudgetSpent,
    ContextExceeded,
    EngineError,
    EngineRejected,
    EngineUnavailable,
    UnusableReply,
)
from services.preference.forgetting.trim_log import trim_log
from services.preference.live import LiveText
from services.preference.queue import FailKind, Queue
from services.preference.queue_records import Claim
from services.preference.updates.budgets import share_window
from services.preference.updates.inference import (
    PROFILE_SOURCE,
    Draft,
    EngineWriter,
    Material,
    ProfileWriter,
    Writer,
)
from services.preference.updates.summary_tests import SummaryTest, SummaryTests, to_prequential
from services.preference.updates.update_metrics import WorkerMetrics, written_by
from services.prompts.build import fit_interactions
from services.prompts.profiles import load_profile
from services.settings import Settings
from services.storage.users import Store, event_time
from services.tracing import child_span

_REBUILD_PAGE = 500
_OUTCOMES = {"FENCED": "lost", "RETRY": "data"}
"""Outcomes of an update by what fail.lua answers, where they have another name."""

logger = logging.getLogger("alignx.update")


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one update."""

    events: list[StoredInteraction]
    interactions: Sequence[Interaction]
    """What the writer reads: the events, cut to the budget."""
    cursor: str
    """Id of the last event that counts as applied."""
    applied: int
    whole_history: bool = False


@dataclass(frozen=True, slots=True)
class UpdateResult:
    outcome: str
    test: "asyncio.Task[SummaryTest] | None" = None
    """The past summary's test, perhaps still running: it needs no lease."""
    tested_source: str = ""
    """What wrote the past summary."""
    fault: str = ""
    """Why the engine refuses updates, or why its reply is no summary, whatever the cause."""


def retrieve_exception(task: "asyncio.Task[Any]") -> None:
    """A task's callback. Asyncio logs an exception that nobody retrieves, with its text, which may quote a user."""
    if not task.cancelled():
        task.exception()


class Updater:
    """Runs updates; one object a worker."""

    def __init__(self, store: Store, queue: Queue, engine: Engine, settings: Settings, metrics: WorkerMetrics) -> None:
        self.store = store
        self.queue = queue
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self.prompts = load_profile(settings.summary.prompts)
        self.tests = SummaryTests(store, queue, engine, settings, metrics)
        self._probes: SharedCalls[None, None] = SharedCalls()
        self.writer: Writer = ProfileWriter()
        if engine.enabled:
            self.writer = EngineWriter(engine, settings.summary, metrics)

    async def run(self, claim: Claim) -> UpdateResult:
        """One update; `tests.record` stores its test. Raises EngineUnavailable, the user released, and RedisError."""
        limit = self.settings.summary.batch_events
        first_id, size, batch = "", max(1, min(claim.cap or limit, claim.pending)), None
        try:
            first_id = await self.store.first_id(claim.tenant, claim.user, claim.cursor)
            if claim.suspect:
                return await self._fail_data(claim, first_id, size, "This event ended its worker again and again.")
            batch = await self._read(claim)
            size = len(batch.events)
            return await self._update(claim, batch)
        except EngineUnavailable as error:
            await self._publish_error(claim, error)
            at_fault: FailKind = "budget" if isinstance(error, BudgetSpent) else "engine"
            if await self.queue.fail(claim, at_fault) == "RETRY" and at_fault == "engine":
                self.metrics.retries.labels("engine").inc()
            raise
        except RedisError:
            raise
        except EngineError as error:
            await self._publish_error(claim, error)
            if isinstance(error, UnusableReply) and batch:
                await self.queue.keep_rejected(claim, _to_rejected_draft(batch, error))
            return await self._fail_refused(claim, first_id, size, error)
        except AlignXError as error:
            await self._publish_error(claim, error)
            return await self._fail_data(claim, first_id, size, error.detail)
        except Exception as error:
            # Code that breaks on an event breaks on it again: the queue halves the batch until the event is a
            # dead letter. Once the events are read, the cause may be the engine's answer.
            logger.exception("update failed")
            kind = type(error).__name__
            if batch is None:
                return await self._fail_data(claim, first_id, size, f"{kind} while reading the event.")
            return await self._fail_refused(claim, first_id, size, EngineError(f"{kind} while writing the summary."))

    async def _update(self, claim: Claim, batch: Batch) -> UpdateResult:
        started = time.perf_counter()
        current = await self.store.version(claim.tenant, claim.user, claim.version) if claim.version else None
        name = await self.writer.name()
        admission = await self.tests.trials.admit(claim, name) if name else "accepted"
        if admission == "wait":
            await self.queue.fail(claim, "wait")
            return UpdateResult("held")
        reviewed = await self.tests.review(claim, current, batch.events)
        past = None if batch.whole_history else reviewed.past if reviewed else current
        material = await self._gather(claim, batch, past)

        live = LiveText(self.queue, claim)
        test = asyncio.create_task(self.tests.predict(claim, past, batch.events, live.begun))
        test.add_done_callback(retrieve_exception)
        result = UpdateResult("conflict")
        try:
            draft = await self._write(claim, batch, material, live)
            live.begun.set()
            record = _to_version(claim, past, batch, draft, started)
            if reviewed:
                record = record.model_copy(update={"regression": reviewed.test})
                await self.tests.leave_behind(claim, reviewed)
            # The version does not wait for the tests: by letters they end first, by likelihood they may not.
            if test.done() and not test.exception():
                record = record.model_copy(update={"prequential": to_prequential(test.result().sums)})
            if not await self._commit(claim, record, batch):
                await self.queue.fail(claim, "release")
                return result
            await trim_log(self.store, self.queue, claim.tenant, claim.user)
            on_trial = admission == "trial" and draft.source != PROFILE_SOURCE
            await self.tests.report_trial(claim, name if on_trial else "", current, draft.text)
            self._measure(batch, record, time.perf_counter() - started)
            return (result := UpdateResult("committed", test, written_by(past) if past else ""))
        finally:
            if result.test is None:
                test.cancel()

    async def _gather(self, claim: Claim, batch: Batch, past: SummaryVersion | None) -> Material:
        profile, event_ids = await self.store.evidence(claim.tenant, claim.user)
        whole, events = batch.whole_history, batch.events
        may_drop = whole or len(events) == 1
        if past and not past.claims and past.source.startswith("llm:"):  # of a release that recorded none
            events = [*await self.store.events_before(claim.tenant, claim.user, claim.cursor, _REBUILD_PAGE), *events]
        policy = await self.store.policy(claim.tenant)
        return Material(claim.tenant, batch.interactions, past, profile, may_drop, whole, events, event_ids, policy)

    async def _write(self, claim: Claim, batch: Batch, material: Material, live: LiveText) -> Draft:
        """The draft; where those of a small model are refused, the profile's text: it is true, and follows the user."""
        try:
            return await self.writer.write(material, live)
        except UnusableReply as error:
            if not self.settings.summary.grounded:
                raise
            await self.queue.keep_rejected(claim, _to_rejected_draft(batch, error))
            return await ProfileWriter().write(material, live)

    async def _commit(self, claim: Claim, record: SummaryVersion, batch: Batch) -> bool:
        with child_span("commit") as span:
            committed = await self.queue.commit(claim, record, batch.cursor, batch.applied)
            span.set_attributes(
                {"alignx.version": record.version, "alignx.events": batch.applied, "alignx.ok": committed}
            )
        return committed

    async def _read(self, claim: Claim) -> Batch:
        if claim.rebuild:
            return await self._read_history(claim)
        limit = self.settings.summary
        entries = await self.store.events(claim.tenant, claim.user, claim.cursor, claim.cap or limit.batch_events)
        events: list[StoredInteraction] = []
        _, profile = await self.store.profile(claim.tenant, claim.user)
        budget = tokens = share_window(self.engine.context_tokens, limit, self.prompts, profile.own).events
        for event in entries:
            budget -= self.prompts.interaction_tokens(event.interaction)
            if events and budget < 0:
                break
            events.append(event)
        # A single event beyond the budget is shortened; the engine would refuse a longer prompt.
        count = self.prompts.interaction_tokens
        interactions = fit_interactions([event.interaction for event in events], tokens, count)
        return Batch(events, interactions, events[-1].event_id if events else claim.cursor, len(events))

    async def _read_history(self, claim: Claim) -> Batch:
        """The newest events up to the claim that fit one prompt, and behind them the user's own text."""
        budget = share_window(self.engine.context_tokens, self.settings.summary, self.prompts).history
        events: list[StoredInteraction] = []
        end, spent = claim.last_id, 0
        while spent < budget:
            page = await self.store.events_before(claim.tenant, claim.user, end, _REBUILD_PAGE)
            events[:0] = page
            spent += sum(self.prompts.interaction_tokens(event.interaction) for event in page)
            if len(page) < _REBUILD_PAGE:
                break
            end = f"({page[0].event_id}"
        history = [event.interaction for event in events]
        _, profile = await self.store.profile(claim.tenant, claim.user)
        own = [StatementInteraction(text=profile.own)] if profile.own else []
        interactions = fit_interactions([*history, *own], budget, self.prompts.interaction_tokens)
        shown = events[max(0, len(history) + len(own) - len(interactions)) :]
        return Batch(shown, interactions, claim.last_id, claim.pending, whole_history=True)

    async def _fail_refused(self, claim: Claim, first_id: str, batch: int, error: EngineError) -> UpdateResult:
        """The engine refused the prompt, or its reply is no summary."""
        if isinstance(error, ContextExceeded):
            if batch > 1 and not claim.rebuild:  # a part of it may fit
                return await self._fail_data(claim, first_id, batch, error.detail)
            is_engines = True  # size alone sets no event aside
        else:  # the engine has taken a canary since, but perhaps takes no update
            is_engines = not await self._writes_summaries()
        kind: FailKind = "unusable" if isinstance(error, UnusableReply) else "refusal"
        kind = "engine" if is_engines else kind
        status = await self.queue.fail(claim, kind, first_id=first_id, batch=batch, error=error.detail)
        if is_engines and status == "RETRY":
            status = "ENGINE"
        is_proven = isinstance(error, ContextExceeded) or (isinstance(error, EngineRejected) and not is_engines)
        return replace(self._to_result(status), fault="" if is_proven else error.detail)

    async def _writes_summaries(self) -> bool:
        """Whether the engine writes a usable summary of a fixed event."""
        try:
            await self._probes.call(None, self.writer.probe)
        except AlignXError:
            return False
        except Exception:  # an answer of an unknown form
            logger.exception("the probe of the engine failed")
            return False
        return True

    async def _fail_data(self, claim: Claim, first_id: str, batch: int, error: str) -> UpdateResult:
        return self._to_result(await self.queue.fail(claim, "data", first_id=first_id, batch=batch, error=error))

    def _to_result(self, status: str) -> UpdateResult:
        """Counts what fail.lua has decided."""
        if status == "DEAD":
            self.metrics.dead.inc()
        elif status in ("ENGINE", "RETRY", "HALVED"):
            self.metrics.retries.labels("engine" if status == "ENGINE" else "data").inc()
        return UpdateResult(_OUTCOMES.get(status, status.lower()))

    async def _publish_error(self, claim: Claim, error: AlignXError) -> None:
        """Tells clients of the live stream why the summary is late."""
        await self.queue.publish(claim, "error", orjson.dumps(error.problem()).decode())

    def _measure(self, batch: Batch, record: SummaryVersion, seconds: float) -> None:
        self.metrics.seconds.observe(seconds)
        self.metrics.chars.observe(len(record.text))
        self.metrics.versions.labels(written_by(record)).inc()
        for sentence in record.claims:
            if sentence.kind == "model":
                self.metrics.sentences.labels("supported" if sentence.supported else "unsupported").inc()
        if batch.events and not batch.whole_history:
            self.metrics.events.observe(len(batch.events))
            waited = datetime.now(UTC) - event_time(batch.events[0].event_id)
            self.metrics.delay.observe(max(0.0, waited.total_seconds()))


def _to_version(
    claim: Claim, past: SummaryVersion | None, batch: Batch, draft: Draft, started: float
) -> SummaryVersion:
    return SummaryVersion(
        version=claim.version + 1,
        text=draft.text,
        reasoning=draft.reasoning,
        source=draft.source,
        parent=past.version if past else None,
        events=_event_range(batch),
        template=draft.template,
        tokens=draft.tokens,
        latency_ms=round((time.perf_counter() - started) * 1000, 1),
        created_at=datetime.now(UTC),
        claims=draft.claims,
    )


def _to_rejected_draft(batch: Batch, error: UnusableReply) -> RejectedDraft:
    return RejectedDraft(
        check=error.reason,
        reason=error.detail,
        text=error.reply,
        source=error.source,
        events=_event_range(batch),
        created_at=datetime.now(UTC),
    )


def _event_range(batch: Batch) -> EventRange:
    if not batch.events:
        return EventRange()
    return EventRange(first=batch.events[0].event_id, last=batch.events[-1].event_id, count=len(batch.events))
