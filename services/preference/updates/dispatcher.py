"""The worker's loop: claims users with waiting events and runs as many updates at once as the engine bears.

While a tenant holds more than half of the updates, the users of others go first. The limit of updates at
once and the pauses after failures are those of backoff.py. Each update runs under a lease that a heartbeat
extends; it ends when the lease is lost.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from opentelemetry.trace import Span, SpanKind
from redis.exceptions import RedisError

from alignx.schemas.status import EngineState
from services.engine.conventions.sessions import session_of
from services.errors import AlignXError, BudgetSpent, EngineError, EngineUnavailable
from services.preference.queue import Queue
from services.preference.queue_records import Claim, ClaimResult, Origin, parse_origins
from services.preference.updates.backoff import Backoff
from services.preference.updates.update import Updater, UpdateResult, retrieve_exception
from services.preference.updates.update_metrics import WorkerMetrics
from services.server.app import STORE_FAULTS
from services.server.logging import REQUEST_ID
from services.settings import QueueSettings, Settings
from services.storage.connection import REFUSED
from services.storage.key_names import ENGINE_FAULT, WORKER_SEEN
from services.storage.redis_metrics import RedisMetrics
from services.storage.users import reply
from services.tracing import current, start_span

_PAUSE_S = 0.5
_REPORT_S = 15
"""How long a report of a degraded engine holds; it is renewed each time that the queue is measured."""

logger = logging.getLogger("alignx.worker")


class Dispatcher:
    """Claims due users and runs their updates."""

    def __init__(self, queue: Queue, updater: Updater, settings: Settings, metrics: WorkerMetrics) -> None:
        self.queue = queue
        self.updater = updater
        self.settings: QueueSettings = settings.queue
        self.metrics = metrics
        self.log_updates = settings.log.access
        self.backoff = Backoff(settings, metrics.concurrency, lambda: updater.engine.prober.fault)
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._running: dict[asyncio.Task[None], str] = {}
        """Each update with its tenant, as in members."""
        self._latest: tuple[str, ...] = ()
        """The tenant of the latest claim; it counts as crowding when nothing runs."""
        self._unreleased: list[Claim] = []
        """Users whose update failed with Redis; they are released as soon as it answers."""
        self._unreachable_shards = 0
        self._probe: asyncio.Task[None] | None = None
        self._stopping = False

    def stop(self, work: "asyncio.Task[None]") -> None:
        """Ends `run`, whose task is `work`. A cancellation alone can get lost: before Python 3.12
        `asyncio.wait_for`, by which redis-py sends, sometimes swallows one."""
        self._stopping = True
        work.cancel()

    async def run(self) -> None:
        """Works until `stop`."""
        while not self._stopping:
            try:
                claimed = await self._claim_due()
            except RedisError as error:
                fault = "redis refuses writes" if isinstance(error, REFUSED) else "redis does not answer"
                logger.warning(fault, extra={"error": type(error).__name__})
                await asyncio.sleep(_PAUSE_S)
                continue
            except Exception:  # else the worker would run on and do nothing
                logger.exception("the dispatcher failed")
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._running) >= self.backoff.limit:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            elif not claimed:
                await asyncio.sleep(self.settings.poll_ms / 1000)

    async def close(self, grace_s: float) -> None:
        """Waits for running updates, then releases the users of those that are left."""
        if self._probe:
            self._probe.cancel()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _claim_due(self) -> int:
        if self._unreleased:
            await self._release()
        if self.backoff.is_probe_due and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._probe_engine())
        if not self.backoff.allows(len(self._running)):
            return 0
        shards = await self.queue.due_shards()
        self._log_unreachable_shards()
        crowding = self._crowding()
        claimed = await self._claim_from(shards, crowding) if crowding else 0
        return claimed or await self._claim_from(shards, ())

    async def _probe_engine(self) -> None:
        try:
            await self.updater.writer.probe()
        except AlignXError as error:
            self.backoff.record_probe(error)
        except Exception as error:  # an answer of an unknown form
            logger.exception("the probe of the engine failed")
            self.backoff.record_probe(EngineError(f"{type(error).__name__} while reading the engine's answer."))
        else:
            self.backoff.record_probe(None)

    async def _release(self) -> None:
        """Releases the users whose server answers again; the others stay for the next time, and more may join them."""
        claims = [*self._unreleased]
        answers = await asyncio.gather(*(self.queue.fail(claim, "release") for claim in claims), return_exceptions=True)
        pairs = zip(claims, answers, strict=True)
        self._unreleased[: len(claims)] = [claim for claim, answer in pairs if isinstance(answer, STORE_FAULTS)]

    def _log_unreachable_shards(self) -> None:
        if self.queue.unreachable_shards != self._unreachable_shards:
            self._unreachable_shards = self.queue.unreachable_shards
            logger.warning("shards without a server", extra={"shards": self._unreachable_shards})

    def _crowding(self) -> list[str]:
        """The tenant that holds more than half of the running updates, if one does."""
        updates = Counter(self._running.values() or self._latest)
        return [tenant for tenant, count in updates.items() if count * 2 > updates.total()]

    async def _claim_from(self, shards: Sequence[int], crowding: Sequence[str]) -> int:
        """Starts an update for a user of each shard that has one. Returns how many."""
        claimed = 0
        for shard in shards:
            if not self.backoff.allows(len(self._running)):
                break
            expired, claim = await self._claim_shielded(shard, crowding)
            self.metrics.expiries.inc(expired)
            if claim:
                claimed += 1
                self.backoff.admit()
                task = asyncio.create_task(self._run_update(claim))
                tenant = claim.member.split(":")[0]
                self._running[task], self._latest = tenant, (tenant,)
                task.add_done_callback(self._running.pop)
        return claimed

    async def _claim_shielded(self, shard: int, crowding: Sequence[str]) -> ClaimResult:
        """A claim that survives a cancellation: Redis may have made it, and the user would wait until the
        lease runs out. Then the user is released."""
        claiming = asyncio.ensure_future(self.queue.claim(shard, self.name, crowding))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(RedisError):
                _, claim = await claiming
                if claim:
                    await self.queue.fail(claim, "release")
            raise

    async def _run_update(self, claim: Claim) -> None:
        calls = parse_origins(claim.calls)
        REQUEST_ID.set(calls[-1].request_id if calls else "")  # of this task alone
        started = time.perf_counter()
        with self.metrics.in_flight.track_inprogress(), current(self._span(calls)) as span:
            result = await self._attempt(claim)
            self.metrics.updates.labels(result.outcome).inc()
            span.set_attributes({"alignx.outcome": result.outcome})
            if self.log_updates:
                fields = {"outcome": result.outcome, "ms": round((time.perf_counter() - started) * 1000, 2)}
                also = {"request_ids": [call.request_id for call in calls]} if len(calls) > 1 else {}
                logger.info("update", extra=fields | also)
            await self.updater.tests.record(claim, result.test, result.tested_source)

    def _span(self, calls: Sequence[Origin]) -> Span:
        """The update belongs to the trace of the latest call that asked for it and links to the others."""
        *others, latest = [call.traceparent for call in calls] or [""]
        return start_span("update", SpanKind.CONSUMER, latest, others)

    async def _attempt(self, claim: Claim) -> UpdateResult:
        try:
            result = await self._update_under_lease(claim)
        except BudgetSpent:  # the engine is well, and other tenants' updates go on
            return UpdateResult("budget")
        except EngineUnavailable as error:
            self.backoff.record_engine_failure(error.detail)
            return UpdateResult("engine")
        except RedisError as error:
            logger.warning("update lost with redis", extra={"error": type(error).__name__})
            if isinstance(error, STORE_FAULTS):
                self._unreleased.append(claim)
            return UpdateResult("lost")
        if result.fault:
            self.backoff.record_fault(result.fault)
        elif result.outcome == "committed":
            self.backoff.record_success()
        return result

    async def _update_under_lease(self, claim: Claim) -> UpdateResult:
        """Runs the update beside its heartbeat. When the lease is lost, the result would be refused."""
        with session_of(claim.tenant, claim.user):
            update = asyncio.create_task(self.updater.run(claim))
        update.add_done_callback(retrieve_exception)
        extended = time.monotonic()
        try:
            while True:
                done, _ = await asyncio.wait({update}, timeout=self.settings.heartbeat_ms / 1000)
                if done:
                    return update.result()
                sent = time.monotonic()
                try:
                    is_held = await self.queue.beat(claim)
                except STORE_FAULTS:
                    if time.monotonic() - extended >= self.settings.lease_ms / 1000:
                        raise
                    continue  # Redis keeps the lease that long
                if not is_held:
                    return update.result() if update.done() else UpdateResult("lost")
                extended = sent
        except asyncio.CancelledError:
            await self.queue.fail(claim, "release")
            raise
        finally:
            update.cancel()

    def engine_state(self) -> EngineState | None:
        """What this worker knows of its engine, which is degraded too while its replies are no summaries."""
        state = self.updater.engine.state()
        if state and state.state == "ok" and self.backoff.is_paused:
            return state.model_copy(update={"state": "degraded", "detail": self.backoff.cause})
        return state

    async def _report(self) -> None:
        """Lets the gateway and the preference service know that there is a worker, and of a degraded engine."""
        await reply(self.queue.redis.set(WORKER_SEEN, "", ex=_REPORT_S))
        state = self.engine_state()
        if state and state.state == "degraded":
            await reply(self.queue.redis.set(ENGINE_FAULT, state.model_dump_json(exclude_none=True), ex=_REPORT_S))

    async def measure(self, redis_metrics: RedisMetrics, *, every_s: float = 5.0) -> None:
        """Measures the queue and Redis every `every_s` seconds until `stop`. A task of its own, since `run` waits
        while all updates are busy."""
        while not self._stopping:
            for measure in (partial(redis_metrics.read, self.queue.redis), self._measure_queue, self._report):
                try:
                    await measure()
                except RedisError:
                    pass  # `run` logs it
                except Exception:  # else the old figures would pass for current ones
                    logger.exception("the look at the queue and Redis failed")
            await asyncio.sleep(every_s)

    async def _measure_queue(self) -> None:
        waiting, overdue = await self.queue.depth()
        self.metrics.waiting.set(waiting)
        self.metrics.overdue.set(overdue)
