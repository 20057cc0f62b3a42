"""The REST calls on how well summaries predict, whether personalization is worth it, and feedback."""

from typing import Annotated

from fastapi import APIRouter, Depends

from alignx.schemas.outcomes import FeedbackRequest, FeedbackStored, Uplift
from alignx.schemas.summaries import ModelTrial, Prequential
from services.errors import Forbidden, InvalidRequest
from services.outcomes.uplift import read_uplift
from services.preference.routes import Service, Tenant
from services.preference.updates.trials import read_trial
from services.server.app import HeaderUser, only_user_of
from services.server.body_lists import ListRoute

router = APIRouter(prefix="/v1", route_class=ListRoute)


@router.get(
    "/quality", operation_id="quality", tags=["quality"], summary="How well the tenant's summaries predict choices"
)
async def tenant_quality(tenant: Tenant, service: Service) -> dict[str, Prequential]:
    """Prequential accuracy over all users of the tenant, by scorer: each choice is predicted by the
    summary as it was before the choice became known."""
    return await service.store.tenant_quality(tenant)


@router.get("/quality/uplift", operation_id="uplift", tags=["quality"], summary="Whether personalization is worth it")
async def uplift(tenant: Tenant, service: Service) -> Uplift:
    """What became of answers with personalization and, to the share of users that the tenant's setting
    `holdout_share` holds out, without. The difference has a 95 % interval over users."""
    return await read_uplift(service.store, tenant, (await service.tenants.read(tenant)).holdout_share)


@router.post("/feedback", operation_id="feedback", tags=["quality"], summary="What a user made of an answer")
async def give_feedback(
    tenant: Tenant,
    body: FeedbackRequest,
    service: Service,
    only_user: Annotated[str | None, Depends(only_user_of)],
    x_user_id: HeaderUser = None,
) -> FeedbackStored:
    """A thumb, the item that was picked, or the reply that was kept of two, for an answer by its `response_id`: the
    header X-AlignX-Response-Id of a chat, or the field of a selection or recommendation. Sent again it changes
    nothing. Answers are kept for the tenant's `feedback_s` seconds."""
    user = body.user or x_user_id or only_user
    if user is None:
        message = "needed, here or in the header X-User-Id"
        raise InvalidRequest(f"user: {message}", errors=[{"field": "user", "message": message}])
    if only_user not in (None, user):
        raise Forbidden("This user token is for another user.")
    return await service.take_feedback(tenant, user, body)


@router.get("/quality/trial", tags=["quality"], summary="Whether a new model may write the tenant's summaries")
async def model_trial(tenant: Tenant, service: Service) -> ModelTrial:
    """A new model, adapter or prompt template first writes for a share of the users. One whose summaries predict
    choices worse than those before it is held back."""
    return await read_trial(service.store.redis, tenant)
