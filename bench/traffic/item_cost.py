"""What the counts of items cost: memory, the worker's time for a user, and what `recommend` takes longer by.

1,000 items and their 20 categories, each item with as many neighbours as are kept; users of 60 likes. The pair of the
longer `recommend` is the profile's own scoring of the same 1,000 candidates.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from alignx.schemas.interactions import PurchaseInteraction
from alignx.schemas.items import ItemFields
from alignx.schemas.tenants import TenantSettings
from bench.harness import running_redis
from bench.page import Row
from services.profile.fold import fold
from services.profile.scoring import scores
from services.profile.statistics import EMPTY
from services.settings import RedisSettings
from services.storage.connection import open_redis
from services.storage.key_names import KeySpace, mixture_key
from services.storage.timed_cache import TimedCache
from services.traffic.item_store import ItemStore, StoredJournal
from services.traffic.items import find_contacts
from services.traffic.journal import Changes, Journal
from services.traffic.mixture import Features, Mixture
from services.traffic.signals import Signals

TENANT, USERS, LIKES, ITEMS, HOUR = "bench", 120, 60, 1_000, 480_000
CALLS = 50
LEARNED = Mixture(choices=100.0, weights=Features(1.0, 1.0, 1.0, 0.5, 0.2, 1.0, 0.1))


def measure() -> list[Row]:
    with running_redis() as url:
        return asyncio.run(_measure(url))


async def _measure(url: str) -> list[Row]:
    async def read(_: str) -> TenantSettings:
        return TenantSettings()

    async with open_redis(RedisSettings(url=url)) as client:
        redis: Any = client
        keys, rng = KeySpace(1), random.Random(1)
        items = [ItemFields(id=f"i{n}", title=f"Item {n}", category=f"c{n % 20}") for n in range(ITEMS)]
        events = [PurchaseInteraction(item=item) for item in items]
        before = int((await redis.info("memory"))["used_memory"])
        started = time.perf_counter()
        for user in range(USERS):
            await _count(ItemStore(redis), keys.user(TENANT, f"u{user}").journal, rng.sample(events, LIKES))
        seconds = (time.perf_counter() - started) / USERS
        journals = [keys.user(TENANT, f"u{user}").journal for user in range(USERS)]
        own = sum([await redis.memory_usage(key, samples=0) for key in journals])
        used = int((await redis.info("memory"))["used_memory"]) - before - own
        await redis.hset(mixture_key(TENANT), "items", LEARNED.text())
        signals = Signals(redis, keys, TimedCache(read))
        profile, values = EMPTY, [0.0] * ITEMS
        for event in events[:LIKES]:
            profile, _ = fold(profile, event)

        async def score() -> None:
            scores(profile, "", items)

        async def mix() -> None:
            await signals.mix(TENANT, "u0", items, values, is_cold=False)

        return [
            Row("Redis for an item with 64 neighbours or more", used / (ITEMS + 20), "bytes", "≤ 2 500"),
            Row(f"Redis for the journal of {LIKES} likes", own / USERS, "bytes"),
            Row(f"counting a user's {LIKES} likes", 1000 * seconds, "ms"),
            Row("recommend of 1 000 candidates: the profile's part, p50", await _time(score), "ms"),
            Row("recommend of 1 000 candidates: the traffic's part, p50", await _time(mix), "ms", "≤ 5"),
        ]


async def _count(store: ItemStore, key: str, events: list[PurchaseInteraction]) -> None:
    journal, changes = Journal(), Changes()
    for event in events:
        journal.add(find_contacts(event), HOUR, changes)
    await store.write(key, StoredJournal(journal), "1-0", changes)
    await store.settle(TENANT, key, await store.journal(key))


async def _time(call: Callable[[], Awaitable[None]]) -> float:
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - started))
    return median(times)
