"""The calls that need an admin key: API keys, tenants and their settings."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from alignx.client.endpoints import Call, dump, get, ignore_body, parse
from alignx.schemas.tenants import KeyCreated, KeyList, KeyRequest, TenantList, TenantSettings, TenantSettingsView


def create_key(request: KeyRequest) -> Call[KeyCreated]:
    """Makes an API key. It is not retried after a broken connection, which could make a second key."""
    return Call("POST", "/admin/keys", parse(KeyCreated), content=dump(request), repeatable=False)


def keys(*, tenant: str | None = None, after: str | None = None, limit: int | None = None) -> Call[KeyList]:
    """A page of the API keys, of one tenant or of all, without their secrets."""
    return get("/admin/keys", KeyList, tenant=tenant, after=after, limit=limit)


def revoke_key(key_id: str) -> Call[None]:
    """Ends an API key."""
    return Call("DELETE", f"/admin/keys/{quote(key_id, safe='')}", ignore_body)


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
