"""What an engine sends that is no chat ends as the door's own error, whole or streamed, and never as a 500."""

from typing import Any

import httpx
import orjson
import pytest

from tests.unit.services.engine.fake_engine import answers
from tests.unit.services.response.conftest import Service, sends
from tests.unit.services.response.doors.test_responses import END, chunk, message, read_events

MALFORMED = [
    {"tool_calls": 3},
    {"tool_calls": ["look"]},
    {"tool_calls": [{"function": "look"}]},
    {"tool_calls": [{"function": {"name": "look", "arguments": {"at": "sky"}}}]},
    {"content": 5},
    {"content": {"text": "Hi."}},
    {"refusal": ["no"]},
]
PATHS = ["/v1/responses", "/v1/messages"]


def ask(service: Service, path: str, **fields: Any) -> httpx.Response:
    hello = [{"role": "user", "content": "hello"}]
    turn = {"input": "hello"} if path == "/v1/responses" else {"messages": hello, "max_tokens": 9}
    return service.http.post(path, json={"model": "tiny", **turn, **fields})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("members", MALFORMED, ids=str)
def test_a_malformed_message_is_the_engines_error(service: Service, path: str, members: dict[str, Any]) -> None:
    service.engine.chat = answers(message(**members))
    answer = ask(service, path)
    assert answer.status_code == 502
    assert "not of the form of a chat" in answer.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("members", MALFORMED, ids=str)
def test_a_malformed_piece_ends_the_stream_with_an_error(service: Service, path: str, members: dict[str, Any]) -> None:
    service.engine.chat = sends(chunk(content="Hi"), chunk(**members), *END)
    events = ask(service, path, stream=True).text
    last = events.rstrip().rsplit("\n\n", 1)[-1]
    assert "not of the form of a chat" in last
    assert "error" in last or "failed" in last


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("error", ["CUDA out of memory", {"message": "CUDA out of memory"}], ids=["text", "object"])
def test_an_error_of_any_form_ends_the_stream_with_an_error(service: Service, path: str, error: Any) -> None:
    service.engine.chat = sends(chunk(content="Hi"), b"data: " + orjson.dumps({"error": error}) + b"\n\n", *END)
    last = read_events(ask(service, path, stream=True))[-1]
    assert last["type"] == ("response.failed" if path == "/v1/responses" else "error")
    assert "CUDA out of memory" in str(last)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("finish", [7, ["stop"], {"reason": "stop"}])
def test_a_malformed_end_is_the_engines_error(service: Service, path: str, finish: Any) -> None:
    service.engine.chat = answers(message(finish))
    assert ask(service, path).status_code == 502


@pytest.mark.parametrize("members", [{"content": 5}, {"content": {"text": "Hi."}}, {"tool_calls": 3}], ids=str)
def test_a_chat_stream_goes_on_behind_a_malformed_piece(service: Service, members: dict[str, Any]) -> None:
    service.engine.chat = sends(chunk(content="Hi"), chunk(**members), chunk(content=" there"), *END)
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
    answer = service.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert " there" in answer.text
    assert answer.text.rstrip().endswith("[DONE]")
