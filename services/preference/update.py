"""One claimed user from its waiting events to a committed summary version.

Reads the batch under its budgets, lets a writer draft the summary, tests the past summary on the new
choices beside it, and commits. An engine that is away, refuses the prompt or writes no summary costs time
only: the events wait. Where it has served other users in between, the data are at fault; then the batch is
halved until the one event is found, which is set aside.
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
from alignx.schemas.summaries import EventRange, Prequential, StoredInteraction, SummaryVersion
from services.engine.client import Engine
from services.errors import AlignXError, ContextExceeded, EngineError, EngineUnavailable
from services.preference.inference import (
    EngineWriter,
    Material,
    ProfileWriter,
    Writer,
    sample_pairs,
    score_summary,
)
from services.preference.queue import Queue
from services.preference.queue_records import Claim, PrequentialSums
from services.preference.update_metrics import WorkerMetrics, written_by
from services.prompts.build import fit_interactions, interaction_tokens
from services.settings import Settings
from services.storage.users import Store, event_time
from services.tracing import SPAN

_REBUILD_PAGE = 500
_OUTCOMES = {word: word.lower() for word in ("ENGINE", "DEAD", "HALVED", "DROPPED", "POSTPONED")} | {"FENCED": "lost"}
_PROMPT_OVERHEAD = 1_024
"""Tokens kept free for the fixed instruction of an update and for estimates that are too low."""

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
class Ended:
    """How an update ended."""

    outcome: str
    test: "asyncio.Task[PrequentialSums] | None" = None
    """The past summary's test, perhaps still under way: it needs no lease."""
    tested: str = ""
    """What wrote the past summary."""
    fault: str = ""
    """What the engine refused or wrote in place of a summary, whoever is to blame."""


def noticed(task: "asyncio.Task[Any]") -> None:
    """Asyncio logs an error that nobody looked at, with its words: for tasks that may end unheeded."""
    if not task.cancelled():
        task.exception()


class ServedUsers:
    """The latest users whom the engine has served. A refusal of another is no proof against its data
    unless one of them came later."""

    def __init__(self) -> None:
        self._claimed: dict[str, int] = {}

    def add(self, claim: Claim) -> None:
        self._claimed[claim.member] = max(claim.at_ms, self._claimed.pop(claim.member, 0))
        if len(self._claimed) > 2:  # of two users one is always another
            del self._claimed[min(self._claimed, key=self._claimed.__getitem__)]

    def latest_but(self, claim: Claim) -> int:
        """When the latest of them that is not the claim's user was claimed, ms; 0 for none."""
        return max((at_ms for member, at_ms in self._claimed.items() if member != claim.member), default=0)


class LiveText:
    """The user's live stream while an update writes; `begun` tells that the engine answers."""

    def __init__(self, queue: Queue, claim: Claim) -> None:
        self.queue = queue
        self.claim = claim
        self.begun = asyncio.Event()

    async def begin(self) -> None:
        pending = {"pending": self.claim.pending, "version": self.claim.version}
        await self.queue.publish(self.claim, "pending", orjson.dumps(pending).decode())

    def engine_answers(self) -> None:
        self.begun.set()

    async def show(self, text: str) -> None:
        await self.queue.publish(self.claim, "delta", orjson.dumps({"text": text}).decode())


