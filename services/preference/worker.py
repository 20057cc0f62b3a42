"""The worker: finds users with waiting events and keeps as many updates under way as pays.

    python -m services.preference.worker

A dispatcher claims due users and starts an update for each; while a tenant holds more than half of
the updates, the users of others go first. The limit of updates at once halves when
the engine is overloaded or gone and grows back with every success; an engine that fails one update after
another is asked only every few seconds (pace.py). Each update runs under a lease
that a heartbeat extends; a lost lease ends it. Run as many workers as you like. The process serves
/livez, /readyz and /metrics on port 8103.
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from services.engine.client import Engine
from services.engine.limits import EngineMetrics
from services.errors import AlignXError, EngineError, EngineUnavailable, Unavailable
from services.preference.backoff import Pace
from services.preference.queue import Queue
from services.preference.queue_records import Claim, Origin, parse_origins
from services.preference.update import Ended, Updater, noticed
from services.preference.update_metrics import WorkerMetrics
from services.server.app import STORE_FAULTS, create_app, serve
from services.server.health import Check
from services.server.logging import REQUEST_ID
from services.server.metrics import create_registry
from services.settings import QueueSettings, Settings, load_settings
from services.storage.connection import REFUSED, open_redis
from services.storage.redis_metrics import RedisMetrics
from services.storage.startup_check import Opening
from services.storage.users import Store
from services.tracing import Span, Tracer, current

PORT = 8103
_PAUSE_S = 0.5
_LOOK_EVERY_S = 5.0

logger = logging.getLogger("alignx.worker")


class Worker:
    """One dispatcher and the updates it has started."""

    def __init__(
        self, queue: Queue, updater: Updater, settings: Settings, metrics: WorkerMetrics, tracer: Tracer | None = None
    ) -> None:
        self.queue = queue
        self.updater = updater
        self.settings: QueueSettings = settings.queue
        self.metrics = metrics
        self.tracer = tracer or Tracer()
        self.log_updates = settings.log.access
        self.pace = Pace(settings, metrics.concurrency)
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._running: dict[asyncio.Task[None], str] = {}
        """Each update with its tenant, as in members."""
        self._latest: tuple[str, ...] = ()
        """The tenant of the latest claim: whose turn it was, when nothing runs."""
        self._stranded: list[Claim] = []
        """Users whose update ended with Redis: given back as soon as it answers."""
        self._away = 0
        self._probe: asyncio.Task[None] | None = None
        self._stopping = False

    def stop(self, work: "asyncio.Task[None]") -> None:
        """Ends `run`, which `work` is. A cancellation alone can get lost: before Python 3.12
        `asyncio.wait_for`, by which redis-py sends, sometimes swallows one."""
        self._stopping = True
        work.cancel()

    async def run(self) -> None:
        """Works until `stop`."""
        while not self._stopping:
            try:
                claimed = await self._claim_due()
            except RedisError as error:
                what = "redis refuses writes" if isinstance(error, REFUSED) else "redis does not answer"
                logger.warning(what, extra={"error": type(error).__name__})
                await asyncio.sleep(_PAUSE_S)
                continue
            except Exception:  # a worker that still runs, but does nothing, would be noticed by nobody
                logger.exception("the dispatcher failed")
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._running) >= self.pace.most:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            elif not claimed:
                await asyncio.sleep(self.settings.poll_ms / 1000)

    async def close(self, grace_s: float) -> None:
        """Lets running updates end, then gives back what is left."""
        if self._probe:
            self._probe.cancel()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _claim_due(self) -> int:
        if self._stranded:
            await self._give_back(self._stranded)
        if self.pace.probe_due and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._probe_engine())
        if not self.pace.allows(len(self._running)):
            return 0
        shards = await self.queue.due_shards()
        self._note_away()
        random.shuffle(shards)
        crowding = self._crowding()
        claimed = await self._claim_each(shards, crowding) if crowding else 0
        return claimed or await self._claim_each(shards, ())

    async def _probe_engine(self) -> None:
        try:
            await self.updater.writer.probe()
        except AlignXError as error:
            self.pace.probed(error)
        except Exception as error:  # an answer that nobody foresaw
            logger.exception("the probe of the engine failed")
            self.pace.probed(EngineError(f"{type(error).__name__} while reading the engine's answer."))
        else:
            self.pace.probed(None)

    async def _give_back(self, stranded: Sequence[Claim]) -> None:
        """Releases the users whose server answers again; the others stay for the next time."""
        fails = (self.queue.fail(claim, "release") for claim in stranded)
        answers = await asyncio.gather(*fails, return_exceptions=True)
        kept = zip(stranded, answers, strict=True)
        self._stranded = [claim for claim, answer in kept if isinstance(answer, STORE_FAULTS)]

    def _note_away(self) -> None:
        if self.queue.unreachable_shards != self._away:
            self._away = self.queue.unreachable_shards
            logger.warning("shards without a server", extra={"shards": self._away})

    def _crowding(self) -> list[str]:
        """The tenant that holds more than half of the running updates, if one does."""
        held = Counter(self._running.values() or self._latest)
        return [tenant for tenant, count in held.items() if count * 2 > held.total()]

    async def _claim_each(self, shards: Sequence[int], crowding: Sequence[str]) -> int:
        """Starts an update for a user of each shard that has one; how many."""
        claimed = 0
        for shard in shards:
            if not self.pace.allows(len(self._running)):
                break
            expired, claim = await self._claim(shard, crowding)
            self.metrics.expiries.inc(expired)
            if claim:
                claimed += 1
                self.pace.admit()
                task = asyncio.create_task(self._work(claim))
                tenant = claim.member.split(":")[0]
                self._running[task], self._latest = tenant, (tenant,)
                task.add_done_callback(self._running.pop)
        return claimed

    async def _claim(self, shard: int, crowding: Sequence[str]) -> tuple[int, Claim | None]:
        """A claim that `stop` does not break off: Redis may have made it, and the user would wait for the
        lease to run out. Such a one is given back."""
        claiming = asyncio.ensure_future(self.queue.claim(shard, self.name, crowding))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(RedisError):
                _, claim = await claiming
                if claim:
                    await self.queue.fail(claim, "release")
            raise

    async def _work(self, claim: Claim) -> None:
        calls = parse_origins(claim.calls)
        REQUEST_ID.set(calls[-1].request_id if calls else "")  # of this task alone
        started = time.perf_counter()
        with self.metrics.in_flight.track_inprogress(), current(self._span(calls)) as span:
            ended = await self._attempt(claim)
            self.metrics.updates.labels(ended.outcome).inc()
            span.note({"alignx.outcome": ended.outcome})
            if self.log_updates:
                fields = {"outcome": ended.outcome, "ms": round((time.perf_counter() - started) * 1000, 2)}
                also = {"request_ids": [call.request_id for call in calls]} if len(calls) > 1 else {}
                logger.info("update", extra=fields | also)
            await self.updater.record(claim, ended)

    def _span(self, calls: Sequence[Origin]) -> Span:
        """The update belongs to the trace of the latest call that asked for it and names the others."""
        *others, latest = [call.traceparent for call in calls] or [""]
        return self.tracer.span("update", "consumer", latest, others)

    async def _attempt(self, claim: Claim) -> Ended:
        try:
            ended = await self._under_lease(claim)
        except EngineUnavailable as error:
            self.pace.engine_failed(error.detail)
            return Ended("engine")
        except RedisError as error:
            logger.warning("update lost with redis", extra={"error": type(error).__name__})
            if isinstance(error, STORE_FAULTS):
                self._stranded.append(claim)
            return Ended("lost")
        if ended.fault:
            self.pace.refused(ended.fault)
        elif ended.outcome == "committed":
            self.pace.succeeded()
        return ended

    async def _under_lease(self, claim: Claim) -> Ended:
        """Runs the update beside its heartbeat; without the lease the work is worth nothing."""
        update = asyncio.create_task(self.updater.run(claim))
        update.add_done_callback(noticed)
        held = time.monotonic()
        try:
            while True:
                done, _ = await asyncio.wait({update}, timeout=self.settings.heartbeat_ms / 1000)
                if done:
                    return update.result()
                asked = time.monotonic()
                try:
                    beat = await self.queue.beat(claim)
                except STORE_FAULTS:
                    if time.monotonic() - held >= self.settings.lease_ms / 1000:
                        raise
                    continue  # Redis keeps the lease that long
                if not beat:
                    return update.result() if update.done() else Ended("lost")
                held = asked
        except asyncio.CancelledError:
            await self.queue.fail(claim, "release")
            raise
        finally:
            update.cancel()

    async def look(self, redis_metrics: RedisMetrics) -> None:
        """Measures the queue and Redis every few seconds until `stop`; beside the dispatcher, which waits
        while all updates are busy."""
        while not self._stopping:
            for measure in (partial(redis_metrics.read, self.queue.redis), self._measure_queue):
                try:
                    await measure()
                except RedisError:
                    pass  # the dispatcher says it
                except Exception:  # figures that stand still would be believed
                    logger.exception("the look at the queue and Redis failed")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _measure_queue(self) -> None:
        waiting, overdue = await self.queue.depth()
        self.metrics.waiting.set(waiting)
        self.metrics.overdue.set(overdue)


async def _run(worker: Worker, opening: Opening) -> None:
    """The worker's work, from the moment on when Redis is known to hold what it reads."""
    await opening.wait()
    await worker.run()


