"""Users' events on the tests' Redis, and the consumer that counts their items.

python -m tests.unit.services.traffic.counting REDIS_URL        counts until it is killed
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from alignx.schemas.interactions import Interaction, PurchaseInteraction
from alignx.schemas.items import ItemFields
from alignx.schemas.tenants import TenantSettings
from services.preference.ingest import Ingest
from services.preference.updates.update_metrics import IngestMetrics
from services.settings import LimitSettings
from services.storage.timed_cache import TimedCache
from services.traffic.consumer import Consumer, TrafficMetrics
from services.traffic.counts import Counts
from services.traffic.items import item_key
from tests.unit.services.preference.rig import TENANT, Rig, opened

NOW = datetime.now(UTC)
"""When all is bought: what is counted twice to be compared is counted of one hour."""


def item(number: int, **fields: Any) -> ItemFields:
    return ItemFields(id=f"i{number}", title=f"Item {number}", **fields)


def bought(*numbers: int) -> list[Interaction]:
    return [PurchaseInteraction(item=item(number), occurred_at=NOW) for number in numbers]


@dataclass(frozen=True)
class Shop:
    rig: Rig
    ingest: Ingest
    consumer: Consumer
    registry: CollectorRegistry

    async def send(self, user: str, events: Sequence[Interaction], tenant: str = TENANT) -> None:
        await self.ingest.append(tenant, user, events)

    async def count(self) -> None:
        """Reads all that is unread, as if every lease had run out."""
        while await self._make_due():
            await self.consumer.read_all()

    async def _make_due(self) -> int:
        marks = 0
        for shard in range(self.rig.store.keys.shards):
            unread = self.rig.store.keys.shard_prefix(shard) + "unread"
            for member in await self.rig.redis.zrange(unread, 0, -1):
                marks += 1
                await self.rig.redis.zadd(unread, {member: 1})
        return marks

    async def counts(self, number: int, tenant: str = TENANT) -> Counts | None:
        key = item_key(item(number))
        assert key is not None
        return (await self.consumer.items.counts(tenant, [key])).get(key)

    async def together(self, first: int, second: int, tenant: str = TENANT) -> int:
        """Users who liked both."""
        one, other = item_key(item(first)), item_key(item(second))
        assert one is not None
        assert other is not None
        return int((await self.consumer.items.neighbours(tenant, [one]))[one].get(other, 0))

    async def journals(self) -> list[str]:
        return [key async for key in self.rig.redis.scan_iter("pi:*:items")]

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0

    async def dump(self) -> dict[str, Any]:
        """All that is counted of items, of all tenants."""
        redis, dump = self.rig.redis, dict[str, Any]()
        async for key in redis.scan_iter("pi:i:*"):
            if key.endswith("applied"):
                assert float("inf") not in dict(await redis.zrange(key, 0, -1, withscores=True)).values()
            else:
                dump[key] = await redis.hgetall(key)
        return dump


@asynccontextmanager
async def shop(url: str, *, expires_s: float = 20, **settings: Any) -> AsyncIterator[Shop]:
    """`settings` are the tenants'."""

    async def read(_: str) -> TenantSettings:
        return TenantSettings(**settings)

    async with opened(url, shards=3, expires_s=expires_s) as rig:
        tenants, registry = TimedCache(read), CollectorRegistry()
        ingest = Ingest(rig.store, rig.queue, LimitSettings(), IngestMetrics(registry), tenants, has_engine=False)
        consumer = Consumer(rig.redis, rig.store.keys, tenants, TrafficMetrics(registry))
        yield Shop(rig, ingest, consumer, registry)


async def count_until_killed(url: str) -> None:
    async with shop(url, expires_s=3_600) as here:
        while True:
            await here.count()


if __name__ == "__main__":
    asyncio.run(count_until_killed(sys.argv[1]))
