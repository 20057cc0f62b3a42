"""The chats that come by other APIs than OpenAI's chat completions."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Response

from services.response.answering import answer_caller
from services.response.chat_request import refuse_fields
from services.response.doors.messages_answer import MessagesDoor
from services.response.doors.messages_request import MessagesRequest
from services.response.doors.responses_answer import ResponsesDoor
from services.response.doors.responses_request import ResponsesRequest
from services.response.routes import Caller, State
from services.server.request_bodies import JsonRoute

door_router = APIRouter(prefix="/v1", route_class=JsonRoute)
_VERSIONS: Final = ("2026-10-21", "2023-06-01")
"""Of Anthropic's API. The newer one has no temperature, top_p and top_k; they pass to the engine all the same."""
_STREAM: Final[dict[str, Any]] = {"text/event-stream": {"schema": {"type": "string"}}}


@door_router.post(
    "/responses",
    tags=["response"],
    summary="Personalized chat, by OpenAI's Responses API",
    response_class=Response,
    responses={200: {"description": "The response", "content": {"application/json": {}, **_STREAM}}},
)
async def create_response(body: ResponsesRequest, caller: Caller, state: State) -> Response:
    """The same chat as /v1/chat/completions. Nothing is stored: `previous_response_id`, `conversation` and `store`
    are refused. The answer's `personalization` says what it was conditioned on."""
    return await answer_caller(state.chat, caller, body.to_chat(), ResponsesDoor(body))


@door_router.post(
    "/messages",
    tags=["response"],
    summary="Personalized chat, by Anthropic's Messages API",
    response_class=Response,
    responses={200: {"description": "The message", "content": {"application/json": {}, **_STREAM}}},
)
async def create_message(
    body: MessagesRequest,
    caller: Caller,
    state: State,
    anthropic_version: Annotated[str | None, Header(description="2026-10-21, 2023-06-01, or left out.")] = None,
) -> Response:
    """The same chat as /v1/chat/completions, with the API key as `x-api-key` or as a bearer token. The answer's
    `personalization` says what it was conditioned on. Errors have Anthropic's shape."""
    if anthropic_version not in (None, *_VERSIONS):
        raise refuse_fields(("anthropic-version", f"must be one of {', '.join(_VERSIONS)}"))
    answer = await answer_caller(state.chat, caller, body.to_chat(), MessagesDoor(body))
    answer.headers["Request-Id"] = caller.request.state.request_id  # by this name Anthropic's clients read it
    return answer
