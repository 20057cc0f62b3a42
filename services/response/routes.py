"""The REST calls that use a summary. Reached through the gateway, which names the tenant."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from alignx.schemas.items import UserId
from alignx.schemas.requests import (
    PersonalizationUsed,
    RecommendRequest,
    RecommendResponse,
    SelectRequest,
    SelectResponse,
)
from services.errors import Forbidden
from services.response import recommendation
from services.response.chat import Chat, render_whole
from services.response.chat_request import ChatRequest
from services.response.chat_stream import AnswerEvents, render_stream, starting
from services.response.selection import Selector
from services.server.app import only_user_of, tenant_of
from services.server.body_lists import ListRoute
from services.server.request_bodies import DisconnectWatch
from services.server.state import state_of
from services.server.store import StoreState
from services.server.token_budgets import LEFT, Window, budget_headers


@dataclass(frozen=True, slots=True)
class ResponseState(StoreState):
    """What the service's lifespan opens."""

    chat: Chat
    selector: Selector


async def response_state(request: Request) -> ResponseState:
    return state_of(request.app, ResponseState)


State = Annotated[ResponseState, Depends(response_state)]
Tenant = Annotated[str, Depends(tenant_of)]
OnlyUser = Annotated[str | None, Depends(only_user_of)]
User = Annotated[UserId, Path(description="Your own id of the user; no slash.")]

CLIENT_CLOSED_REQUEST = 499
"""Status of an answer that nobody waits for any more; it is seen in logs and metrics alone."""

router = APIRouter(prefix="/v1", route_class=ListRoute)


@router.post("/users/{user}/select", tags=["response"], summary="Which of these would the user choose?")
async def select(tenant: Tenant, user: User, body: SelectRequest, state: State) -> SelectResponse:
    return await state.selector.select(tenant, user, body)


@router.post("/users/{user}/recommend", tags=["response"], summary="Rank candidates for the user")
async def recommend(tenant: Tenant, user: User, body: RecommendRequest, state: State) -> RecommendResponse:
    return await recommendation.recommend(state.selector, tenant, user, body)


@router.get("/models", tags=["response"], summary="Models on offer, in OpenAI's format")
async def list_models(tenant: Tenant, state: State) -> dict[str, Any]:
    return {"object": "list", "data": await state.chat.engine.models()}


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
    state: State,
    only_user: OnlyUser,
    x_user_id: Annotated[UserId | None, Header(description="The user, where the body names none.")] = None,
) -> Response:
    """`personalization.mode` says what the answer is conditioned on: `summary` (default), `ica`,
    `pba`, `direct` or `none`. The answer's `personalization` and the header X-AlignX-Summary-Version say
    what was used; RateLimit and RateLimit-Policy what is left of the tenant's token budget, if it has one. A stream
    whose first token is late holds comments before its first event."""
    further = map(request.headers.get, state.chat.settings.response.user_headers)
    user = body.user_id(map(_as_utf8, (x_user_id, *further))) or only_user
    if only_user not in (None, user):
        raise Forbidden("This user token is for another user.")
    with DisconnectWatch(request.receive):  # a caller that has gone needs no more of the engine's work
        return await _answer(state.chat, tenant, user, body)
    return Response(status_code=CLIENT_CLOSED_REQUEST)


class AnswerStream(StreamingResponse):
    """A streamed answer that ends the engine's call behind it, however far it came."""

    def __init__(self, answer: AsyncExitStack, *args: Any) -> None:
        super().__init__(*args)
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.answer:
            await super().__call__(scope, receive, send)


async def _answer(chat: Chat, tenant: str, user: str | None, body: ChatRequest) -> Response:
    call = await chat.prepare(tenant, user, body)
    used, reasoning, settings = call.used, bool(body.include_reasoning), chat.settings.response
    left: dict[str, Window] = {}
    LEFT.set(left)
    if not body.stream:
        async with chat.answer(call) as raw:
            content = await render_whole(raw, used, reasoning=reasoning)
        return Response(content, raw.status, _headers(used) | budget_headers(left), raw.content_type)
    async with AsyncExitStack() as answer:
        start = await answer.enter_async_context(starting(chat.answer(call), settings.keep_alive_after_s))
        status, content_type = start.result()[:2] if start.done() else (200, "text/event-stream")
        events = AnswerEvents(used, choices=body.n or 1, reasoning=reasoning)
        pieces = render_stream(start, events, settings.keep_alive_s)
        headers = _headers(used) | budget_headers(left) | {"Cache-Control": "no-store"}
        return AnswerStream(answer.pop_all(), pieces, status, headers, content_type)
    raise AssertionError("unreachable")


def _as_utf8(header: str | None) -> str | None:
    """Header fields arrive as Latin-1, whatever they are."""
    return None if header is None else header.encode("latin-1").decode(errors="replace")


def _headers(used: PersonalizationUsed) -> dict[str, str]:
    headers: dict[str, str] = {"X-AlignX-Mode": used.mode}
    if used.version is not None:
        headers["X-AlignX-Summary-Version"] = str(used.version)
    return headers
