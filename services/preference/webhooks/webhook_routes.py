"""The REST calls on webhooks: for API keys alone, never for user tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request

from alignx.schemas.webhooks import (
    Webhook,
    WebhookChange,
    WebhookCreated,
    WebhookDeliveries,
    WebhookList,
    WebhookQueued,
    WebhookRequest,
    WebhookRotation,
)
from services.preference.routes import PreferenceState, Tenant
from services.preference.webhooks.webhook_service import WebhookService
from services.server.request_bodies import JsonRoute
from services.server.state import state_of


async def webhook_service(request: Request) -> WebhookService:
    return state_of(request.app, PreferenceState).webhooks


def _example(name: str, value: dict[str, Any]) -> Any:
    return Body(openapi_examples={"example": {"summary": name, "value": value}})


Service = Annotated[WebhookService, Depends(webhook_service)]
Id = Annotated[str, Path(pattern=r"^wh_[0-9a-f]{16}$", description="The endpoint's id.")]
DeliveryId = Annotated[str, Path(pattern=r"^msg_[0-9a-f]{32}$", description="The header `webhook-id`.")]
New = Annotated[
    WebhookRequest,
    _example(
        "New versions and erasures",
        {"url": "https://shop.example/alignx", "events": ["preferences.version", "user.erased"]},
    ),
]
Change = Annotated[WebhookChange, _example("After a long failure", {"enabled": True})]
Rotation = Annotated[WebhookRotation | None, _example("With an hour to change over", {"overlap_s": 3600})]

router = APIRouter(prefix="/v1/webhooks", route_class=JsonRoute, tags=["webhooks"])


@router.get("", operation_id="webhooks", summary="List webhook endpoints")
async def list_webhooks(tenant: Tenant, service: Service) -> WebhookList:
    """The tenant's endpoints in the order in which they were made, without their secrets."""
    return WebhookList(webhooks=await service.endpoints.all(tenant))


@router.post("", status_code=201, operation_id="create_webhook", summary="Register a webhook endpoint")
async def create_webhook(tenant: Tenant, body: New, service: Service) -> WebhookCreated:
    """From within a second on, events are sent to its URL, at least once each and in no fixed order, signed as
    Standard Webhooks. The answer holds the secret, this once."""
    return await service.create(tenant, body)


@router.patch("/{webhook}", operation_id="change_webhook", summary="Change, stop or start a webhook endpoint")
async def change_webhook(tenant: Tenant, webhook: Id, body: Change, service: Service) -> Webhook:
    """While an endpoint is disabled no event is kept for it; those that waited before are sent once it is enabled."""
    return await service.change(tenant, webhook, body)


@router.delete("/{webhook}", status_code=204, operation_id="delete_webhook", summary="Delete a webhook endpoint")
async def delete_webhook(tenant: Tenant, webhook: Id, service: Service) -> None:
    """What waits for it is dropped."""
    await service.delete(tenant, webhook)


@router.post("/{webhook}/rotate", operation_id="rotate_webhook", summary="Give a webhook endpoint a new secret")
async def rotate_webhook(tenant: Tenant, webhook: Id, service: Service, body: Rotation = None) -> WebhookCreated:
    """The answer holds the new secret, this once. For `overlap_s` seconds each request has two signatures, so that
    either secret verifies it."""
    return await service.rotate(tenant, webhook, body or WebhookRotation())


@router.post("/{webhook}/test", status_code=202, operation_id="test_webhook", summary="Send a test event")
async def test_webhook(tenant: Tenant, webhook: Id, service: Service) -> WebhookQueued:
    """Sends an event of the type `webhook.test`; its delivery tells what became of it."""
    return WebhookQueued(id=await service.test(tenant, webhook))


@router.get("/{webhook}/deliveries", operation_id="webhook_deliveries", summary="List recent deliveries, newest first")
async def list_deliveries(
    tenant: Tenant,
    webhook: Id,
    service: Service,
    limit: Annotated[int, Query(ge=1, le=100, description="Deliveries at most.")] = 20,
) -> WebhookDeliveries:
    """What waits for the endpoint, what it took, and what failed for good."""
    return WebhookDeliveries(deliveries=await service.deliveries(tenant, webhook, limit))


@router.post(
    "/{webhook}/deliveries/{delivery}/replay",
    status_code=202,
    operation_id="replay_webhook",
    summary="Send a recent event again",
)
async def replay_webhook(tenant: Tenant, webhook: Id, delivery: DeliveryId, service: Service) -> WebhookQueued:
    """Under the same `webhook-id`, whether it was delivered or failed. What was deleted with its user is unknown."""
    return WebhookQueued(id=await service.replay(tenant, webhook, delivery))
