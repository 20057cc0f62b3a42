"""The REST calls that use a summary. Reached through the gateway, which names the tenant."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.responses import StreamingResponse

from services.core.http import JsonRoute, tenant_of
from services.core.schemas import (
    PersonalizationUsed,
    RecommendRequest,
    RecommendResponse,
    SelectRequest,
    SelectResponse,
    UserId,
)
from services.response.chat import Chat, ChatRequest, streamed, whole
from services.response.recommendation import Recommender
from services.response.selection import Selector

Tenant = Annotated[str, Depends(tenant_of)]
User = Annotated[UserId, Path(description="Your own id of the user; no slash.")]

router = APIRouter(prefix="/v1", route_class=JsonRoute)


@router.post("/users/{user}/select", tags=["response"], summary="Which of these would the user choose?")
async def select(tenant: Tenant, user: User, body: SelectRequest, request: Request) -> SelectResponse:
    selector: Selector = request.app.state.selector
    return await selector.select(tenant, user, body)


@router.post("/users/{user}/recommend", tags=["response"], summary="Rank candidates for the user")
async def recommend(tenant: Tenant, user: User, body: RecommendRequest, request: Request) -> RecommendResponse:
    recommender: Recommender = request.app.state.recommender
    return await recommender.recommend(tenant, user, body)


@router.get("/models", tags=["response"], summary="Models on offer, in OpenAI's format")
async def list_models(tenant: Tenant, request: Request) -> dict[str, Any]:
    chat: Chat = request.app.state.chat
    return {"object": "list", "data": await chat.engine.models()}


@router.post(
    "/chat/completions",
    tags=["response"],
    summary="Personalized chat, OpenAI-compatible",
    response_class=Response,
    responses={200: {"content": {"application/json": {}, "text/event-stream": {}}}},
)
async def chat_completions(
    tenant: Tenant,
    body: ChatRequest,
    request: Request,
    x_user_id: Annotated[UserId | None, Header(description="The user, where the body names none.")] = None,
) -> Response:
    """`personalization.mode` says what the answer is conditioned on: `summary` (default), `ica`,
    `direct` or `none`. The answer's `personalization` and the header X-AlignX-Summary-Version say
    what was used."""
    chat: Chat = request.app.state.chat
    answer = AsyncExitStack()
    used, raw = await answer.enter_async_context(chat.answer(tenant, body.user or x_user_id, body))
    if body.stream:
        headers = _headers(used) | {"Cache-Control": "no-store"}
        return StreamingResponse(_closing(answer, streamed(raw, used)), raw.status, headers, raw.content_type)
    try:
        return Response(await whole(raw, used), raw.status, _headers(used), raw.content_type)
    finally:
        await answer.aclose()


async def _closing(answer: AsyncExitStack, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, and behind the last one the end of the engine's answer, however it came."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        await answer.aclose()


def _headers(used: PersonalizationUsed) -> dict[str, str]:
    headers: dict[str, str] = {"X-AlignX-Mode": used.mode}
    if used.version is not None:
        headers["X-AlignX-Summary-Version"] = str(used.version)
    return headers
