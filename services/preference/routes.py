"""The REST calls on a user's history and summary. Reached through the gateway, which names the tenant."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from alignx.schemas.items import UserId
from alignx.schemas.requests import (
    CatalogueRequest,
    CatalogueStored,
    EditRequest,
    EventsAccepted,
    EventsRequest,
    RetryQueued,
    RetryRequest,
    RollbackRequest,
    UpdateQueued,
)
from alignx.schemas.summaries import (
    DeadLetterList,
    InteractionList,
    Order,
    Preferences,
    RejectedDraftList,
    SummaryVersion,
    VersionDiff,
    VersionList,
)
from services.errors import Forbidden, InvalidRequest
from services.preference import edits
from services.preference.export import export_lines
from services.preference.live import EndlessResponse
from services.preference.service import PreferenceService
from services.preference.webhooks.webhook_service import WebhookService
from services.server.app import only_user_of, tenant_of
from services.server.body_lists import ListRoute
from services.server.startup_check import StoreState
from services.server.state import state_of

_WAIT = re.compile(r"(?:^|[,\s;])wait=(\d{1,6})")

Tenant = Annotated[str, Depends(tenant_of)]
User = Annotated[UserId, Path(description="Your own id of the user; no slash.")]
IfMatch = Annotated[str | None, Header(alias="If-Match", description='The ETag that you read, such as "3".')]
Limit = Annotated[int, Query(ge=1, le=1_000, description="Entries of the page.")]
InOrder = Annotated[Order, Query(description="asc: the oldest first; desc: the newest. `after` follows it.")]


@dataclass(frozen=True, slots=True)
class PreferenceState(StoreState):
    """What the service's lifespan opens."""

    service: PreferenceService
    webhooks: WebhookService


async def preference_service(request: Request) -> PreferenceService:
    return state_of(request.app, PreferenceState).service


Service = Annotated[PreferenceService, Depends(preference_service)]
router = APIRouter(prefix="/v1", route_class=ListRoute)


# --- history -----------------------------------------------------------------------------------


@router.post(
    "/users/{user}/events", operation_id="append", status_code=202, tags=["history"], summary="Append interactions"
)
async def append_events(
    tenant: Tenant,
    user: User,
    body: EventsRequest,
    service: Service,
    response: Response,
    only_user: Annotated[str | None, Depends(only_user_of)],
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    prefer: Annotated[str | None, Header(description="`wait=10` waits for the summary that includes them.")] = None,
) -> EventsAccepted:
    """Stores all of the interactions or none. With an `Idempotency-Key` the call can be repeated for
    a day without storing anything twice."""
    if body.backfill and only_user is not None:  # it is not counted in the user's events per hour
        raise Forbidden("A user token may not send backfill; send the history with an API key.")
    preference = _WAIT.search(prefer or "")
    wait_s = min(float(preference[1]), service.settings.limits.wait_s) if preference else 0.0
    if preference:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return await service.append(tenant, user, body, idempotency_key or "", wait_s)


@router.get("/users/{user}/events", operation_id="events", tags=["history"], summary="List interactions")
async def list_events(
    tenant: Tenant, user: User, service: Service, after: str | None = None, limit: Limit = 100, order: InOrder = "asc"
) -> InteractionList:
    _check_cursor("after", after)
    return await service.events(tenant, user, after, limit, order)


@router.get(
    "/users/{user}/dead-letters",
    operation_id="dead_letters",
    tags=["history"],
    summary="List events that were set aside",
)
async def list_dead_letters(
    tenant: Tenant, user: User, service: Service, after: str | None = None, limit: Limit = 100
) -> DeadLetterList:
    _check_cursor("after", after)
    return await service.dead_letters(tenant, user, after, limit)


@router.post(
    "/users/{user}/dead-letters/retry",
    status_code=202,
    tags=["history"],
    summary="Try events again that were set aside",
)
async def retry_dead_letters(
    tenant: Tenant, user: User, service: Service, body: RetryRequest | None = None
) -> RetryQueued:
    """Puts dead letters back behind the user's waiting events, in their order: those of `event_ids`, or
    without them all, as far as the user's backlog has room. Each gets a new id. The call can be repeated: what
    has been put back is no dead letter any more."""
    return await service.retry_dead_letters(tenant, user, (body and body.event_ids) or ())


