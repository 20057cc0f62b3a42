"""The REST calls that use a summary. Reached through the gateway, which names the tenant."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from alignx.schemas.items import UserId
from alignx.schemas.requests import RecommendRequest, RecommendResponse, SelectRequest, SelectResponse
from services.errors import ModelUnknown
from services.response import recommendation
from services.response.answering import ChatCaller, answer_caller, chat_caller
from services.response.chat import Chat
from services.response.chat_request import ChatRequest
from services.response.selection import Selector
from services.server.app import tenant_of
from services.server.body_lists import ListRoute
from services.server.startup_check import StoreState
from services.server.state import state_of


@dataclass(frozen=True, slots=True)
class ResponseState(StoreState):
    """What the service's lifespan opens."""

    chat: Chat
    selector: Selector


async def response_state(request: Request) -> ResponseState:
    return state_of(request.app, ResponseState)


State = Annotated[ResponseState, Depends(response_state)]
Tenant = Annotated[str, Depends(tenant_of)]
Caller = Annotated[ChatCaller, Depends(chat_caller)]
User = Annotated[UserId, Path(description="Your own id of the user; no slash.")]

router = APIRouter(prefix="/v1", route_class=ListRoute)


@router.post("/users/{user}/select", tags=["response"], summary="Which of these would the user choose?")
async def select(tenant: Tenant, user: User, body: SelectRequest, state: State) -> SelectResponse:
    return await state.selector.select(tenant, user, body)


@router.post("/users/{user}/recommend", tags=["response"], summary="Rank candidates for the user")
async def recommend(tenant: Tenant, user: User, body: RecommendRequest, state: State) -> RecommendResponse:
    return await recommendation.recommend(state.selector, tenant, user, body)


@router.get("/models/{model:path}", tags=["response"], summary="One model, in OpenAI's format")
async def read_model(tenant: Tenant, model: str, state: State) -> dict[str, Any]:
    """404 `model_not_found` for one that the engine does not serve."""
    for known in await state.chat.models():
        if known["id"] == model:
            return known
    raise ModelUnknown


@router.get("/models", operation_id="models", tags=["response"], summary="Models on offer, in OpenAI's format")
async def list_models(tenant: Tenant, state: State) -> dict[str, Any]:
    return {"object": "list", "data": await state.chat.models()}


@router.post(
    "/chat/completions",
    operation_id="chat",
    tags=["response"],
    summary="Personalized chat, OpenAI-compatible",
    response_class=Response,
    responses={200: {"content": {"application/json": {}, "text/event-stream": {}}}},
)
async def chat_completions(body: ChatRequest, caller: Caller, state: State) -> Response:
    """`personalization.mode` says what the answer is conditioned on: `summary` (default), `ica`,
    `pba`, `direct` or `none`. The answer's `personalization` and the header X-AlignX-Summary-Version say
    what was used, where axis adapters are served also which of them; RateLimit and RateLimit-Policy what is left of the
    tenant's token budget, if it has one. A stream whose first token is late holds comments before its first event."""
    return await answer_caller(state.chat, caller, body)
