"""Users' events on the tests' Redis, and the consumer that counts their items."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
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


def item(number: int, **fields: Any) -> ItemFields:
    return ItemFields(id=f"i{number}", title=f"Item {number}", **fields)


def bought(*numbers: int) -> list[Interaction]:
    return [PurchaseInteraction(item=item(number)) for number in numbers]


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
async def shop(url: str, **settings: Any) -> AsyncIterator[Shop]:
    """`settings` are the tenants'."""

    async def read(_: str) -> TenantSettings:
        return TenantSettings(**settings)

    async with opened(url, shards=3) as rig:
        tenants, registry = TimedCache(read), CollectorRegistry()
        ingest = Ingest(rig.store, rig.queue, LimitSettings(), IngestMetrics(registry), tenants, has_engine=False)
        consumer = Consumer(rig.redis, rig.store.keys, tenants, TrafficMetrics(registry))
        yield Shop(rig, ingest, consumer, registry)
