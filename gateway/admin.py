"""The admin API: API keys and tenants. Every call needs an admin key.

An admin key belongs to a tenant like any other and reads and writes only that tenant's users under
/v1; here it may make, list and revoke the keys of all tenants.
"""

import logging
from collections.abc import Awaitable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from alignx.schemas.tenants import (
    TENANT_NAME,
    KeyCreated,
    KeyList,
    KeyRequest,
    TenantList,
    TenantSettings,
    TenantSettingsView,
)
from gateway.auth import AuthState, Caller
from gateway.keys import KeyStore, ask_redis
from services.server.request_bodies import JsonRoute
from services.server.state import state_of
from services.storage.tenant_settings import TenantSettingsStore


async def admin_caller(request: Request) -> Caller:
    return await state_of(request.app, AuthState).authenticator.authenticate_admin(request.scope)


async def key_store(request: Request) -> KeyStore:
    return state_of(request.app, AuthState).keys


async def settings_store(request: Request) -> TenantSettingsStore:
    return state_of(request.app, AuthState).tenant_settings


Keys = Annotated[KeyStore, Depends(key_store)]
Store = Annotated[TenantSettingsStore, Depends(settings_store)]
TenantName = Annotated[str, Path(pattern=TENANT_NAME)]
Tenant = Annotated[str | None, Query(pattern=TENANT_NAME, description="Of this tenant only")]
After = Annotated[str | None, Query(max_length=64, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1_000)]
KeyId = Annotated[str, Path(pattern=r"^[a-z0-9]{4,32}$")]

router = APIRouter(prefix="/admin", tags=["admin"], route_class=JsonRoute, dependencies=[Depends(admin_caller)])


@router.post("/keys", status_code=201, summary="Make an API key")
async def create_key(request: KeyRequest, keys: Keys) -> KeyCreated:
    """The answer holds the whole key, this once."""
    return await keys.create(request)


@router.get("/keys", summary="List API keys")
async def list_keys(keys: Keys, tenant: Tenant = None, after: After = None, limit: Limit = 100) -> KeyList:
    return await keys.keys(tenant, after, limit)


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke an API key")
async def revoke_key(key_id: KeyId, keys: Keys) -> Response:
    """From the next request on the key is refused."""
    await keys.revoke(key_id)
    return Response(status_code=204)


@router.get("/tenants", summary="List tenants")
async def list_tenants(keys: Keys, after: After = None, limit: Limit = 100) -> TenantList:
    return await keys.tenants(after, limit)


_SETTINGS = "/tenants/{tenant}/settings"


@router.get(_SETTINGS, summary="A tenant's settings")
async def read_settings(tenant: TenantName, store: Store) -> TenantSettingsView:
    view: TenantSettingsView = await ask_redis(store.view(tenant))
    return view


@router.put(_SETTINGS, summary="Set a tenant's settings")
async def replace_settings(tenant: TenantName, settings: TenantSettings, store: Store) -> TenantSettingsView:
    """Fields that are left out have the deployment's value. Every process follows within a second."""
    return await _log_change(store.replace(tenant, settings))


@router.patch(_SETTINGS, summary="Change some of a tenant's settings")
async def change_settings(tenant: TenantName, changes: dict[str, Any], store: Store) -> TenantSettingsView:
    """A JSON merge patch: null gives a field the deployment's value back."""
    return await _log_change(store.patch(tenant, changes))


async def _log_change(change: Awaitable[TenantSettingsView]) -> TenantSettingsView:
    view: TenantSettingsView = await ask_redis(change)
    fields = {"tenant": view.tenant, "overridden": list(view.overridden)}
    logging.getLogger("alignx.gateway").info("tenant settings changed", extra=fields)
    return view
