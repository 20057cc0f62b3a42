"""Changes of a webhook endpoint that meet one another: none undoes another, and none brings a deleted one back."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from alignx.schemas.webhooks import WebhookChange, WebhookRequest
from services.errors import WebhookUnknown
from services.preference.webhooks.endpoint_store import Endpoint, EndpointStore
from services.preference.webhooks.signing import WebhookSecrets
from services.settings import RedisSettings
from services.storage.connection import open_redis
from services.storage.key_names import webhooks_key

pytestmark = pytest.mark.anyio
SECRETS = WebhookSecrets("internal-token-of-the-tests")
OLD, NEW = "https://shop.example/old", "https://shop.example/new"


class Overtaken(EndpointStore):
    """Another call comes in between the read and the write of the next change."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def read(self, tenant: str, endpoint: str) -> Endpoint:
        found = await super().read(tenant, endpoint)
        if meanwhile := self.meanwhile:
            self.meanwhile = None
            await meanwhile()
        return found


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Overtaken]:
    async with open_redis(RedisSettings(url=redis_url)) as redis:
        yield Overtaken(redis)


async def register(store: EndpointStore) -> str:
    return (await store.create("acme", WebhookRequest(url=OLD), SECRETS))[0].id


async def test_a_change_keeps_the_secret_of_a_rotation_meanwhile(store: Overtaken) -> None:
    endpoint = await register(store)
    store.meanwhile = lambda: store.rotate("acme", endpoint, 60, SECRETS)
    assert (await store.change("acme", endpoint, WebhookChange(url=NEW))).url == NEW
    stored = await store.read("acme", endpoint)
    assert (stored.webhook.url, stored.generations()) == (NEW, [1, 0])
    assert stored.fingerprint == SECRETS.fingerprint("acme", endpoint, 1)


async def test_a_rotation_keeps_a_change_and_a_rotation_meanwhile(store: Overtaken) -> None:
    endpoint = await register(store)
    for meanwhile in (
        lambda: store.change("acme", endpoint, WebhookChange(url=NEW, enabled=False)),
        lambda: store.rotate("acme", endpoint, 0, SECRETS),
    ):
        store.meanwhile = meanwhile
        rotated, _ = await store.rotate("acme", endpoint, 0, SECRETS)
        assert rotated.url == NEW
    assert (await store.read("acme", endpoint)).generation == 3


@pytest.mark.parametrize("enabled", [None, True, False])
async def test_a_change_brings_no_deleted_endpoint_back(store: Overtaken, enabled: bool | None) -> None:
    endpoint = await register(store)
    store.meanwhile = lambda: store.delete("acme", endpoint)
    with pytest.raises(WebhookUnknown):
        await store.change("acme", endpoint, WebhookChange(url=NEW, enabled=enabled))
    store.meanwhile = None
    with pytest.raises(WebhookUnknown):
        await store.rotate("acme", endpoint, 0, SECRETS)
    assert not await store._redis.exists(webhooks_key("acme"))
