"""The counts come back from the histories of a backup; catalogue and weights from its records."""

import io

import pytest

from alignx.schemas.items import CatalogueItem
from services.admin.backup import write_backup
from services.admin.restore import Restore, Selection
from services.storage.key_names import mixture_key
from services.traffic.catalogue import Catalogue
from services.traffic.mixture import Mixture
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.traffic.counting import bought, shop

pytestmark = pytest.mark.anyio


def ignore(*_: object) -> None:
    return None


@pytest.mark.parametrize("is_empty", [True, False])
async def test_counts_weights_and_catalogue_come_back(redis_url: str, *, is_empty: bool) -> None:
    file = io.BytesIO()
    async with shop(redis_url) as here:
        redis, keys = here.rig.redis, here.rig.store.keys
        for user in range(4):
            await here.send(f"u{user}", bought(1, 2, user + 10))
        await Catalogue(redis).put(TENANT, [CatalogueItem(id="i1", title="Item 1"), CatalogueItem(id="i2", title="b")])
        await here.count()
        learned = Mixture(choices=50.0).text()
        await redis.hset(mixture_key(TENANT), "items", learned)
        before = await here.dump()
        await write_backup(redis, keys, file, tenant=None, progress=ignore)
        if is_empty:
            await redis.flushall()
        else:
            await here.send("u0", bought(77))
            await here.send("u9", bought(1))
            await here.count()
            await here.rig.queue.forget(TENANT, "u9")
        await Restore(redis, keys, Selection()).run(file, "refuse" if is_empty else "replace", ignore)
        await here.count()
        assert await here.dump() == before
        assert await here.consumer.items.learned(TENANT) == {"items": learned}  # old events teach nothing again
        assert [item.id for item in await Catalogue(redis).resolve(TENANT, ["i2"], "items")] == ["i2"]  # type: ignore[union-attr]
