"""How often the engine is asked: two days of a million users, one in `ONE_IN` of them simulated on a virtual clock.

Visits follow a power of the user's rank; a visit has six events, 20 s apart. Ingest and queue are the real ones, with
their scripts on a real Redis, whose clock alone is replaced. The engine takes 7.8 s and writes the profile's text; as
the judge it reads that text back, so it knows what the summary says and no more. People of the made-up world choose
(training/corpus), a tenth of the choices the wrong way round; each changes once on the second day, which is the one
that counts. Each event due and due by surprise get the same events at the same times; each choice is predicted first.
"""

import asyncio
import heapq
import random
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from prometheus_client import CollectorRegistry

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from alignx.schemas.summaries import SummaryVersion
from alignx.schemas.tenants import TenantSettings
from bench.harness import running_redis
from bench.page import Row
from services.engine.choice.fusion import Weights, fuse
from services.preference.ingest import Ingest
from services.preference.queue import Queue
from services.preference.updates.update_metrics import IngestMetrics
from services.profile.fold import apply_own_text
from services.profile.render import render
from services.profile.scoring import probabilities
from services.profile.statistics import EMPTY, Profile
from services.settings import LimitSettings, QueueSettings, RedisSettings, SummarySettings
from services.storage.connection import Script, open_redis
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.timed_cache import TimedCache
from services.storage.users import Store
from training.corpus.lexicon import Pen
from training.corpus.personas import persona
from training.corpus.simulate_events import any_event, choice

USERS, ONE_IN = 1_000_000, 5_000
EVENTS_PER_S, VISIT_EVENTS, GAP_S, ZIPF = 500.0, 6.0, 20.0, 0.8
DAY_S, UPDATE_S = 86_400.0, 7.8
SIGNS, NOISE = 0.1, 0.1
CLOCK = "bench:clock"
EVERY_EVENT = TenantSettings(update_events=1)
_WEIGHTS = Weights(profile=0.5, text=0.5)

Arrival = tuple[float, int, Interaction]


@dataclass
class Outcome:
    events: int = 0
    calls: int = 0
    hits: list[float] = field(default_factory=list)
    """Of each choice, by summary and profile together."""
    behind: list[int] = field(default_factory=list)
    """Events that the summary lacked at each choice, and the profile."""
    lacking: list[int] = field(default_factory=list)


