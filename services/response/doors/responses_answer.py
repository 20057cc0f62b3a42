"""A chat's answer in the form of OpenAI's Responses API: one object, or its events in their order.

response.created, response.in_progress,
response.output_item.added, response.content_part.added, response.output_text.delta …, response.output_text.done,
response.content_part.done, response.output_item.done,
response.output_item.added, response.function_call_arguments.delta …, .done, response.output_item.done,
response.completed | response.incomplete | response.failed
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from services.engine.refusals import member
from services.engine.wire import token_count, token_counts
from services.response.doors.door import Body, Door, event, new_id
from services.response.doors.responses_request import ResponsesRequest

_CUT_SHORT: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is incomplete, by the chat's finish reason."""


@dataclass(slots=True)
class Item:
    """An item of the output that is being written: a message, or a function call."""

    index: int
    body: Body
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def part(self) -> Body:
        """What a message holds of it so far."""
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}


class ResponsesDoor(Door):
    """One response."""

    def __init__(self, request: ResponsesRequest) -> None:
        super().__init__(request.model)
        self._request = request
        self._id = new_id("resp")
        self._created = int(time.time())
        self._number = 0
        self._message: Item | None = None
        self._calls: dict[int, Item] = {}
        self._output: list[Body] = []
        self._state: Body = {"status": "in_progress", "completed_at": None, "error": None, "incomplete_details": None}

    def end(self) -> Iterator[bytes]:
        yield from self._begin()
        reason = _CUT_SHORT.get(self._finish or "")
        status = "incomplete" if reason else "completed"
        yield from self._end_message(status)
        for call in self._calls.values():
            yield from self._end_call(call, status)
        self._state |= {"status": status, "incomplete_details": {"reason": reason} if reason else None}
        self._state["completed_at"] = None if reason else int(time.time())
        yield self._event(f"response.{status}", response=self.whole())

    def fail(self, error: Body) -> Iterator[bytes]:
        yield from self._begin()
        self._state |= {"status": "failed", "error": {"code": "server_error", "message": error.get("message")}}
        yield self._event("response.failed", response=self.whole())

    def whole(self) -> Body:
        request = self._request
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            **self._state,
            "background": False,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "model": self._model,
            "output": list(self._output),
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None, **(request.reasoning or {})},
            "store": False,
            "temperature": request.temperature,
            "text": {"format": {"type": "text"}, **(request.text or {})},
            "tool_choice": request.tool_choice or "auto",
            "tools": request.tools or [],
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": self._count() if self._usage else None,
            "user": request.user,
            "personalization": self._personalization,
        }

    def _count(self) -> Body:
        tokens = token_counts(self._usage)
        thought = token_count(member(self._usage, "completion_tokens_details"), "reasoning_tokens")
        return {
            "input_tokens": tokens.prompt,
            "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
            "output_tokens": tokens.completion,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": tokens.prompt + tokens.completion,
        }

    # --- events --------------------------------------------------------------------------------

    def _event(self, kind: str, **members: Any) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number - 1, **members})

    def _item_event(self, kind: str, item: Item, **members: Any) -> bytes:
        return self._event(kind, item_id=item.body["id"], output_index=item.index, **members)

    def _first(self) -> Iterator[bytes]:
        yield self._event("response.created", response=self.whole())
        yield self._event("response.in_progress", response=self.whole())

    def _open(self, body: Body) -> Item:
        self._output.append(body)
        return Item(len(self._output) - 1, body)

    def _added(self, item: Item) -> bytes:
        return self._event("response.output_item.added", output_index=item.index, item=item.body)

    def _done(self, item: Item) -> bytes:
        return self._event("response.output_item.done", output_index=item.index, item=item.body)

    def _add_text(self, text: str) -> Iterator[bytes]:
        item = self._message
        if item is None:
            body = {"id": new_id("msg"), "type": "message", "role": "assistant", "content": [], "status": "in_progress"}
            self._message = item = self._open(body)
            yield self._added(item)
            yield self._item_event("response.content_part.added", item, content_index=0, part=item.part)
        item.pieces.append(text)
        yield self._item_event("response.output_text.delta", item, content_index=0, delta=text, logprobs=[])

    def _end_message(self, status: str) -> Iterator[bytes]:
        item, self._message = self._message, None
        if item is not None:
            item.body |= {"content": [item.part], "status": status}
            yield self._item_event("response.output_text.done", item, content_index=0, text=item.text, logprobs=[])
            yield self._item_event("response.content_part.done", item, content_index=0, part=item.part)
            yield self._done(item)

    def _add_call(self, call: Body) -> Iterator[bytes]:
        function = call.get("function") or {}
        item = self._calls.get(index := call["index"])
        if item is None:
            yield from self._end_message("completed")
            body = {"id": new_id("fc"), "type": "function_call", "status": "in_progress", "arguments": ""}
            names = {"call_id": call.get("id") or new_id("call"), "name": function.get("name") or ""}
            item = self._calls[index] = self._open(body | names)
            yield self._added(item)
        if arguments := function.get("arguments"):
            item.pieces.append(arguments)
            yield self._item_event("response.function_call_arguments.delta", item, delta=arguments)

    def _end_call(self, item: Item, status: str) -> Iterator[bytes]:
        item.body |= {"arguments": item.text, "status": status}
        name, arguments = item.body["name"], item.text
        yield self._item_event("response.function_call_arguments.done", item, name=name, arguments=arguments)
        yield self._done(item)
