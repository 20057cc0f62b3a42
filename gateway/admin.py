"""The gateway's own calls: API keys, user tokens, tenants and the audit log.

An admin key belongs to a tenant like any other and reads and writes only that tenant's users under /v1; under /admin
it may make, list, rotate and revoke the keys of all tenants. Which scope a call needs stands in routing.py.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from alignx.schemas.items import UserId
from alignx.schemas.tenants import (
    TENANT_NAME,
    AuditPage,
    KeyCreated,
    KeyList,
    KeyRequest,
    RotateRequest,
    TenantList,
    TenantSettings,
    TenantSettingsView,
    TokenCreated,
    TokenRequest,
)
from gateway.auth import AuthState, Caller
from gateway.keys import ask_redis
from gateway.routing import USER_SCOPES, needed_scope
from gateway.user_tokens import UserClaims
from services.errors import Forbidden, InvalidRequest
from services.server.request_bodies import JsonRequest, JsonRoute, late_body
from services.server.state import Process, state_of


async def auth_state(request: Request) -> AuthState:
    return state_of(request.app, AuthState)


class TimelyRequest(JsonRequest):
    """Its body arrives in time. Reading it raises RequestError otherwise."""

    async def body(self) -> bytes:
        timeout_s = state_of(self.app, Process).settings.gateway.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await super().body()
        except TimeoutError as error:
            raise late_body(timeout_s) from error


class KeyRoute(JsonRoute):
    """Route class of calls with an API key that has the scope which the call needs: who calls is known before the body
    is read, which FastAPI does before it asks a dependency."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_caller(request: Request) -> Response:
            needed = needed_scope(request.scope["route"].path, request.method)
            authenticator = state_of(request.app, AuthState).authenticator
            request.state.caller = await authenticator.authenticate_key(request.scope, needed)
            return await handle(request)

        return with_caller

    def open_request(self, request: Request) -> JsonRequest:
        return TimelyRequest(request.scope, request.receive)


async def key_caller(request: Request) -> Caller:
    """The caller of a `KeyRoute`."""
    caller: Caller = request.state.caller
    return caller


