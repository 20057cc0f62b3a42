"""What a chat adds to its user's history: the user's latest turn and the answer, as one event of type `dialogue`.

A request repeats the conversation so far, so earlier turns are not read again: each was the latest once. Before the
user's turn stands the assistant's that it answers. A call of a tool is no answer yet; the answer that follows it is.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from alignx.schemas.interactions import DialogueInteraction, Message
from alignx.schemas.requests import Personalization
from services.engine.refusals import member
from services.engine.wire import plain_text
from services.errors import Forbidden
from services.outcomes.served import Outcomes, Serving
from services.response.chat_request import ChatRequest, ChatRequestMessage, refuse_fields
from services.response.doors.door import read_documents
from services.storage.users import encode_interaction

LEARN: Final = "personalization.learn"
SOURCE: Final = "chat"
"""Of the events."""
_MOST_TURNS: Final = 400
"""An event holds 500."""
_NO_ANSWER: Final = ("tool_calls", "function_call", "content_filter")
"""Ends of an answer that is not given in full."""


def wants_learning(request: ChatRequest, user: str | None, *, may_append: bool) -> bool | None:
    """Whether the request is to be learned; None leaves that to the tenant's settings. Raises Forbidden or
    InvalidRequest where it asks for what cannot be."""
    wanted = (request.personalization or Personalization()).learn
    if not wanted:
        return None if wanted is None and may_append and request.n in (None, 1) else False
    if not may_append:
        detail = f"{LEARN} needs the scope events:write, which this API key or user token does not have."
        errors = [{"field": LEARN, "message": "needs the scope events:write"}]
        raise Forbidden(detail, errors=errors, scope="events:write")
    message = "needs a user" if user is None else "needs one answer: leave n out"
    if user is None or request.n not in (None, 1):
        raise refuse_fields((LEARN, message))
    return True


def latest_turns(messages: Sequence[ChatRequestMessage]) -> list[Message]:
    """The texts from the user's latest turn on, behind that of the assistant before it; none where it holds no text."""
    spoken = [message for message in messages if message.role in ("user", "assistant")]
    start = len(spoken)
    while start and spoken[start - 1].role != "user":
        start -= 1
    while start and spoken[start - 1].role == "user":
        start -= 1
    latest = spoken[max(0, start - 1) :][-_MOST_TURNS:]
    turns = [Message.model_validate({"role": turn.role, "content": turn.content}) for turn in latest]
    return [turn for turn in turns if turn.content] if _has_user(turns) else []


def _has_user(turns: Sequence[Message]) -> bool:
    return any(turn.role == "user" and turn.content for turn in turns)


def _cut(turns: Sequence[Message], most_bytes: int) -> Sequence[Message]:
    """The latest turns whose texts alone fit, so that few need be encoded to see whether they do."""
    start, left = len(turns), most_bytes
    while start and (left := left - len(turns[start - 1].content.encode())) >= 0:
        start -= 1
    return turns[start:]


class LearnedChat:
    """Hears an answer, whole or by its chunks, and leaves it with the turns before it for the user's history."""

    def __init__(self, outcomes: Outcomes, serving: Serving, turns: Sequence[Message], most_bytes: int) -> None:
        self._outcomes = outcomes
        self._serving = serving
        self._turns = turns
        self._most_bytes = most_bytes
        self._text: list[str] = []
        self._is_answer = True

    def hear(self, document: dict[str, Any]) -> None:
        """A chat completion, or a chunk of one."""
        if document.get("error"):
            self._is_answer = False
        choices = document.get("choices")
        for choice in choices[:1] if isinstance(choices, list) else ():
            said = member(choice, "message") or member(choice, "delta")
            if isinstance(content := member(said, "content"), str | list):
                self._text.append(plain_text(content))
            if member(said, "tool_calls") or member(choice, "finish_reason") in _NO_ANSWER:
                self._is_answer = False

    async def keep(self) -> None:
        """Of an answer in full; call it before the caller sees the answer's end."""
        answer = Message(role="assistant", content="".join(self._text))
        if not (self._is_answer and self._turns and answer.content):
            return
        turns = _cut([*self._turns, answer], self._most_bytes)
        while _has_user(turns):
            event = self._encode(turns)
            if len(event.encode()) <= self._most_bytes:
                await self._outcomes.keep_chat(self._serving, event, is_whole=len(turns) > len(self._turns))
                return
            turns = turns[1:]
        self._outcomes.count_chat("too_long")

    async def overhear(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The pieces of a stream, the last of which waits until the answer is kept."""
        async for piece in pieces:
            for document in read_documents(piece):
                if document is None:
                    await self.keep()
                else:
                    self.hear(document)
            yield piece

    def _encode(self, turns: Sequence[Message]) -> str:
        event = DialogueInteraction(
            id=self._serving.response_id, occurred_at=datetime.now(UTC), source=SOURCE, messages=tuple(turns)
        )
        return encode_interaction(event)
