"""The Responses API: what the engine is asked, and the object and events as OpenAI's types have them."""

from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from services.response.doors.responses_request import HINTS, ONLY, REFUSED, ResponsesRequest
from services.server.app import USER_HEADER
from tests.unit.services.engine.fake_engine import answers, fails, late
from tests.unit.services.response.conftest import Service, sends
from tests.unit.with_settings import with_settings

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}, "strict": None}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def message(finish: str = "stop", **members: Any) -> dict[str, Any]:
    body = {"role": "assistant", "content": "Hi.", **members}
    return {
        "id": "chatcmpl-1",
        "model": "tiny",
        "choices": [{"index": 0, "message": body, "finish_reason": finish}],
        "usage": USAGE,
    }


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + orjson.dumps({"model": "tiny", "choices": choices}) + b"\n\n"


def call_piece(index: int, arguments: str, **first: Any) -> dict[str, Any]:
    return {
        "tool_calls": [{"index": index, **first, "function": {**first.get("function", {}), "arguments": arguments}}]
    }


END = (b"data: " + orjson.dumps({"model": "tiny", "choices": [], "usage": USAGE}) + b"\n\n", b"data: [DONE]\n\n")


def respond(service: Service, given: Any = "hello", headers: Any = None, **fields: Any) -> httpx.Response:
    return service.http.post("/v1/responses", json={"input": given, **fields}, headers=headers)


def read_events(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events, each under the name of its type."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = []
    for text in answer.text.split("\n\n")[:-1]:
        if not text.startswith(":"):
            name, data = text.split("\n")
            events.append(orjson.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
    return events


def streamed(service: Service, *pieces: bytes, cut: bool = False, **fields: Any) -> list[dict[str, Any]]:
    """The events, valid by the SDK's own types."""
    service.engine.chat = sends(*pieces, cut=cut)
    answer = respond(service, stream=True, **fields)
    events = read_events(answer)
    for event in events:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# --- what the engine is asked ------------------------------------------------------------------


def test_items_become_messages(service: Service) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "What is up there?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"at":"sky"}'},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "blue"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "grey"}]},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "And this?"},
                {"type": "input_image", "image_url": "https://pictures.example/1.png", "detail": "low"},
            ],
        },
    ]
    assert respond(service, items, instructions="You see.").status_code == 200
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}},
        {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
    ]
    assert service.sent() == [
        {"role": "system", "content": "You see."},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "What is up there?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
        {"role": "tool", "tool_call_id": "c2", "content": "grey"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png", "detail": "low"}},
            ],
        },
    ]


def test_fields_become_those_of_a_chat(service: Service) -> None:
    schema = {"type": "object"}
    answer = respond(
        service,
        model="tiny",
        max_output_tokens=5,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        tools=[TOOL],
        tool_choice={"type": "function", "name": "look"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "shape", "schema": schema, "strict": True}, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        store=False,
        include=["reasoning.encrypted_content"],
        truncation="disabled",
        prompt_cache_key="any",
        metadata={"topic": "sky"},
    )
    assert answer.status_code == 200, answer.text
    sent = dict(service.engine.bodies[-1])
    assert sent.pop("messages") == [{"role": "user", "content": "hello"}]
    assert sent == {
        "model": "tiny",
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "tools": [{"type": "function", "function": {k: TOOL[k] for k in ("name", "description", "parameters")}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "shape", "schema": schema, "strict": True}},
        "verbosity": "low",
        "reasoning_effort": "low",
    }
    assert (answer.json()["metadata"], answer.json()["store"]) == ({"topic": "sky"}, False)