async def _goes_on(task: "asyncio.Task[None]", ended: str) -> None:
    if task.done():
        raise Unavailable(ended)


def create_worker_app(settings: Settings) -> FastAPI:
    """The worker with its health and metrics; the work itself runs in the lifespan."""
    registry: CollectorRegistry = create_registry("worker")
    metrics = WorkerMetrics(registry)
    engine_metrics = EngineMetrics(registry, settings.metrics.tenants)
    redis_metrics = RedisMetrics(registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_redis(settings.redis) as redis,
            Engine.open(settings.engine, engine_metrics.observe) as engine,
            Opening.of(store := Store(redis, settings.queue.shards)) as opening,
        ):
            queue = Queue(redis, settings.queue, settings.summary)
            updater = Updater(store, queue, engine, settings, metrics)
            worker = Worker(queue, updater, settings, metrics, app.state.tracer)
            engine_metrics.watch(engine.calls, lambda: worker.pace.held_back)
            work, look = asyncio.create_task(_run(worker, opening)), asyncio.create_task(worker.look(redis_metrics))
            app.state.checks = {
                "redis": opening.ready,
                "work": partial(_goes_on, work, "The worker has stopped taking work"),
                "look": partial(_goes_on, look, "The worker has stopped measuring the queue"),
                "engine": worker.pace.ready,
            }
            yield
            worker.stop(work)
            look.cancel()
            for task in (work, look):
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await worker.close(settings.server.shutdown_s)

    def checks(app: FastAPI) -> Mapping[str, Check]:
        found: Mapping[str, Check] = app.state.checks
        return found

    return create_app(
        service="worker",
        title="AlignX worker",
        settings=settings,
        registry=registry,
        checks=checks,
        advisory=("engine",),  # meanwhile the profile serves
        lifespan=lifespan,
    )


def main() -> None:
    settings = load_settings()
    serve(create_worker_app(settings), settings, "worker", port=PORT)


if __name__ == "__main__":
    main()
