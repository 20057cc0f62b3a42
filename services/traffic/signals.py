"""Reads what a tenant's traffic says of items on offer to a user, in two round trips."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from alignx.schemas.items import Item
from services.storage.connection import RedisClient
from services.storage.timed_cache import TimedCache
from services.traffic.features import Traffic
from services.traffic.item_store import ItemStore
from services.traffic.items import find_contact
from services.traffic.mixture import Features, Mixture, parse_mixtures


class Signals(NamedTuple):
    """Of items on offer, in their order."""

    features: list[Features]
    """All but what the profile and the caller say."""
    mixtures: dict[str, Mixture]
    is_known: bool
    """Whether the traffic says anything of an item."""


class SignalReader:
    def __init__(self, redis: RedisClient) -> None:
        self._items = ItemStore(redis)
        self._mixtures = TimedCache(self._read_mixtures)

    async def read(self, tenant: str, journal: str, items: Sequence[Item], least_users: int) -> Signals:
        """`journal` is the key of the user's journal."""
        contacts = [find_contact(item) for item in items]
        likes = (await self._items.journal(journal)).journal.recent_likes()
        met = {key for contact in contacts if contact for key in contact}
        counts = await self._items.counts(tenant, [*met, *likes])
        neighbours = await self._items.neighbours(tenant, likes)
        traffic = Traffic(counts, neighbours, time.time() / 3600, least_users)
        near = traffic.nearness(likes)
        features = [traffic.features(contact, near) for contact in contacts]
        is_known = any(contact and traffic.find(contact.key) for contact in contacts)
        return Signals(features, await self._mixtures.read(tenant), is_known)

    async def _read_mixtures(self, tenant: str) -> dict[str, Mixture]:
        return parse_mixtures(await self._items.learned(tenant))
