"""The Messages API: what the engine is asked, the message, its events in their order, and Anthropic's errors."""

from typing import Any

import httpx
import pytest

from services.response.doors.messages_request import HINTS, ONLY, REFUSED, MessagesRequest
from services.server.app import USER_HEADER
from tests.unit.services.engine.fake_engine import answers, fails
from tests.unit.services.response.conftest import Service, sends
from tests.unit.services.response.doors.test_responses import CALL, END, call_piece, chunk, message, read_events
from tests.unit.with_settings import with_settings

TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
RESULT = {"type": "tool_result", "tool_use_id": "t"}
HELLO = [{"role": "user", "content": "hello"}]


def create(service: Service, headers: Any = None, **fields: Any) -> httpx.Response:
    body = {"model": "tiny", "max_tokens": 9, "messages": HELLO, **fields}
    return service.http.post("/v1/messages", json=body, headers=headers)


def streamed(service: Service, *pieces: bytes, cut: bool = False, **fields: Any) -> list[dict[str, Any]]:
    service.engine.chat = sends(*pieces, cut=cut)
    return read_events(create(service, stream=True, **fields))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


# --- what the engine is asked ------------------------------------------------------------------


def test_blocks_become_messages(service: Service) -> None:
    picture = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "What is up?", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Secretly.", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "sky"}},
                {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "blue"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "is_error": True,
                    "content": [{"type": "text", "text": "dark"}],
                },
                {"type": "text", "text": "And this?"},
                {"type": "image", "source": picture},
                {"type": "image", "source": {"type": "url", "url": "https://pictures.example/1.png"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
    ]
    system = [{"type": "text", "text": "You see."}, {"type": "text", "text": "Be brief."}]
    answer = create(service, messages=turns, system=system)
    assert answer.status_code == 200, answer.text
    calls = [
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}},
        {"id": "t2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
    ]
    assert service.sent() == [
        {"role": "system", "content": "You see.\n\nBe brief."},
        {"role": "user", "content": "What is up?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t1", "content": "blue"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error: dark"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t3", "content": ""},
    ]


def test_fields_become_those_of_a_chat(service: Service) -> None:
    schema = {"type": "object"}
    answer = create(
        service,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        stop_sequences=["END"],
        tools=[TOOL | {"cache_control": {"type": "ephemeral"}}],
        tool_choice={"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        thinking={"type": "disabled"},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": schema}},
        output_format=None,
        service_tier="auto",
        cache_control={"type": "ephemeral"},
    )
    assert answer.status_code == 200, answer.text
    sent = dict(service.engine.bodies[-1])
    assert sent.pop("messages") == HELLO
    function = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
    assert sent == {
        "model": "tiny",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "stop": ["END"],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "reasoning_effort": "high",
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
    }


@pytest.mark.parametrize(("kind", "choice"), [("auto", "auto"), ("any", "required"), ("none", "none")])
def test_the_choice_of_tools_is_translated(service: Service, kind: str, choice: str) -> None:
    create(service, tools=[TOOL], tool_choice={"type": kind})
    assert service.engine.bodies[-1]["tool_choice"] == choice