@router.get(
    "/users/{user}/export",
    operation_id="export",
    tags=["history"],
    summary="Everything kept of the user, as JSON lines",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
async def export_user(tenant: Tenant, user: User, service: Service) -> StreamingResponse:
    lines = export_lines(service.store, tenant, user)
    head = await anext(lines)  # an unknown user is a 404, not a broken stream

    async def body() -> AsyncIterator[bytes]:
        yield head
        async for line in lines:
            yield line

    return StreamingResponse(body(), media_type="application/jsonl")


@router.delete("/users/{user}", operation_id="erase", status_code=204, tags=["history"], summary="Erase the user")
async def erase_user(tenant: Tenant, user: User, service: Service) -> None:
    """Nothing of the user stays, and no update under way can bring anything back."""
    await service.erase(tenant, user)


# --- summary -----------------------------------------------------------------------------------


@router.get(
    "/users/{user}/preferences",
    operation_id="preferences",
    response_model=Preferences,
    tags=["preferences"],
    summary="The current summary",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        304: {"description": "Unchanged since the ETag in If-None-Match"},
    },
)
async def read_preferences(
    tenant: Tenant,
    user: User,
    service: Service,
    if_none_match: Annotated[str | None, Header()] = None,
    format: Annotated[str, Query(pattern="^(json|text)$")] = "json",  # noqa: A002  # the name in the URL
) -> Response:
    current = await service.preferences(tenant, user)
    headers = {"ETag": edits.etag(current), "Cache-Control": "private, no-cache"}
    if edits.matches_any(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if format == "text":
        return PlainTextResponse(f"{current.text}\n", headers=headers)
    return Response(current.model_dump_json(), headers=headers, media_type="application/json")


@router.put(
    "/users/{user}/preferences",
    operation_id="edit",
    tags=["preferences"],
    summary="Replace the summary by the user's own text",
)
async def edit_preferences(
    tenant: Tenant, user: User, body: EditRequest, service: Service, response: Response, if_match: IfMatch = None
) -> Preferences:
    """The text becomes the past summary of the next update. `If-Match` is needed once a version exists."""
    current = await service.edit(tenant, user, body.text, if_match)
    response.headers["ETag"] = edits.etag(current)
    return current


@router.get(
    "/users/{user}/preferences/stream",
    operation_id="watch",
    tags=["preferences"],
    summary="The summary as it is written",
    response_class=EndlessResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream_preferences(
    tenant: Tenant,
    user: User,
    service: Service,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EndlessResponse:
    """Server-sent events `pending`, `delta`, `version`, `changed` and `error`. `pending` starts a text anew."""
    _check_cursor("Last-Event-ID", last_event_id)
    return EndlessResponse(await service.open_stream(tenant, user, last_event_id))


@router.get(
    "/users/{user}/preferences/versions",
    operation_id="versions",
    tags=["versions"],
    summary="List versions, newest first",
)
async def list_versions(
    tenant: Tenant,
    user: User,
    service: Service,
    before: Annotated[int | None, Query(ge=1)] = None,
    limit: Limit = 100,
) -> VersionList:
    return await service.versions(tenant, user, before, limit)


@router.get(
    "/users/{user}/preferences/versions/{version}", operation_id="version", tags=["versions"], summary="One version"
)
async def read_version(
    tenant: Tenant, user: User, version: Annotated[int, Path(ge=1)], service: Service
) -> SummaryVersion:
    return await service.store.version(tenant, user, version)


@router.get(
    "/users/{user}/preferences/rejected",
    operation_id="rejected",
    tags=["versions"],
    summary="List replies that are no summary, newest first",
)
async def list_rejected(tenant: Tenant, user: User, service: Service) -> RejectedDraftList:
    """The latest replies of the engine that a check refused, with the check and its reason. The version before them
    stays current, and their text is part of no prompt."""
    return await service.rejected(tenant, user)


@router.get(
    "/users/{user}/preferences/diff",
    operation_id="diff",
    tags=["versions"],
    summary="What changed between two versions",
)
async def diff_versions(
    tenant: Tenant,
    user: User,
    service: Service,
    from_version: Annotated[int, Query(alias="from", ge=1)],
    to_version: Annotated[int, Query(alias="to", ge=1)],
) -> VersionDiff:
    return await service.diff(tenant, user, from_version, to_version)


@router.post(
    "/users/{user}/preferences/rollback",
    operation_id="rollback",
    tags=["versions"],
    summary="Make an older version current again",
)
async def roll_back(
    tenant: Tenant, user: User, body: RollbackRequest, service: Service, response: Response, if_match: IfMatch = None
) -> Preferences:
    """Adds a new version with the old text; nothing of the history is lost."""
    current = await service.roll_back(tenant, user, body.version, if_match)
    response.headers["ETag"] = edits.etag(current)
    return current


@router.post(
    "/users/{user}/preferences/rebuild",
    status_code=202,
    tags=["preferences"],
    summary="Write the summary anew from the whole history",
)
async def rebuild(tenant: Tenant, user: User, service: Service) -> UpdateQueued:
    """Events that were set aside are part of the history: they wait again, as after a retry."""
    return UpdateQueued(pending=await service.rebuild(tenant, user))


@router.put("/items", tags=["catalogue"], summary="Put items into the tenant's catalogue")
async def put_items(tenant: Tenant, body: CatalogueRequest, service: Service) -> CatalogueStored:
    """Adds items, or replaces those of the same ids. Candidates of a selection or recommendation may then be ids."""
    return await service.put_items(tenant, body)


def _check_cursor(name: str, value: str | None) -> None:
    if value is not None and not re.fullmatch(r"[0-9]{1,19}(-[0-9]{1,19})?", value):
        raise InvalidRequest(
            f"{name} must be an id as given by an earlier answer.",
            errors=[{"field": name, "message": "an id such as 1763700000000-0"}],
        )
