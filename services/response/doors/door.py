"""Other APIs in front of the one chat: what a door translates, and what all of them refuse and pass on.

A door turns its request into a `ChatRequest`, which takes the one path of chats (answering.py), and the chat's answer
into its own form. Fields that it does not translate go to the chat's tables, which pass or refuse them by name.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final
from uuid import uuid4

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from services.engine.refusals import member
from services.engine.wire import plain_text
from services.errors import EngineError
from services.response.chat_request import ChatRequest, refuse_fields
from services.response.chat_stream import KEEP_ALIVE
from services.server.app import sse

Body = dict[str, Any]
CHAT_ONLY: Final = {
    "include_reasoning": "reasoning is shown by /v1/chat/completions alone",
    "messages": "no field of this API",
    "n": "this API gives one answer",
    "stream_options": "token counts are part of each stream",
}
"""Fields of a chat that no door takes as they are, and why."""


class Refusals:
    """Gathers what a request cannot have, by field."""

    def __init__(self) -> None:
        self._problems: list[tuple[str, str]] = []

    def add(self, field: str, why: str) -> None:
        self._problems.append((field, why))

    def check(self) -> None:
        """Raises InvalidRequest."""
        if self._problems:
            raise refuse_fields(*self._problems)


def further_fields(
    body: Mapping[str, Any],
    translated: Collection[str],
    refused: Mapping[str, str],
    only: Mapping[str, Sequence[Any]],
    refusals: Refusals,
) -> Body:
    """The fields that the chat's tables judge. `only` has the values that ask for what happens anyway: those are
    dropped, others refused. A null counts as left out."""
    fields: Body = {}
    for name, value in body.items():
        if value is None or name in translated:
            continue
        if name in only:
            if value not in only[name]:
                refusals.add(name, f"{refused[name]} (only {', '.join(map(repr, only[name]))})")
        elif name in refused:
            refusals.add(name, refused[name])
        else:
            fields[name] = value
    return fields


def make_chat(fields: Mapping[str, Any]) -> ChatRequest:
    """Raises RequestValidationError, which names the fields."""
    try:
        return ChatRequest.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(BaseModel):
    index: int | None = None
    id: str | int | None = None
    function: _Function | None = None


class _Delta(BaseModel):
    content: str | list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    delta: _Delta | None = None


class _Chunk(BaseModel):
    """What a door reads of an engine's chunk."""

    model: str | None = None
    choices: list[_Choice] | None = None


class Door(ABC):
    """Puts one answer of a chat into the form of another API, piece by piece. The state of its events is that of the
    whole answer, so an answer that is not streamed is fed as one chunk."""

    keep_alive: ClassVar[bytes] = KEEP_ALIVE
    """What a stream sends while the engine is silent."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._finish: str | None = None
        self._usage: Any = None
        self._personalization: Body | None = None
        self._has_begun = False
        self._numbers: dict[str | int, int] = {}
        """Of the calls of tools, by their ids."""
        self._latest = 0
        """The number of the call that was added to last."""

    def feed(self, chunk: Body) -> Iterator[bytes]:
        """The events for one chunk of a streamed chat. Raises EngineError where it is none."""
        try:
            _Chunk.model_validate(chunk)
        except ValidationError as error:
            raise EngineError("The engine's answer is not of the form of a chat") from error
        self._model = chunk.get("model") or self._model
        self._usage = chunk.get("usage") or self._usage
        self._personalization = chunk.get("personalization") or self._personalization
        yield from self._begin()
        for choice in (chunk.get("choices") or [])[:1]:
            self._note(choice)
            delta = choice.get("delta") or {}
            if text := plain_text(delta.get("content") or delta.get("refusal")):
                yield from self._add_text(text)
            for call in delta.get("tool_calls") or ():
                yield from self._add_call({**call, "index": self._number_of(call)})

    @abstractmethod
    def end(self) -> Iterator[bytes]:
        """The last events."""

    @abstractmethod
    def fail(self, error: Body) -> Iterator[bytes]:
        """The events in place of the last ones; `error` is OpenAI's object."""

    @abstractmethod
    def whole(self) -> Body:
        """The answer that is not streamed, once all is fed."""

    def _begin(self) -> Iterator[bytes]:
        if not self._has_begun:
            self._has_begun = True
            yield from self._first()

    def _note(self, choice: Body) -> None:
        """Keeps how the answer ends."""
        self._finish = choice.get("finish_reason") or self._finish

    def _number_of(self, call: Body) -> int:
        """The number of a call. Where the engine gives none, a new id begins a call, and a piece without an id belongs
        to the latest."""
        number: int | None = call.get("index")
        name = call.get("id")
        if number is None:
            number = self._numbers.get(name, len(self._numbers)) if name else self._latest
        if name:
            self._numbers[name] = number
        self._latest = number
        return number

    @abstractmethod
    def _first(self) -> Iterator[bytes]:
        """The events before all others."""

    @abstractmethod
    def _add_text(self, text: str) -> Iterator[bytes]: ...

    @abstractmethod
    def _add_call(self, call: Body) -> Iterator[bytes]: ...


def render_whole(answer: Body, door: Door) -> Body:
    """A whole chat as the door's answer. Raises EngineError where it holds no message."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = member(choice, "message")
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise EngineError("The engine's answer holds no message")
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        calls = [{**call, "index": index} if isinstance(call, dict) else call for index, call in enumerate(calls)]
    chunk = answer | {"choices": [{**choice, "delta": {**message, "tool_calls": calls}}]}
    for _event in door.feed(chunk):
        pass
    for _event in door.end():
        pass
    return door.whole()


async def translate(pieces: AsyncIterator[bytes], door: Door) -> AsyncGenerator[bytes, None]:
    """The door's events for those of a streamed chat, which come whole. A fault is the last of them."""
    async for piece in pieces:
        if piece == KEEP_ALIVE:
            yield door.keep_alive
            continue
        for document in read_documents(piece):
            fault = member(document, "error")
            if document is None:
                events = door.end()
            elif fault:
                events = door.fail(fault if isinstance(fault, dict) else {"message": str(fault)})
            else:
                events = door.feed(document)
            try:
                for data in events:
                    yield data
            except EngineError as error:
                for data in door.fail(error.openai()["error"]):
                    yield data
                return
            if fault:
                return


def read_documents(piece: bytes) -> Iterator[Body | None]:
    """The chunks of a piece of a stream; None for [DONE]."""
    for line in piece.splitlines():
        data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data == b"[DONE]":
            yield None
        elif data and isinstance(document := _load(data), dict):
            yield document


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:  # what a chat passes on unread
        return None


def event(document: Body) -> bytes:
    """A server-sent event named as its document's type."""
    return sse(orjson.dumps(document), event=document["type"])


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex}"
