"""Parallel calls of tools stay apart, also those of an engine that gives them no number."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from services.response.doors.door import Body, Door, render_whole
from services.response.doors.messages_answer import MessagesDoor
from services.response.doors.messages_request import MessagesRequest
from services.response.doors.responses_answer import ResponsesDoor
from services.response.doors.responses_request import ResponsesRequest
from tests.unit.services.response.doors.test_responses import CALL, message

HELLO: Any = [{"role": "user", "content": "hello"}]
CALLS = [("c1", {"at": "sky"}), ("c2", {"at": "sea"})]


def open_messages() -> Door:
    return MessagesDoor(MessagesRequest(model="tiny", max_tokens=9, messages=HELLO))


def open_responses() -> Door:
    return ResponsesDoor(ResponsesRequest(input="hello"))


def read_calls(answer: Body) -> list[tuple[str, Any]]:
    """Id and arguments of each call in a door's answer."""
    if "output" in answer:
        return [(item["call_id"], orjson.loads(item["arguments"])) for item in answer["output"]]
    return [(block["id"], block["input"]) for block in answer["content"]]


def piece(arguments: str, **members: Any) -> Body:
    return {"function": {"name": "look" if members.get("id") else None, "arguments": arguments}, **members}


STREAMS = {
    "null": [
        [piece('{"at":', index=None, id="c1")],
        [piece('"sky"}', index=None)],
        [piece('{"at":', index=None, id="c2")],
        [piece('"sea"}', index=None)],
    ],
    "the id again": [
        [piece('{"at":', id="c1"), piece('{"at":', id="c2")],
        [piece('"sky"}', id="c1"), piece('"sea"}', id="c2")],
    ],
    "empty ids": [
        [piece('{"at":"sky"}', index=None, id="c1")],
        [piece('{"at":', index=None, id="c2")],
        [piece('"sea"}', index=None, id="")],
    ],
    "first ones alone": [
        [piece('{"at":', index=0, id="c1")],
        [piece('"sky"}')],
        [piece('{"at":', index=1, id="c2")],
        [piece('"sea"}')],
    ],
}


@pytest.mark.parametrize("open_door", [open_messages, open_responses])
@pytest.mark.parametrize("number", [{}, {"index": None}, {"index": 0}], ids=str)
def test_calls_of_a_whole_answer_stay_apart(open_door: Callable[[], Door], number: Body) -> None:
    calls = [
        {**CALL, **number, "id": name, "function": {"name": "look", "arguments": orjson.dumps(given).decode()}}
        for name, given in CALLS
    ]
    answer = message("tool_calls", content=None, tool_calls=calls)
    assert read_calls(render_whole(answer, open_door())) == CALLS


@pytest.mark.parametrize("open_door", [open_messages, open_responses])
@pytest.mark.parametrize("deltas", STREAMS.values(), ids=STREAMS)
def test_streamed_calls_stay_apart(open_door: Callable[[], Door], deltas: list[list[Body]]) -> None:
    door = open_door()
    for calls in deltas:
        list(door.feed({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}))
    list(door.end())
    assert read_calls(door.whole()) == CALLS