def arrivals(one_in: int) -> list[Arrival]:
    """Every `one_in`-th user by rank."""
    harmonic = sum(rank**-ZIPF for rank in range(1, USERS + 1))
    events: list[Arrival] = []
    for number, rank in enumerate(range(one_in // 2, USERS, one_in)):
        rng = random.Random(number)
        pen = Pen(rng, "heldout")
        person = persona(pen)
        later, changes_at = person.drifted(rng), DAY_S * (1 + rng.random())
        for at in sorted(_times(rng, EVENTS_PER_S / VISIT_EVENTS * rank**-ZIPF / harmonic)):
            now = person if at < changes_at else later
            make = any_event if rng.random() < SIGNS else choice
            events.append((at, number, make(pen, now, is_flipped=rng.random() < NOISE).interaction))
    return sorted(events, key=lambda arrival: arrival[:2])


def _times(rng: random.Random, visits_per_s: float) -> Iterator[float]:
    start = 0.0
    while (start := start + rng.expovariate(visits_per_s)) < 2 * DAY_S:
        at = start
        while at < 2 * DAY_S:
            yield at
            at = at + rng.expovariate(1 / GAP_S) if rng.random() < 1 - 1 / VISIT_EVENTS else 2 * DAY_S


class Simulation:
    def __init__(self, redis: Any, cadence: TenantSettings) -> None:
        self.redis, self.store, self.outcome = redis, Store(redis, 1), Outcome()
        self.queue = Queue(redis, QueueSettings(shards=1, tenant_in_flight=100_000), SummarySettings())
        clock = (files("services.storage") / "lua" / "clock.lua").read_text(encoding="utf-8")
        virtual = f"local function clock_ms() return tonumber(redis.call('GET', '{CLOCK}')) end\n"
        for name, script in self.queue._scripts.items():
            self.queue._scripts[name] = Script(redis, script.source.replace(clock, virtual))
        tenants = TimedCache(TenantSettingsStore(redis, cadence).read)
        self.ingest = Ingest(self.store, self.queue, LimitSettings(), IngestMetrics(CollectorRegistry()), tenants)
        self.readers: dict[str, Profile] = {}
        """What the judge reads in each summary."""
        self.sent: dict[str, int] = defaultdict(int)
        self.applied: dict[str, int] = defaultdict(int)
        self.running: list[tuple[float, str, Any, str]] = []

    async def run(self, events: list[Arrival]) -> Outcome:
        for at, number, event in events:
            user = f"u{number}"
            await self._work_until(at)
            if at >= DAY_S and isinstance(event, ComparisonInteraction):
                await self._predict(user, event.query or "", [event.chosen, event.rejected])
            await self.redis.set(CLOCK, round(at * 1000))
            await self.ingest.append("t", user, [event])
            self.sent[user] += 1
            self.outcome.events += at >= DAY_S
        return self.outcome

    async def _predict(self, user: str, query: str, items: list[Any]) -> None:
        _, profile = await self.store.profile("t", user)
        reader = self.readers.get(user) or apply_own_text(EMPTY, render(profile))
        fused = fuse(_WEIGHTS, probabilities(profile, query, items), probabilities(reader, query, items))[0]
        self.outcome.hits.append(0.5 if fused == 0.5 else float(fused > 0.5))
        self.outcome.behind.append(self.sent[user] - self.applied[user])
        self.outcome.lacking.append(self.sent[user] - profile.events)

    async def _work_until(self, end: float) -> None:
        """Claims who is due and commits what is written, in the order of their times."""
        while True:
            ready = await self.redis.zrange("pi:{0}:ready", 0, 0, withscores=True)
            due, written = ready[0][1] / 1000 if ready else end, self.running[0][0] if self.running else end
            if min(due, written) >= end:
                return
            await self.redis.set(CLOCK, round(min(due, written) * 1000))
            if due < written:
                _, claim = await self.queue.claim(0, "w")
                assert claim
                text = render((await self.store.profile("t", claim.user))[1])
                heapq.heappush(self.running, (due + UPDATE_S, claim.token, claim, text))
                continue
            at, _, claim, text = heapq.heappop(self.running)
            record = SummaryVersion(
                version=claim.version + 1, text=text, source="llm:mock", created_at=datetime.now(UTC)
            )
            assert await self.queue.commit(claim, record, claim.last_id, claim.pending)
            self.readers[claim.user] = apply_own_text(EMPTY, text)
            self.applied[claim.user] += claim.pending
            self.outcome.calls += at >= DAY_S


async def simulate(url: str, events: list[Arrival], cadence: TenantSettings) -> Outcome:
    async with open_redis(RedisSettings(url=url)) as redis:
        client: Any = redis
        await client.flushall()
        return await Simulation(redis, cadence).run(events)


def measure() -> list[Row]:
    events = arrivals(ONE_IN)
    with running_redis() as url:
        old, new = (asyncio.run(simulate(url, events, cadence)) for cadence in (EVERY_EVENT, TenantSettings()))
    lost = [100 * (before - after) for before, after in zip(old.hits, new.hits, strict=True)]
    return [
        Row("events of the second day", new.events, "events"),
        Row("engine calls an event, each event due", old.calls / old.events, "calls"),
        Row("engine calls an event, due by surprise", new.calls / new.events, "calls", "≤ 0.15"),
        Row("choices predicted, each event due", 100 * statistics.mean(old.hits), "%"),
        Row("choices predicted, due by surprise", 100 * statistics.mean(new.hits), "%"),
        Row("points lost, paired", statistics.mean(lost), "points", "≤ 0.5"),
        Row("their standard error", statistics.stdev(lost) / len(lost) ** 0.5, "points"),
        Row("events the summary lacks at a choice, each event due", statistics.mean(old.behind), "events"),
        Row("events the summary lacks at a choice, due by surprise", statistics.mean(new.behind), "events"),
        Row("events the profile lacks at a choice, due by surprise", statistics.mean(new.lacking), "events", "0"),
    ]
