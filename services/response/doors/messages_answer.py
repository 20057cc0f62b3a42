"""A chat's answer in the form of Anthropic's Messages API: one message, or its events in their order.

    message_start, content_block_start, content_block_delta …, content_block_stop, …, message_delta, message_stop

`ping` may stand anywhere; `error` ends a stream that breaks off.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from services.engine.wire import token_counts
from services.response.doors.door import Body, Door, event, new_id
from services.response.doors.messages_request import MessagesRequest

_STOP_REASONS: Final = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
"""By the chat's finish reason; others are `end_turn` or `stop_sequence`."""


class MessagesDoor(Door):
    """One message."""

    keep_alive = event({"type": "ping"})

    def __init__(self, request: MessagesRequest) -> None:
        super().__init__(request.model or "")
        self._stops = request.stop_sequences or []
        self._id = new_id("msg")
        self._blocks: list[Body] = []
        self._inputs: dict[int, list[str]] = {}
        """Arguments of the calls so far, by the place of the block."""
        self._places: dict[int, int] = {}
        """Places of the calls' blocks, by their number in the chat."""
        self._open: int | None = None
        self._stop: Any = None

    def end(self) -> Iterator[bytes]:
        yield from self._begin()
        yield from self._close()
        message = self.whole()
        delta = {name: message[name] for name in ("stop_reason", "stop_sequence")}
        yield event({"type": "message_delta", "delta": delta, "usage": message["usage"]})
        yield event({"type": "message_stop"})

    def fail(self, error: Body) -> Iterator[bytes]:
        kind = "invalid_request_error" if error.get("type") == "invalid_request_error" else "api_error"
        yield event({"type": "error", "error": {"type": kind, "message": error.get("message")}})

    def whole(self) -> Body:
        for place, pieces in self._inputs.items():
            self._blocks[place]["input"] = _load_object("".join(pieces))
        tokens = token_counts(self._usage)
        is_matched = isinstance(self._stop, str) and self._stop in self._stops
        reason = "stop_sequence" if is_matched else _STOP_REASONS.get(self._finish or "", "end_turn")
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": list(self._blocks),
            "stop_reason": reason if self._finish else None,
            "stop_sequence": self._stop if is_matched else None,
            "usage": {
                "input_tokens": max(0, tokens.prompt - tokens.cached),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": tokens.cached,
                "output_tokens": tokens.completion,
            },
            "personalization": self._personalization,
        }

    # --- events --------------------------------------------------------------------------------

    def _note(self, choice: Body) -> None:
        super()._note(choice)
        self._stop = choice.get("stop_reason") or self._stop

    def _first(self) -> Iterator[bytes]:
        start = self.whole() | {"content": [], "stop_reason": None, "stop_sequence": None}
        yield event({"type": "message_start", "message": start})

    def _start(self, block: Body) -> Iterator[bytes]:
        yield from self._close()
        self._blocks.append(block)
        self._open = len(self._blocks) - 1
        yield event({"type": "content_block_start", "index": self._open, "content_block": block})

    def _close(self) -> Iterator[bytes]:
        place, self._open = self._open, None
        if place is not None:
            yield event({"type": "content_block_stop", "index": place})

    def _add_text(self, text: str) -> Iterator[bytes]:
        if self._open is None or self._blocks[self._open]["type"] != "text":
            yield from self._start({"type": "text", "text": ""})
        place = len(self._blocks) - 1
        self._blocks[place]["text"] += text
        yield event({"type": "content_block_delta", "index": place, "delta": {"type": "text_delta", "text": text}})

    def _add_call(self, call: Body) -> Iterator[bytes]:
        function, number = call.get("function") or {}, call["index"]
        if number not in self._places:
            block = {"type": "tool_use", "id": call.get("id") or new_id("toolu"), "name": function.get("name") or ""}
            yield from self._start(block | {"input": {}})
            self._places[number] = len(self._blocks) - 1
        place = self._places[number]
        if arguments := function.get("arguments"):
            self._inputs.setdefault(place, []).append(arguments)
            delta = {"type": "input_json_delta", "partial_json": arguments}
            yield event({"type": "content_block_delta", "index": place, "delta": delta})


def _load_object(text: str) -> Body:
    """The arguments of a call; one that is cut short or no object has none that could be used."""
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return arguments if isinstance(arguments, dict) else {}
