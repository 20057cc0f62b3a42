"""What a tenant's traffic says of items on offer to a user, mixed with what the profile says of them."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from alignx.schemas.items import Item
from alignx.schemas.tenants import TenantSettings
from services.engine.choice.fusion import kind_of
from services.storage.connection import RedisClient
from services.storage.key_names import KeySpace
from services.storage.timed_cache import TimedCache
from services.traffic.features import Traffic, center_popularity
from services.traffic.item_store import ItemStore
from services.traffic.items import find_contact
from services.traffic.mixture import FIXED, Features, Mixture, choose_weights, parse_mixtures


class Mixed(NamedTuple):
    """Log-odds of items by all features."""

    values: list[float]
    weights: Features = FIXED
    is_known: bool = False
    """Whether the traffic says anything of an item."""


class Signals:
    """Reads of the traffic. One object a process."""

    def __init__(
        self,
        redis: RedisClient,
        keys: KeySpace,
        tenants: TimedCache[TenantSettings],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._items = ItemStore(redis)
        self._keys = keys
        self._tenants = tenants
        self._mixtures = TimedCache(self._read_mixtures)

    async def mix(self, tenant: str, user: str, items: Sequence[Item], values: list[float], *, is_cold: bool) -> Mixed:
        """`values` are the profile's log-odds with the popularity that the caller gives; `is_cold` for a user of whom
        nothing is known."""
        settings = await self._tenants.read(tenant)
        if not settings.traffic:
            return Mixed(values)
        weights = choose_weights(await self._mixtures.read(tenant), kind_of(items), is_cold=is_cold)
        if weights == FIXED:
            return Mixed(values)
        features, is_known = await self._read(tenant, user, items, settings.traffic_least_users)
        given = center_popularity(items)
        rows = zip(values, given, features, strict=True)
        mixed = [row._replace(profile=value - own, given=own).weigh(weights) for value, own, row in rows]
        return Mixed(mixed, weights, is_known)

    async def _read(
        self, tenant: str, user: str, items: Sequence[Item], least_users: int
    ) -> tuple[list[Features], bool]:
        contacts = [find_contact(item) for item in items]
        likes = (await self._items.journal(self._keys.user(tenant, user).journal)).journal.recent_likes()
        met = {key for contact in contacts if contact for key in contact}
        counts = await self._items.counts(tenant, [*met, *likes])
        neighbours = await self._items.neighbours(tenant, [like for like in likes if like in counts])
        traffic = Traffic(counts, neighbours, self._clock() / 3600, least_users)
        near = traffic.nearness(likes)
        features = [traffic.features(contact, near) for contact in contacts]
        return features, any(contact and traffic.find(contact.key) for contact in contacts)

    async def _read_mixtures(self, tenant: str) -> dict[str, Mixture]:
        return parse_mixtures(await self._items.learned(tenant))
