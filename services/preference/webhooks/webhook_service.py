"""What the calls on webhooks do: register, change, rotate, test, list deliveries, replay one."""

from datetime import UTC, datetime

from alignx.schemas.webhooks import (
    Webhook,
    WebhookChange,
    WebhookCreated,
    WebhookData,
    WebhookDelivery,
    WebhookEvent,
    WebhookRequest,
    WebhookRotation,
)
from services.preference.webhooks.deliveries import Deliveries
from services.preference.webhooks.endpoint_store import EndpointStore
from services.preference.webhooks.signing import WebhookSecrets


class WebhookService:
    """Every method that takes an endpoint raises WebhookUnknown."""

    def __init__(self, endpoints: EndpointStore, deliveries: Deliveries, secrets: WebhookSecrets) -> None:
        self.endpoints = endpoints
        self._deliveries = deliveries
        self._secrets = secrets

    async def create(self, tenant: str, request: WebhookRequest) -> WebhookCreated:
        """Raises InvalidRequest."""
        webhook, secret = await self.endpoints.create(tenant, request, self._secrets)
        return WebhookCreated(**webhook.model_dump(), secret=secret)

    async def change(self, tenant: str, endpoint: str, change: WebhookChange) -> Webhook:
        """Raises InvalidRequest too."""
        webhook = await self.endpoints.change(tenant, endpoint, change)
        if change.enabled:
            await self._deliveries.wake(tenant, endpoint)
        return webhook

    async def rotate(self, tenant: str, endpoint: str, rotation: WebhookRotation) -> WebhookCreated:
        webhook, secret = await self.endpoints.rotate(tenant, endpoint, rotation.overlap_s, self._secrets)
        return WebhookCreated(**webhook.model_dump(), secret=secret)

    async def delete(self, tenant: str, endpoint: str) -> None:
        """What waits for it is dropped; what a writer adds within the next second, the worker drops."""
        await self.endpoints.delete(tenant, endpoint)
        for shard in range(self._deliveries.keys.shards):
            await self._deliveries.drop(self._deliveries.keys.outbox(shard, tenant, endpoint))

    async def test(self, tenant: str, endpoint: str) -> str:
        """Sends an event without a user; the delivery's id."""
        await self.endpoints.read(tenant, endpoint)
        event = WebhookEvent(type="webhook.test", timestamp=datetime.now(UTC), data=WebhookData())
        return await self._deliveries.add(tenant, endpoint, event)

    async def deliveries(self, tenant: str, endpoint: str, limit: int) -> tuple[WebhookDelivery, ...]:
        await self.endpoints.read(tenant, endpoint)
        return tuple(await self._deliveries.recent(tenant, endpoint, limit))

    async def replay(self, tenant: str, endpoint: str, delivery: str) -> str:
        await self.endpoints.read(tenant, endpoint)
        await self._deliveries.replay(tenant, endpoint, delivery)
        return delivery
