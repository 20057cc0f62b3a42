"""What other users' choices add to the profile: public data replayed in the order of time, through Redis.

    .venv-training/bin/python -m bench.traffic.replay ../shared/data [movielens games mind]

It starts the `redis-server` of the path. Every event goes through the append, the consumer and its scripts as in
serving; a target is scored as `select` scores it, before anything of its own time is known, by the weights that the
stream has taught until then. "Before" is the profile alone. Halves are of users; features were chosen on the
development half.
"""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from alignx.schemas.items import Item
from alignx.schemas.tenants import TenantSettings
from bench.harness import running_redis
from bench.traffic.streams import STREAMS, Event, Target
from evaluation.cases.cases import fold_events
from evaluation.cases.halves import Half, assign_half
from evaluation.scoring.intervals import estimate
from services.preference.ingest import Ingest
from services.preference.queue import Queue
from services.preference.updates.update_metrics import IngestMetrics
from services.profile.scoring import scores
from services.settings import LimitSettings, QueueSettings, RedisSettings, SummarySettings
from services.storage.connection import RedisClient, open_redis
from services.storage.timed_cache import TimedCache
from services.storage.users import Store
from services.traffic.consumer import Consumer, TrafficMetrics
from services.traffic.mixture import Mixture, hit
from services.traffic.signals import Signals

TENANT = "replay"
MOST = 1_000
"""Events of one append."""


class Replay:
    def __init__(self, redis: RedisClient) -> None:
        queue = QueueSettings(shards=1, user_backlog=1_000_000)
        self.store = Store(redis, queue.shards)
        tenants = TimedCache(self._settings)
        metrics = IngestMetrics(CollectorRegistry())
        self.ingest = Ingest(
            self.store, Queue(redis, queue, SummarySettings()), LimitSettings(), metrics, tenants, has_engine=False
        )
        self.consumer = Consumer(redis, self.store.keys, tenants, TrafficMetrics(CollectorRegistry()))
        self.tenants = tenants
        self.hits: dict[tuple[str, Half], list[tuple[str, float, float]]] = defaultdict(list)
        """User, before and after, by negatives and half."""
        self._run: list[Event] = []

    @staticmethod
    async def _settings(_: str) -> TenantSettings:
        return TenantSettings()

    async def play(self, steps: Iterable[Target | Event]) -> None:
        for step in steps:
            if isinstance(step, Event):
                if self._run and (self._run[0].user != step.user or len(self._run) == MOST):
                    await self._send()
                self._run.append(step)
            else:
                await self._send()
                await self._foresee(step)
        await self._send()

    async def _send(self) -> None:
        run, self._run = self._run, []
        if run:
            events = [
                step.interaction.model_copy(update={"occurred_at": datetime.fromtimestamp(step.time, UTC)})
                for step in run
            ]
            await self.ingest.append(TENANT, run[0].user, events)
            await self.consumer.read_all()

    async def _foresee(self, step: Target) -> None:
        target = step.row.target
        assert target
        items: Sequence[Item] = (target.chosen, target.rejected)
        before = scores(fold_events(step.row.history), target.query, items)
        signals = Signals(
            self.store.redis, self.store.keys, self.tenants, lambda: step.time
        )  # keeps nothing of earlier
        after = (await signals.mix(TENANT, step.user, items, list(before), is_cold=False)).values
        half = assign_half(step.row.benchmark, step.user)
        self.hits[step.negatives, half].append((step.user, hit(before[0] - before[1]), hit(after[0] - after[1])))

    def rows(self, name: str) -> Iterable[str]:
        for (negatives, half), hits in sorted(self.hits.items()):
            users, before, after = zip(*hits, strict=True)
            first, second = estimate(before, clusters=users), estimate(after, clusters=users)
            gain = estimate([one - other for one, other in zip(after, before, strict=True)], clusters=users)
            yield (
                f"| {name} {negatives} | {half} | {len(hits)} | "
                f"{100 * first.mean:.1f} | {100 * second.mean:.1f} [{100 * second.low:.1f}, {100 * second.high:.1f}] | "
                f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] |"
            )


async def replay(data: Path, name: str) -> None:
    with running_redis() as url:
        async with open_redis(RedisSettings(url=url)) as redis:
            started, read, folder = time.perf_counter(), *STREAMS[name]
            run = Replay(redis)
            await run.play(read(data / folder))
            for row in run.rows(name):
                print(row, flush=True)
            learned = await run.consumer.items.learned(TENANT)
            for kind, text in learned.items():
                mixture = Mixture.parse(text)
                weights = {feature: round(weight, 2) for feature, weight in mixture.weights._asdict().items()}
                print(f"  {kind}: gain {mixture.gain:.1f}, {weights}")
            print(f"  {time.perf_counter() - started:.0f} s")


def main() -> None:
    data, *names = sys.argv[1:]
    print("| rows | half | n | before | after | gain |\n|---|---|---|---|---|---|")
    for name in names or STREAMS:
        asyncio.run(replay(Path(data), name))


if __name__ == "__main__":
    main()
