"""The one path of all chats: a `ChatRequest`, whatever API it came by, becomes an HTTP answer, whole or streamed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from alignx.schemas.requests import PersonalizationUsed
from services.engine.client import RawAnswer
from services.errors import Forbidden
from services.response.chat import Chat, ChatCall, render_whole
from services.response.chat_request import ChatRequest
from services.response.chat_stream import AnswerEvents, render_stream, starting
from services.response.doors import door as doors
from services.response.doors.door import Door
from services.server.app import APPEND_HEADER, HeaderUser, as_utf8, only_user_of, tenant_of
from services.server.request_bodies import DisconnectWatch
from services.server.token_budgets import LEFT, Window, budget_headers

CLIENT_CLOSED_REQUEST = 499
"""Status of an answer that nobody waits for any more; it is seen in logs and metrics alone."""
_COUNTS = {"include_usage": True}


@dataclass(frozen=True, slots=True)
class ChatCaller:
    """Who sends a chat."""

    request: Request
    tenant: str
    only_user: str | None
    """The one user whom the caller may name; None for a caller with an API key."""
    header_user: str | None
    may_append: bool = False
    """Whether the caller may add to users' histories."""


async def chat_caller(
    request: Request,
    tenant: Annotated[str, Depends(tenant_of)],
    only_user: Annotated[str | None, Depends(only_user_of)],
    x_user_id: HeaderUser = None,
) -> ChatCaller:
    """Dependency of all chats."""
    return ChatCaller(request, tenant, only_user, x_user_id, APPEND_HEADER in request.headers)


async def answer_caller(chat: Chat, caller: ChatCaller, body: ChatRequest, door: Door | None = None) -> Response:
    """The answer for the user whom the body or a header names. Raises Forbidden for one whom the caller may not
    name, and what `Chat.prepare` and `Chat.answer` raise."""
    further = map(caller.request.headers.get, chat.settings.response.user_headers)
    user = body.user_id((caller.header_user, *map(as_utf8, further))) or caller.only_user
    if caller.only_user not in (None, user):
        raise Forbidden("This user token is for another user.")
    with DisconnectWatch(caller.request.receive):  # a caller that has gone needs no more of the engine's work
        return await _answer(chat, caller, user, body, door)
    return Response(status_code=CLIENT_CLOSED_REQUEST)


class AnswerStream(StreamingResponse):
    """A streamed answer that ends the engine's call behind it, however far it came."""

    def __init__(self, answer: AsyncExitStack, *args: Any) -> None:
        super().__init__(*args)
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.answer:
            await super().__call__(scope, receive, send)


async def _answer(chat: Chat, caller: ChatCaller, user: str | None, body: ChatRequest, door: Door | None) -> Response:
    if door is not None and body.stream and "stream_options" not in chat.engine.capabilities.dialect.dropped:
        body = ChatRequest.model_validate({**body.model_dump(exclude_unset=True), "stream_options": _COUNTS})
    call = await chat.prepare(caller.tenant, user, body, may_append=caller.may_append)
    reasoning = bool(body.include_reasoning)
    left: dict[str, Window] = {}
    LEFT.set(left)
    if body.stream:
        return await _stream(chat, call, AnswerEvents(call.used, choices=body.n or 1, reasoning=reasoning), door, left)
    async with chat.answer(call) as raw:
        answer = await render_whole(raw, reasoning=reasoning)
    shown = answer if door is None else doors.render_whole(answer, door)
    used = await chat.record(call)
    if call.learned:
        call.learned.hear(answer)
        await call.learned.keep()
    document = shown | {"personalization": used.document()}
    return Response(orjson.dumps(document), raw.status, _headers(used) | budget_headers(left), raw.content_type)


async def _stream(
    chat: Chat, call: ChatCall, events: AnswerEvents, door: Door | None, left: dict[str, Window]
) -> Response:
    settings = chat.settings.response
    async with AsyncExitStack() as answer:
        start = await answer.enter_async_context(starting(_recorded(chat, call, events), settings.keep_alive_after_s))
        status, content_type = start.result()[:2] if start.done() else (200, "text/event-stream")
        pieces = render_stream(start, events, settings.keep_alive_s)
        if call.learned:
            pieces = call.learned.overhear(pieces)
        shown = pieces if door is None else doors.translate(pieces, door)
        headers = _headers(events.used or call.used) | budget_headers(left) | {"Cache-Control": "no-store"}
        return AnswerStream(answer.pop_all(), shown, status, headers, content_type)
    raise AssertionError("unreachable")


@asynccontextmanager
async def _recorded(chat: Chat, call: ChatCall, events: AnswerEvents) -> AsyncIterator[RawAnswer]:
    """The engine's answer, kept before its first event goes out: feedback may follow at once."""
    async with chat.answer(call) as raw:
        events.used = await chat.record(call)
        yield raw


def _headers(used: PersonalizationUsed) -> dict[str, str]:
    headers: dict[str, str] = {"X-AlignX-Mode": used.mode}
    if used.version is not None:
        headers["X-AlignX-Summary-Version"] = str(used.version)
    if used.response_id is not None:
        headers["X-AlignX-Response-Id"] = used.response_id
    return headers