State = Annotated[AuthState, Depends(auth_state)]
KeyCaller = Annotated[Caller, Depends(key_caller)]
TenantName = Annotated[str, Path(pattern=TENANT_NAME)]
Tenant = Annotated[str | None, Query(pattern=TENANT_NAME, description="Of this tenant only")]
After = Annotated[str | None, Query(max_length=64, description="`next` of the page before")]
Before = Annotated[
    str | None, Query(pattern=r"^[1-9][0-9]{0,18}-[0-9]{1,19}$", description="`next` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=1_000)]
KeyId = Annotated[str, Path(pattern=r"^[a-z0-9]{4,32}$")]

router = APIRouter(prefix="/admin", tags=["admin"], route_class=KeyRoute)
v1_router = APIRouter(prefix="/v1", route_class=KeyRoute)


# --- API keys ----------------------------------------------------------------------------------


@router.post("/keys", status_code=201, summary="Make an API key")
async def create_key(request: KeyRequest, state: State, caller: KeyCaller) -> KeyCreated:
    """The answer holds the whole key, this once."""
    created = await state.keys.create(request)
    await state.log_call(created.tenant, caller.key_id, "key.created", created.id)
    return created


@router.get("/keys", operation_id="keys", summary="List API keys")
async def list_keys(state: State, tenant: Tenant = None, after: After = None, limit: Limit = 100) -> KeyList:
    return await state.keys.keys(tenant, after, limit)


@router.post("/keys/{key_id}/rotate", summary="Give an API key a new secret")
async def rotate_key(
    key_id: KeyId, state: State, caller: KeyCaller, request: RotateRequest | None = None
) -> KeyCreated:
    """The answer holds the new key, this once. The secret until now opens for `overlap_s` longer; user tokens end
    with the secret that minted them."""
    rotated = await state.keys.rotate(key_id, request or RotateRequest())
    await state.log_call(rotated.tenant, caller.key_id, "key.rotated", key_id)
    return rotated


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke an API key")
async def revoke_key(key_id: KeyId, state: State, caller: KeyCaller) -> Response:
    """From the next request on, at every gateway, the key is refused, and so are the user tokens it minted."""
    tenant = await state.keys.revoke(key_id)
    await state.log_call(tenant, caller.key_id, "key.revoked", key_id)
    return Response(status_code=204)


# --- user tokens -------------------------------------------------------------------------------


@v1_router.post("/tokens", status_code=201, tags=["tokens"], summary="Mint a token for one user")
async def mint_token(request: TokenRequest, state: State, caller: KeyCaller) -> TokenCreated:
    """For a browser or an agent: it makes the calls of its scopes for this user and nothing else, for at most an
    hour, and ends with the key that minted it."""
    if foreign := [scope for scope in request.scopes if scope not in USER_SCOPES]:
        message = f"{', '.join(foreign)} is for API keys alone; a user token may hold {', '.join(sorted(USER_SCOPES))}"
        raise InvalidRequest(f"scopes: {message}", errors=[{"field": "scopes", "message": message}])
    if missing := [scope for scope in request.scopes if scope not in caller.scopes]:
        raise Forbidden(f"This API key has not the scope {missing[0]}, so its tokens cannot.", scope=missing[0])
    expires_at = int(time.time()) + request.expires_in_s
    if caller.expires_at:
        expires_at = min(expires_at, int(datetime.fromisoformat(caller.expires_at).timestamp()))
    claims = UserClaims(caller.key_id, caller.generation, request.user, frozenset(request.scopes), expires_at)
    return TokenCreated(
        token=state.tokens.mint(claims),
        user=request.user,
        scopes=request.scopes,
        expires_at=datetime.fromtimestamp(expires_at, UTC),
    )


# --- the audit log -----------------------------------------------------------------------------


@v1_router.get(
    "/audit", operation_id="audit", tags=["admin"], summary="Administrative calls, exports and erasures, newest first"
)
async def read_audit(
    state: State,
    caller: KeyCaller,
    tenant: Annotated[str | None, Query(pattern=TENANT_NAME, description="Default: the key's own")] = None,
    user: Annotated[UserId | None, Query(description="Exports and erasures of this user alone")] = None,
    before: Before = None,
    limit: Limit = 100,
) -> AuditPage:
    """Who did what to whom and when. Users stand there as keyed hashes; `user` looks for one by its id."""
    tenant = tenant or caller.tenant
    target = None if user is None else state.tokens.hash_user(tenant, user)
    page: AuditPage = await ask_redis(state.audit.read(tenant, before, limit, target))
    return page


# --- tenants -----------------------------------------------------------------------------------


@router.get("/tenants", operation_id="tenants", summary="List tenants")
async def list_tenants(state: State, after: After = None, limit: Limit = 100) -> TenantList:
    return await state.keys.tenants(after, limit)


_SETTINGS = "/tenants/{tenant}/settings"


@router.get(_SETTINGS, operation_id="tenant_settings", summary="A tenant's settings")
async def read_settings(tenant: TenantName, state: State) -> TenantSettingsView:
    """`spent` says what counts against its token budget."""
    view: TenantSettingsView = await ask_redis(state.tenant_settings.view_with_spent(tenant))
    return view


@router.put(_SETTINGS, operation_id="replace_tenant_settings", summary="Set a tenant's settings")
async def replace_settings(
    tenant: TenantName, settings: TenantSettings, state: State, caller: KeyCaller
) -> TenantSettingsView:
    """Fields that are left out have the deployment's value. Every process follows within a second."""
    view = await _log_change(state.tenant_settings.replace(tenant, settings))
    await state.log_call(tenant, caller.key_id, "settings.replaced", " ".join(view.overridden))
    return view


@router.patch(_SETTINGS, operation_id="change_tenant_settings", summary="Change some of a tenant's settings")
async def change_settings(
    tenant: TenantName, changes: dict[str, Any], state: State, caller: KeyCaller
) -> TenantSettingsView:
    """A JSON merge patch: null gives a field the deployment's value back."""
    view = await _log_change(state.tenant_settings.patch(tenant, changes))
    await state.log_call(tenant, caller.key_id, "settings.changed", " ".join(sorted(changes)))
    return view


async def _log_change(change: Awaitable[TenantSettingsView]) -> TenantSettingsView:
    view: TenantSettingsView = await ask_redis(change)
    fields = {"tenant": view.tenant, "overridden": list(view.overridden)}
    logging.getLogger("alignx.gateway").info("tenant settings changed", extra=fields)
    return view
