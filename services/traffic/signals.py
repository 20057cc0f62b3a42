"""What a tenant's traffic says of items on offer to a user, mixed with what the profile says of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from alignx.schemas.items import Item
from alignx.schemas.tenants import TenantSettings
from services.engine.choice.fusion import kind_of
from services.storage.connection import RedisClient
from services.storage.key_names import KeySpace
from services.storage.timed_cache import TimedCache
from services.traffic.features import Traffic, View, center_popularity, measure_nearness
from services.traffic.item_store import ItemStore
from services.traffic.items import Contact, find_contact
from services.traffic.mixture import FIXED, Features, Mixture, choose_weights, parse_mixtures

_VIEW_S: Final = 10.0
"""How long a view of an item is kept in memory."""
_MOST_VIEWS: Final = 50_000


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
        self._views: dict[str, tuple[float, dict[Contact, View]]] = {}
        """By tenant, until when they hold."""

    async def mix(self, tenant: str, user: str, items: Sequence[Item], values: list[float], *, is_cold: bool) -> Mixed:
        """`values` are the profile's log-odds with the popularity that the caller gives; `is_cold` for a user of whom
        nothing is known."""
        settings = await self._tenants.read(tenant)
        if not settings.traffic:
            return Mixed(values)
        weights = choose_weights(await self._mixtures.read(tenant), kind_of(items), is_cold=is_cold)
        if weights == FIXED:
            return Mixed(values)
        least_users = settings.traffic_least_users
        contacts = [find_contact(item) for item in items]
        likes = await self._items.likes(self._keys.user(tenant, user).journal)
        views = await self._look_up(tenant, [*contacts, *likes], least_users)
        known = [like.key for like in likes if views[like].is_known]
        by_key = {like.key: views[like] for like in likes}
        near = measure_nearness(
            [like.key for like in likes], by_key, await self._items.neighbours(tenant, known), least_users
        )
        values, is_known = list(values), False
        for index, (contact, given) in enumerate(zip(contacts, center_popularity(items), strict=True)):
            value = weights.profile * (values[index] - given) + weights.given * given
            if contact:
                view = views[contact]
                value += view.weigh(weights, near.get(contact.key, 0.0))
                is_known = is_known or view.is_known
            values[index] = value
        return Mixed(values, weights, is_known)

    async def estimate_likes(self, tenant: str, user: str, items: Sequence[Item]) -> list[float | None]:
        """The probability that the user would take each item by itself, by how often they take what they meet and how
        often others take the item; None where too few have met it."""
        settings = await self._tenants.read(tenant)
        if not settings.traffic:
            return [None] * len(items)
        contacts = [find_contact(item) for item in items]
        views = await self._look_up(tenant, contacts, settings.traffic_least_users)
        met = await self._items.met(self._keys.user(tenant, user).journal)
        return [views[one].like(*met) if one and views[one].is_known else None for one in contacts]

    async def _look_up(
        self, tenant: str, contacts: Sequence[Contact | None], least_users: int
    ) -> Mapping[Contact, View]:
        """The views of these items among those of others."""
        expires, views = self._views.get(tenant, (0.0, {}))
        if self._clock() >= expires or len(views) > _MOST_VIEWS:
            views = {}
            self._views[tenant] = self._clock() + _VIEW_S, views
        missing = {contact for contact in contacts if contact and contact not in views}
        if missing:
            counts = await self._items.counts(tenant, [key for contact in missing for key in contact])
            traffic = Traffic(counts, self._clock() / 3600, least_users)
            views |= {contact: traffic.view(contact) for contact in missing}
        return views

    async def _read_mixtures(self, tenant: str) -> dict[str, Mixture]:
        return parse_mixtures(await self._items.learned(tenant))