@pytest.mark.parametrize("named", [{"metadata": {"user_id": "ada"}}, {}])
def test_the_user_is_found_as_in_a_chat(service: Service, named: dict[str, Any]) -> None:
    service.learn("ada", {"type": "statement", "text": "I like tea."})
    headers = {} if named else {"X-User-Id": "ada"}
    assert create(service, headers, **named).json()["personalization"]["user"] == "ada"
    assert "I like tea" in str(service.sent())
    refused = create(service, headers | {USER_HEADER: "bob"}, **named)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": None}, "max_tokens:"),
        ({"messages": []}, "messages:"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role:"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages.0.content.0: files"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]}, "files"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "'tool_use' is no block"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]}, "messages.0.content.0.id:"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages.0.content.0.tool_use_id:"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]}, "files"),
        ({"messages": [{"role": "user", "content": [RESULT | {"content": 5}]}]}, "content.0.content: must be a text"),
        ({"system": [{"type": "image"}]}, "system.0:"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0: only tools of your own"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools.0.defer_loading:"),
        ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "tool_choice.type:"),
        ({"tools": [TOOL], "tool_choice": {"type": ["auto"]}}, "tool_choice.type:"),
        ({"output_config": {"effort": ["max"]}}, "output_config.effort:"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format:"),
        ({"output_format": {}}, "output_format: send output_config.format"),
        ({"mcp_servers": []}, "mcp_servers:"),
        ({"container": "c"}, "container:"),
        ({"n": 2}, "n:"),
        ({"stop": "x"}, "stop: no field of this API; send stop_sequences"),
        ({"strange": 1}, "strange:"),
        ({"metadata": {"user_id": "a/b"}}, "metadata.user_id:"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(service: Service, fields: Any, words: str) -> None:
    answer = create(service, **fields)
    error = answer.json()
    assert (answer.status_code, error["type"], error["error"]["type"]) == (422, "error", "invalid_request_error")
    assert words in error["error"]["message"]
    assert service.engine.bodies == []


def test_each_field_has_one_rule() -> None:
    assert ONLY.keys() <= REFUSED.keys()
    assert not REFUSED.keys() & ({*MessagesRequest.model_fields} | {*HINTS})


def test_the_version_is_one_that_is_spoken(service: Service) -> None:
    for version in ("2023-06-01", "2026-10-21"):
        assert create(service, {"anthropic-version": version}, temperature=0.5).status_code == 200
    answer = create(service, {"anthropic-version": "2099-01-01"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "invalid_request_error")


# --- whole answers -----------------------------------------------------------------------------


def test_the_message_is_anthropics(service: Service) -> None:
    service.engine.chat = answers(message())
    answer = create(service, {"X-Request-Id": "abc-1"})
    body = answer.json()
    assert (answer.headers["request-id"], body["id"][:4]) == ("abc-1", "msg_")
    assert {name: body[name] for name in ("type", "role", "model", "content", "stop_reason", "stop_sequence")} == {
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    assert body["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 3,
    }


@pytest.mark.parametrize(
    ("finish", "stop", "reason", "sequence"),
    [
        ("length", None, "max_tokens", None),
        ("content_filter", None, "refusal", None),
        ("stop", "END", "stop_sequence", "END"),
        ("stop", 151645, "end_turn", None),
    ],
)
def test_the_reason_of_the_end_is_translated(
    service: Service, finish: str, stop: Any, reason: str, sequence: str | None
) -> None:
    whole = message(finish)
    whole["choices"][0]["stop_reason"] = stop
    service.engine.chat = answers(whole)
    body = create(service, stop_sequences=["END"]).json()
    assert (body["stop_reason"], body["stop_sequence"]) == (reason, sequence)


def test_calls_of_tools_are_blocks(service: Service) -> None:
    broken = {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": '{"at":'}}
    service.engine.chat = answers(message("tool_calls", content=None, tool_calls=[CALL, broken]))
    body = create(service, tools=[TOOL]).json()
    assert body["stop_reason"] == "tool_use"
    assert body["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "sky"}},
        {"type": "tool_use", "id": "call_2", "name": "look", "input": {}},
    ]


@pytest.mark.parametrize("stream", [True, False])
def test_errors_before_the_answer_are_statuses(service: Service, stream: bool) -> None:
    for status, expected, kind in ((404, 404, "not_found_error"), (503, 503, "overloaded_error")):
        service.engine.chat = fails(status)
        answer = create(service, stream=stream)
        assert (answer.status_code, answer.json()["error"]["type"]) == (expected, kind)
        assert answer.headers["request-id"] == answer.json()["request_id"]


# --- streams -----------------------------------------------------------------------------------


def test_text_and_calls_come_in_the_documented_order(service: Service) -> None:
    events = streamed(
        service,
        chunk(role="assistant", content=""),
        chunk(content="I "),
        chunk(content="look."),
        chunk(**call_piece(0, "", id="c1", type="function", function={"name": "look"})),
        chunk(**call_piece(0, '{"at":')),
        chunk(**call_piece(0, '"sky"}')),
        chunk("tool_calls"),
        *END,
        tools=[TOOL],
    )
    assert kinds(events) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert (events[0]["message"]["content"], events[0]["message"]["stop_reason"]) == ([], None)
    assert [event["index"] for event in events[1:-2]] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert events[5]["content_block"] == {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
    assert events[6]["delta"] == {"type": "input_json_delta", "partial_json": '{"at":'}
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (5, 3)


def test_a_stream_that_breaks_off_ends_with_an_error(service: Service) -> None:
    events = streamed(service, chunk(content="Hi"), cut=True)
    assert kinds(events)[-1] == "error"
    assert events[-1]["error"]["type"] == "api_error"


@with_settings(response={"keep_alive_after_s": 0.01, "keep_alive_s": 0.01})
def test_a_silent_engine_is_bridged_by_pings(service: Service) -> None:
    events = streamed(service, chunk(content="<think>"), *(chunk(content="hm") for _ in range(20)), chunk("stop"), *END)
    assert "ping" in kinds(events)
    assert kinds(events)[-1] == "message_stop"
