"""The calls on access: API keys, user tokens, the audit log, tenants and their settings; and on webhooks. All but
`mint_token` and those on webhooks need an admin key."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from alignx.client.endpoints import Call, dump, get, ignore_body, parse, post
from alignx.schemas.tenants import (
    DAY_S,
    AuditPage,
    KeyCreated,
    KeyList,
    KeyRequest,
    RotateRequest,
    Scope,
    TenantList,
    TenantSettings,
    TenantSettingsView,
    TokenCreated,
    TokenRequest,
)
from alignx.schemas.webhooks import (
    EVENT_TYPES,
    EventType,
    Webhook,
    WebhookChange,
    WebhookCreated,
    WebhookDeliveries,
    WebhookList,
    WebhookQueued,
    WebhookRequest,
    WebhookRotation,
)


def create_key(request: KeyRequest) -> Call[KeyCreated]:
    """Makes an API key. It is not retried after a broken connection, which could make a second key."""
    return post("/admin/keys", KeyCreated, request, repeatable=False)


def keys(*, tenant: str | None = None, after: str | None = None, limit: int | None = None) -> Call[KeyList]:
    """A page of the API keys, of one tenant or of all, without their secrets."""
    return get("/admin/keys", KeyList, tenant=tenant, after=after, limit=limit)


def rotate_key(key_id: str, *, overlap_s: int = DAY_S, expires_at: datetime | None = None) -> Call[KeyCreated]:
    """Gives an API key a new secret; the one until now opens for `overlap_s` seconds longer. It is not retried after a
    broken connection, which would lose the first new secret."""
    request = RotateRequest(overlap_s=overlap_s, expires_at=expires_at)
    return post(f"{_key_path(key_id)}/rotate", KeyCreated, request, repeatable=False)


def revoke_key(key_id: str) -> Call[None]:
    """Ends an API key and the user tokens it minted."""
    return Call("DELETE", _key_path(key_id), ignore_body)


def _key_path(key_id: str) -> str:
    return f"/admin/keys/{quote(key_id, safe='')}"


def mint_token(user: str, scopes: Sequence[Scope], *, expires_in_s: int = 600) -> Call[TokenCreated]:
    """A token for one user's browser or agent: it makes the calls of `scopes` for this user and nothing else. The
    client's key needs the scope `tokens:mint`, and each of `scopes`."""
    request = TokenRequest(user=user, scopes=tuple(scopes), expires_in_s=expires_in_s)
    return post("/v1/tokens", TokenCreated, request)


def audit(
    *, tenant: str | None = None, user: str | None = None, before: str | None = None, limit: int | None = None
) -> Call[AuditPage]:
    """A page of a tenant's audit log, newest first: all of it, or the exports and erasures of one user."""
    return get("/v1/audit", AuditPage, tenant=tenant, user=user, before=before, limit=limit)


def tenant_settings(tenant: str) -> Call[TenantSettingsView]:
    """The settings that hold for a tenant."""
    return get(_settings_path(tenant), TenantSettingsView)


def replace_tenant_settings(tenant: str, settings: TenantSettings) -> Call[TenantSettingsView]:
    """Sets the fields that `settings` was made of; all others get the deployment's values back."""
    content = settings.model_dump_json(exclude_unset=True).encode()
    return Call("PUT", _settings_path(tenant), parse(TenantSettingsView), content=content)


def change_tenant_settings(tenant: str, changes: Mapping[str, Any]) -> Call[TenantSettingsView]:
    """Sets the fields of `changes`; None gives a field the deployment's value back."""
    return Call("PATCH", _settings_path(tenant), parse(TenantSettingsView), content=to_json(dict(changes)))


def _settings_path(tenant: str) -> str:
    return f"/admin/tenants/{quote(tenant, safe='')}/settings"


def tenants(*, after: str | None = None, limit: int | None = None) -> Call[TenantList]:
    """A page of the tenants that have keys."""
    return get("/admin/tenants", TenantList, after=after, limit=limit)


def create_webhook(url: str, *, events: Sequence[EventType] = EVENT_TYPES) -> Call[WebhookCreated]:
    """Registers an endpoint of the key's tenant; its secret goes to `verify_webhook`. It is not retried after a broken
    connection, which could register a second one."""
    return post("/v1/webhooks", WebhookCreated, WebhookRequest(url=url, events=tuple(events)), repeatable=False)


def webhooks() -> Call[WebhookList]:
    """The endpoints of the key's tenant, without their secrets."""
    return get("/v1/webhooks", WebhookList)


def change_webhook(webhook: str, change: WebhookChange) -> Call[Webhook]:
    """Changes an endpoint, stops it, or starts it again."""
    return Call("PATCH", _webhook_path(webhook), parse(Webhook), content=dump(change))


def delete_webhook(webhook: str) -> Call[None]:
    """Ends an endpoint and drops what waits for it."""
    return Call("DELETE", _webhook_path(webhook), ignore_body)


def rotate_webhook(webhook: str, *, overlap_s: int = DAY_S) -> Call[WebhookCreated]:
    """Gives an endpoint a new secret; the one until now signs too for `overlap_s` seconds. It is not retried after a
    broken connection, which would lose the first new secret."""
    body = WebhookRotation(overlap_s=overlap_s)
    return post(f"{_webhook_path(webhook)}/rotate", WebhookCreated, body, repeatable=False)


def test_webhook(webhook: str) -> Call[WebhookQueued]:
    """Sends an event of the type `webhook.test`."""
    return post(f"{_webhook_path(webhook)}/test", WebhookQueued)


def webhook_deliveries(webhook: str, *, limit: int | None = None) -> Call[WebhookDeliveries]:
    """What waits for an endpoint and what became of the rest, newest first."""
    return get(f"{_webhook_path(webhook)}/deliveries", WebhookDeliveries, limit=limit)


def replay_webhook(webhook: str, delivery: str) -> Call[WebhookQueued]:
    """Sends a recent event again."""
    return post(f"{_webhook_path(webhook)}/deliveries/{quote(delivery, safe='')}/replay", WebhookQueued)


def _webhook_path(webhook: str) -> str:
    return f"/v1/webhooks/{quote(webhook, safe='')}"