class Updater:
    """Carries one claimed user from its waiting events to a committed version."""

    def __init__(self, store: Store, queue: Queue, engine: Engine, settings: Settings, metrics: WorkerMetrics) -> None:
        self.store = store
        self.queue = queue
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self._served = ServedUsers()
        self.writer: Writer = ProfileWriter()
        if engine.enabled:
            self.writer = EngineWriter(
                engine, settings.summary, settings.engine.context_tokens, lambda why: metrics.unusable.labels(why).inc()
            )

    async def run(self, claim: Claim) -> Ended:
        """One update; `record` notes its test. Raises EngineUnavailable after giving the user back,
        and RedisError without being able to."""
        limit = self.settings.summary.batch_events
        first, size, batch = "", max(1, min(claim.cap or limit, claim.pending)), None
        try:
            first = await self.store.first_id(claim.tenant, claim.user, claim.cursor)
            if claim.suspect:
                return await self._fail_data(claim, first, size, "This event ended its worker again and again.")
            batch = await self._read(claim)
            size = len(batch.events)
            return await self._update(claim, batch)
        except EngineUnavailable as error:
            await self._tell(claim, error)
            if await self.queue.fail(claim, "engine") == "RETRY":
                self.metrics.retries.labels("engine").inc()
            raise
        except RedisError:
            raise
        except EngineError as error:
            await self._tell(claim, error)
            return await self._fail_refused(claim, first, size, error)
        except AlignXError as error:
            await self._tell(claim, error)
            return await self._fail_data(claim, first, size, error.detail)
        except Exception as error:
            # Whatever breaks on an event breaks on it again: the queue narrows it down, sets it
            # aside, and the user goes on. Once the events are read, it may be the engine's answer.
            logger.exception("update failed")
            kind = type(error).__name__
            if batch is None:
                return await self._fail_data(claim, first, size, f"{kind} while reading the event.")
            return await self._fail_refused(claim, first, size, EngineError(f"{kind} while writing the summary."))

    async def record(self, claim: Claim, ended: Ended) -> None:
        """Adds what the test of the past summary showed. An untested batch is no failed update."""
        if ended.test is None:
            return
        try:
            scored = await ended.test
            if scored.count:
                await self.queue.record_quality(claim, scored)
                self.metrics.quality.add("engine", ended.tested, scored)
        except (AlignXError, RedisError) as error:
            logger.warning("a test of a summary was lost", extra={"error": type(error).__name__})

    async def _update(self, claim: Claim, batch: Batch) -> Ended:
        started = time.perf_counter()
        current = await self._current(claim)
        past = None if batch.whole_history else current
        _, profile = await self.store.profile(claim.tenant, claim.user)

        live = LiveText(self.queue, claim)
        test = asyncio.create_task(self._test(claim, past, batch, live.begun))
        test.add_done_callback(noticed)
        ended = Ended("conflict")
        try:
            draft = await self.writer.write(Material(claim.tenant, batch.interactions, past, profile), live)
            live.begun.set()
            # The tests are single tokens and end first; if not, the version does not wait for them.
            prequential = _as_prequential(test.result()) if test.done() and not test.exception() else None
            record = SummaryVersion(
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
                prequential=prequential,
            )
            self._served.add(claim)
            if not await self._commit(claim, record, batch):
                await self.queue.fail(claim, "release")
                return ended
            for rule in draft.removed:
                self.metrics.guarded.labels(rule).inc()
            self._measure(batch, record, time.perf_counter() - started)
            ended = Ended("committed", test, written_by(past) if past else "")
            return ended
        finally:
            if ended.test is None:
                test.cancel()

    async def _commit(self, claim: Claim, record: SummaryVersion, batch: Batch) -> bool:
        with SPAN.get().child("commit") as span:
            committed = await self.queue.commit(claim, record, batch.cursor, batch.applied)
            span.note({"alignx.version": record.version, "alignx.events": batch.applied, "alignx.ok": committed})
        return committed

    async def _read(self, claim: Claim) -> Batch:
        if claim.rebuild:
            return await self._read_history(claim)
        limit = self.settings.summary
        size = claim.cap or limit.batch_events
        entries = await self.store.events(claim.tenant, claim.user, claim.cursor, size)
        taken: list[StoredInteraction] = []
        budget = limit.batch_tokens
        for event in entries:
            budget -= interaction_tokens(event.interaction)
            if taken and budget < 0:
                break
            taken.append(event)
        # A single event beyond the budget is shown shortened; a longer prompt would be refused.
        interactions = fit_interactions([event.interaction for event in taken], limit.batch_tokens)
        return Batch(taken, interactions, taken[-1].event_id if taken else claim.cursor, len(taken))

    async def _read_history(self, claim: Claim) -> Batch:
        """The newest events up to the claim that fit one prompt, and behind them what the user last
        wrote over a summary; older events have had their say."""
        limit = self.settings
        budget = max(256, limit.engine.context_tokens - limit.summary.max_tokens - _PROMPT_OVERHEAD)
        events: list[StoredInteraction] = []
        end, spent = claim.last_id, 0
        while spent < budget:
            page = await self.store.events_before(claim.tenant, claim.user, end, _REBUILD_PAGE)
            events[:0] = page
            spent += sum(interaction_tokens(event.interaction) for event in page)
            if len(page) < _REBUILD_PAGE:
                break
            end = f"({page[0].event_id}"
        history = [event.interaction for event in events]
        _, profile = await self.store.profile(claim.tenant, claim.user)
        said = [StatementInteraction(text=profile.own)] if profile.own else []
        interactions = fit_interactions([*history, *said], budget)
        shown = events[max(0, len(history) + len(said) - len(interactions)) :]
        return Batch(shown, interactions, claim.last_id, claim.pending, whole_history=True)

    async def _current(self, claim: Claim) -> SummaryVersion | None:
        if not claim.version:
            return None
        return await self.store.version(claim.tenant, claim.user, claim.version)

    async def _test(
        self, claim: Claim, past: SummaryVersion | None, batch: Batch, begun: asyncio.Event
    ) -> PrequentialSums:
        """The engine predicts a few of the new choices from the summary that has not seen them; only once
        it answers, so that an engine that refuses is asked once an update."""
        pairs = sample_pairs([event.interaction for event in batch.events], self.settings.summary.prequential_sample)
        if not self.engine.enabled or past is None or not pairs:
            return PrequentialSums()
        await begun.wait()
        return await score_summary(self.engine, claim.tenant, past.text, pairs)

    async def _fail_refused(self, claim: Claim, first: str, batch: int, error: EngineError) -> Ended:
        """The engine refused the prompt, or its reply is no summary."""
        if isinstance(error, ContextExceeded) and batch > 1 and not claim.rebuild:  # less of it may fit
            ended = await self._fail_data(claim, first, batch, error.detail)
        else:
            passed = self._served.latest_but(claim)
            word = await self.queue.fail(
                claim, "refusal", first_id=first, batch=batch, error=error.detail, served_ms=passed
            )
            ended = self._ended(word)
        return replace(ended, fault=error.detail)

    async def _fail_data(self, claim: Claim, first: str, batch: int, error: str) -> Ended:
        return self._ended(await self.queue.fail(claim, "data", first_id=first, batch=batch, error=error))

    def _ended(self, word: str) -> Ended:
        """What the fault has led to, in the queue's word."""
        if word == "DEAD":
            self.metrics.dead.inc()
        elif word == "ENGINE":
            self.metrics.retries.labels("engine").inc()
        elif word in ("RETRY", "HALVED"):
            self.metrics.retries.labels("data").inc()
        return Ended(_OUTCOMES.get(word, "data"))

    async def _tell(self, claim: Claim, error: AlignXError) -> None:
        """Shows a watching client why the summary is late."""
        await self.queue.publish(claim, "error", orjson.dumps(error.problem()).decode())

    def _measure(self, batch: Batch, record: SummaryVersion, seconds: float) -> None:
        self.metrics.seconds.observe(seconds)
        self.metrics.chars.observe(len(record.text))
        self.metrics.versions.labels(written_by(record)).inc()
        if batch.events and not batch.whole_history:
            self.metrics.events.observe(len(batch.events))
            waited = datetime.now(UTC) - event_time(batch.events[0].event_id)
            self.metrics.delay.observe(max(0.0, waited.total_seconds()))


def _event_range(batch: Batch) -> EventRange:
    if not batch.events:
        return EventRange()
    return EventRange(first=batch.events[0].event_id, last=batch.events[-1].event_id, count=len(batch.events))


def _as_prequential(scored: PrequentialSums) -> Prequential | None:
    if not scored.count:
        return None
    return Prequential(
        comparisons=scored.count,
        accuracy=scored.hits / scored.count,
        mean_probability=round(scored.mass / scored.count, 4),
    )
