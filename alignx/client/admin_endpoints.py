"""The calls on access: API keys, user tokens, the audit log, tenants and their settings. All but `mint_token` need an
admin key."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from alignx.client.endpoints import Call, dump, get, ignore_body, parse
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


def create_key(request: KeyRequest) -> Call[KeyCreated]:
    """Makes an API key. It is not retried after a broken connection, which could make a second key."""
    return Call("POST", "/admin/keys", parse(KeyCreated), content=dump(request), repeatable=False)


def keys(*, tenant: str | None = None, after: str | None = None, limit: int | None = None) -> Call[KeyList]:
    """A page of the API keys, of one tenant or of all, without their secrets."""
    return get("/admin/keys", KeyList, tenant=tenant, after=after, limit=limit)


def rotate_key(key_id: str, *, overlap_s: int = DAY_S, expires_at: datetime | None = None) -> Call[KeyCreated]:
    """Gives an API key a new secret; the one until now opens for `overlap_s` seconds longer. It is not retried after a
    broken connection, which would lose the first new secret."""
    request = RotateRequest(overlap_s=overlap_s, expires_at=expires_at)
    return Call("POST", f"{_key_path(key_id)}/rotate", parse(KeyCreated), content=dump(request), repeatable=False)


def revoke_key(key_id: str) -> Call[None]:
    """Ends an API key and the user tokens it minted."""
    return Call("DELETE", _key_path(key_id), ignore_body)


def _key_path(key_id: str) -> str:
    return f"/admin/keys/{quote(key_id, safe='')}"


def mint_token(user: str, scopes: Sequence[Scope], *, expires_in_s: int = 600) -> Call[TokenCreated]:
    """A token for one user's browser or agent: it makes the calls of `scopes` for this user and nothing else. The
    client's key needs the scope `tokens:mint`, and each of `scopes`."""
    request = TokenRequest(user=user, scopes=tuple(scopes), expires_in_s=expires_in_s)
    return Call("POST", "/v1/tokens", parse(TokenCreated), content=dump(request))


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