@pytest.mark.parametrize("named", [{"user": "ada"}, {"safety_identifier": "ada"}, {"metadata": {"user_id": "ada"}}, {}])
def test_the_user_is_found_as_in_a_chat(service: Service, named: dict[str, Any]) -> None:
    service.learn("ada", {"type": "statement", "text": "I like tea."})
    answer = respond(service, headers={} if named else {"X-User-Id": "ada"}, **named)
    assert answer.json()["personalization"]["user"] == "ada"
    assert "I like tea" in str(service.sent())
    assert answer.headers["X-AlignX-Mode"] == "summary"
    refused = respond(service, headers={USER_HEADER: "bob", **({} if named else {"X-User-Id": "ada"})}, **named)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"include_reasoning": True}, "include_reasoning"),
        ({"chat_template": "x"}, "chat_template"),
        ({"strange": 1}, "strange"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0"),
        ({"input": [{"type": "computer_call"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input.0.content.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input.0.content.0"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        ({"input": [{"type": "function_call", "name": "look"}]}, "input.0"),
        ({"input": []}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"user": "a/b"}, "user"),
        ({"personalization": {"mode": "summary"}}, "user"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_cannot_be_had_is_refused_by_name(service: Service, fields: Any, param: str, stream: bool) -> None:
    answer = respond(service, **{"given": "hello", "stream": stream, **_as_given(fields)})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert service.engine.bodies == []


def _as_given(fields: dict[str, Any]) -> dict[str, Any]:
    return {"given" if name == "input" else name: value for name, value in fields.items()}


def test_each_field_has_one_rule() -> None:
    fields = set(ResponsesRequest.model_fields)
    assert ONLY.keys() <= REFUSED.keys()
    assert fields & REFUSED.keys() == {"store"}
    assert not REFUSED.keys() & set(HINTS)


# --- whole answers -----------------------------------------------------------------------------


def test_the_object_is_openais(service: Service) -> None:
    service.engine.chat = answers(message())
    body = respond(service, user="bob", max_output_tokens=9).json()
    response = Response.model_validate(body, strict=False)
    assert (response.status, response.output_text, response.model, response.error) == ("completed", "Hi.", "tiny", None)
    assert response.usage is not None
    assert response.usage.model_dump(include={"input_tokens", "output_tokens", "total_tokens"}) == {
        "input_tokens": 9,
        "output_tokens": 3,
        "total_tokens": 12,
    }
    assert response.usage.input_tokens_details.cached_tokens == 4
    assert response.usage.output_tokens_details.reasoning_tokens == 1
    assert body["personalization"] == {"mode": "none", "user": "bob", "version": None, "history": 0}
    assert (response.id[:5], response.output[0].type) == ("resp_", "message")


def test_calls_of_tools_are_items(service: Service) -> None:
    service.engine.chat = answers(message("tool_calls", content=None, tool_calls=[CALL, CALL | {"id": "call_2"}]))
    output = respond(service, tools=[TOOL]).json()["output"]
    assert [(item["type"], item["call_id"], item["name"], item["arguments"], item["status"]) for item in output] == [
        ("function_call", "call_1", "look", '{"at":"sky"}', "completed"),
        ("function_call", "call_2", "look", '{"at":"sky"}', "completed"),
    ]


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_is_cut_short_is_incomplete(service: Service, finish: str, reason: str) -> None:
    service.engine.chat = answers(message(finish))
    body = respond(service).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert body["output"][0]["status"] == "incomplete"


def test_a_text_in_parts_is_joined(service: Service) -> None:
    parts = [{"type": "text", "text": text} for text in ("Hi", ".")]
    service.engine.chat = answers(message(content=parts))
    assert respond(service).json()["output"][0]["content"][0]["text"] == "Hi."
    last = streamed(service, chunk(content=parts), chunk("stop"), *END)[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == "Hi."


def test_reasoning_is_hidden(service: Service) -> None:
    service.engine.chat = answers(message(content="<think>Secretly.</think>Hi.", reasoning="Secretly."))
    assert "Secretly" not in respond(service).text


@pytest.mark.parametrize("stream", [True, False])
def test_errors_before_the_answer_are_statuses(service: Service, stream: bool) -> None:
    service.engine.chat = fails(404)
    answer = respond(service, model="other", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    service.engine.chat = fails(503)
    answer = respond(service, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")


# --- streams -----------------------------------------------------------------------------------


def test_a_text_comes_in_the_documented_order(service: Service) -> None:
    events = streamed(
        service, chunk(role="assistant", content=""), chunk(content="Hi"), chunk("stop", content="."), *END
    )
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert service.engine.bodies[-1]["stream_options"] == {"include_usage": True}
    assert len({event["item_id"] for event in events if "item_id" in event}) == 1
    assert events[0]["response"]["status"] == "in_progress"
    last = events[-1]["response"]
    assert (last["output"][0]["content"][0]["text"], last["usage"]["total_tokens"]) == ("Hi.", 12)
    assert last["id"] == events[0]["response"]["id"]
    assert last["personalization"]["mode"] == "none"


def test_calls_of_tools_follow_the_text(service: Service) -> None:
    events = streamed(
        service,
        chunk(content="I look."),
        chunk(**call_piece(0, "", id="c1", type="function", function={"name": "look"})),
        chunk(**call_piece(0, '{"at":')),
        chunk(**call_piece(1, "{}", id="c2", type="function", function={"name": "look"})),
        chunk(**call_piece(0, '"sky"}')),
        chunk("tool_calls"),
        *END,
        tools=[TOOL],
    )
    assert kinds(events)[4:] == [
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    output = events[-1]["response"]["output"]
    assert [(item["call_id"], item["arguments"]) for item in output[1:]] == [("c1", '{"at":"sky"}'), ("c2", "{}")]
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert all(after == before + 1 for before, after in pairwise(added))


def test_a_stream_that_breaks_off_fails(service: Service) -> None:
    events = streamed(service, chunk(content="Hi"), cut=True)
    assert kinds(events)[-1] == "failed"
    assert events[-1]["response"]["status"] == "failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"


def test_an_answer_without_text_has_no_items(service: Service) -> None:
    events = streamed(service, chunk("stop", role="assistant"), *END)
    assert kinds(events) == ["created", "in_progress", "completed"]
    assert events[-1]["response"]["output"] == []


@with_settings(response={"keep_alive_after_s": 0.01, "keep_alive_s": 0.01})
def test_a_silent_engine_keeps_the_stream_open(service: Service) -> None:
    service.engine.chat = late(0.1, sends(chunk("stop", content="Hi."), *END))
    text = respond(service, stream=True).text
    assert text.startswith(": keep-alive\n\n")
    assert "event: response.completed" in text


@pytest.mark.parametrize("body", [{"choices": []}, {"choices": [{"text": "Hi."}]}, {"object": "error"}])
def test_an_answer_without_a_message_is_the_engines_fault(service: Service, body: dict[str, Any]) -> None:
    service.engine.chat = answers(body)
    answer = respond(service)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_error")
