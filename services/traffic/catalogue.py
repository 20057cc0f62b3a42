"""A tenant's catalogue: items by their ids, so that candidates can be named by id alone."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from alignx.schemas.items import CatalogueItem, Item, ItemFields, ItemReference
from services.errors import InvalidRequest, PayloadTooLarge
from services.storage.connection import RedisClient
from services.storage.key_names import item_keys
from services.storage.timed_cache import TimedCache
from services.traffic.item_store import read_buckets
from services.traffic.items import BUCKETS, bucket_of, id_key

MAX_CATALOGUE: Final = 100_000
"""Items of a tenant's catalogue."""
_NAMED: Final = 20
"""Unknown ids that a problem lists."""


class Catalogue:
    """Reads and writes. Raises the errors of Redis."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._sizes = TimedCache(self.size)

    async def size(self, tenant: str) -> int:
        pipe = self._redis.pipeline(transaction=False)
        for bucket in range(BUCKETS):
            pipe.hlen(catalogue_key(tenant, bucket))
        return sum(await pipe.execute())

    async def put(self, tenant: str, items: Sequence[CatalogueItem]) -> int:
        """Stores items, over those of the same ids; returns the catalogue's size. Raises PayloadTooLarge where it
        would be too large."""
        by_bucket: dict[int, dict[str, str]] = {}
        for item in items:
            key = id_key(item.id)
            by_bucket.setdefault(bucket_of(key), {})[key] = item.model_dump_json(exclude_none=True)
        keys = {key for own in by_bucket.values() for key in own}
        new = len(keys) - len(await read_buckets(self._redis, partial(catalogue_key, tenant), keys))
        size = await self.size(tenant)
        if new and size + new > MAX_CATALOGUE:
            raise PayloadTooLarge(
                f"items: the catalogue holds {size} items, and {new} of these are new; the limit is {MAX_CATALOGUE}.",
                errors=[{"field": "items", "message": f"at most {MAX_CATALOGUE} in all"}],
                limit=MAX_CATALOGUE,
            )
        pipe = self._redis.pipeline(transaction=False)
        for bucket, own in by_bucket.items():
            pipe.hset(catalogue_key(tenant, bucket), mapping=own)
        await pipe.execute()
        return size + new

    async def resolve(self, tenant: str, items: Sequence[Item | ItemReference], field: str) -> list[Item]:
        """The items, those named by id from the catalogue. A text is an id where any of the texts is one. Raises
        InvalidRequest, which names the unknown ids by their place in `field`."""
        ids = {index: item.id for index, item in enumerate(items) if isinstance(item, ItemReference)}
        texts = {index: item for index, item in enumerate(items) if isinstance(item, str)}
        if not ids and not (texts and await self._sizes.read(tenant)):
            return [item for item in items if not isinstance(item, ItemReference)]
        found = await self._find(tenant, ids | texts)
        if found.keys() & texts.keys():
            ids |= texts
        unknown = [index for index in sorted(ids) if index not in found]
        if unknown:
            message = "no item of this id is in the catalogue"
            errors = [{"field": f"{field}.{index}", "message": message} for index in unknown[:_NAMED]]
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise InvalidRequest(f"{field}.{unknown[0]}: {message}{more}", errors=errors)
        named = [found.get(index, item) for index, item in enumerate(items)]
        return [item for item in named if not isinstance(item, ItemReference)]  # all are found

    async def _find(self, tenant: str, ids: dict[int, str]) -> dict[int, ItemFields]:
        keys = {index: id_key(item_id) for index, item_id in ids.items()}
        found = await read_buckets(self._redis, partial(catalogue_key, tenant), keys.values())
        return {index: ItemFields.model_validate_json(found[key]) for index, key in keys.items() if key in found}


def catalogue_key(tenant: str, bucket: int) -> str:
    return item_keys(tenant, bucket) + "catalogue"
