"""The REST calls that forget single events of a user."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path

from alignx.schemas.forgetting import ForgetRequest, Forgotten
from services.preference.forgetting.about import About
from services.preference.routes import Service, Tenant, User
from services.server.body_lists import ListRoute

_EXAMPLES: dict[str, Any] = {
    "words": {"summary": "By words that stand in it", "value": {"about": "salmon"}},
    "dry_run": {"summary": "What an item's id would remove", "value": {"about": "sku-1042", "dry_run": True}},
}
_RECEIPT = {"event_ids": ["1763700000000-0"], "versions": 2, "claims": 7, "version": 9, "update_queued": True}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "The receipt", "content": {"application/json": {"example": _RECEIPT}}}
}
EventId = Annotated[
    str,
    Path(
        pattern="^[0-9]{1,19}-[0-9]{1,19}$", description="As the append has answered it.", examples=["1763700000000-0"]
    ),
]
router = APIRouter(prefix="/v1", route_class=ListRoute)


@router.delete(
    "/users/{user}/events/{event_id}",
    operation_id="forget_event",
    tags=["history"],
    summary="Forget an event",
    responses=_ANSWER,
)
async def forget_event(tenant: Tenant, user: User, event_id: EventId, service: Service) -> Forgotten:
    """Removes the event and all that came of it: versions of the summary since with claims, reasoning and rejected
    drafts, its share of the profile and of the counts of items. An update under way cannot bring it back. The summary
    is then written anew from what is left, with one call of the engine at most."""
    return await service.forget_events(tenant, user, event_id)


@router.post(
    "/users/{user}/forget",
    operation_id="forget_about",
    tags=["history"],
    summary="Forget what events are about",
    responses=_ANSWER,
)
async def forget_about(
    tenant: Tenant, user: User, body: Annotated[ForgetRequest, Body(openapi_examples=_EXAMPLES)], service: Service
) -> Forgotten:
    """Forgets, as one call for each would, all events in which the words of `about` stand or that a claim with these
    words rests on; whole words, whatever the case. A `dry_run` only tells what would go. Where nothing matches, the
    receipt says so with zeros."""
    return await service.forget_events(tenant, user, About(body.about), dry_run=body.dry_run)
