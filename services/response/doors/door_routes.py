"""The chats that come by other APIs than OpenAI's chat completions."""

from typing import Any, Final

from fastapi import APIRouter, Response

from services.response.answering import answer_caller
from services.response.doors.responses_answer import ResponsesDoor
from services.response.doors.responses_request import ResponsesRequest
from services.response.routes import Caller, State
from services.server.request_bodies import JsonRoute

door_router = APIRouter(prefix="/v1", route_class=JsonRoute)
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
