"""Streamed chat: what is added and hidden, what an engine may send, and what happens while it is silent."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import openai
import orjson
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from alignx.schemas.requests import PersonalizationUsed
from services.engine.client import RawAnswer
from services.errors import EngineUnavailable
from services.response.chat_stream import KEEP_ALIVE, AnswerEvents, render_stream
from services.response.thinking import ThinkingFilter, hide_in_delta, hide_in_message
from tests.unit.services.engine.fake_engine import answers, fails, late
from tests.unit.services.response.conftest import Service, sends
from tests.unit.with_settings import with_settings

QUESTION = {"role": "user", "content": "Why is the sky blue?"}


def event(number: int) -> bytes:
    return b'data: {"id": "x",  "choices": [{"delta": {"content": "\xc3\xa9%d"}}]}\n\n' % number


STREAM = b"".join(map(event, range(3))) + b"data: [DONE]\n\n"


def member(**used: Any) -> bytes:
    """What is added to the first event of a stream."""
    fields = PersonalizationUsed(**used).model_dump(exclude={"response_id", "arm"})  # for want of a holdout
    return b'"personalization":' + orjson.dumps(fields) + b","


def test_a_stream_passes_with_one_member_added(service: Service) -> None:
    service.write_summary("ada", "Likes brevity.")
    service.engine.chat = sends(STREAM)
    answer = service.chat(user="ada", stream=True, stream_options={"include_usage": True})
    used = {"mode": "summary", "user": "ada", "version": 1}
    assert answer.content == STREAM.replace(b"{", b"{" + member(**used), 1)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-AlignX-Summary-Version"] == "1"
    assert service.engine.bodies[0]["stream_options"] == {"include_usage": True}


def test_events_are_not_held_back(service: Service) -> None:
    service.engine.chat = sends(*(STREAM[i : i + 1] for i in range(100)), STREAM[100:])
    with service.http.stream("POST", "/v1/chat/completions", json={"messages": [QUESTION], "stream": True}) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 1
    assert all(piece.endswith(b"\n\n") for piece in pieces)
    assert b"".join(pieces) == STREAM.replace(b"{", b"{" + member(mode="none", user=None), 1)


async def in_chunks(data: bytes, cuts: list[int], error: Exception | None = None) -> AsyncIterator[bytes]:
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        yield data[start:end]
    if error:
        raise error


def rendered(chunks: AsyncIterator[bytes], choices: int = 1, reasoning: bool = False) -> bytes:
    async def main() -> bytes:
        start = asyncio.get_running_loop().create_future()
        start.set_result(RawAnswer(200, "text/event-stream", chunks))
        used = PersonalizationUsed(mode="ica", user="ada", history=3)
        events = AnswerEvents(used, choices=choices, reasoning=reasoning)
        return b"".join([piece async for piece in render_stream(start, events, keep_alive_s=9)])

    return asyncio.run(main())


ADDED = member(mode="ica", user="ada", history=3)
STREAMS = st.sampled_from(
    [
        STREAM,
        STREAM.replace(b"\n", b"\r\n"),
        STREAM.replace(b"data: ", b"data:"),
        STREAM.replace(b"data: ", b"data:  "),
        b": waiting\n\n" + STREAM,
        b"event: message\nid: 1\n" + STREAM,
        STREAM.removesuffix(b"\n"),
    ]
)


@settings(deadline=None)
@given(STREAMS, st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_chunks_may_end_anywhere(stream: bytes, cuts: list[int]) -> None:
    assert rendered(in_chunks(stream, cuts)) == stream.replace(b"{", b"{" + ADDED, 1)


@settings(deadline=None)
@given(STREAMS, st.integers(0, len(STREAM)), st.lists(st.integers(0, len(STREAM)), max_size=4))
def test_an_engine_that_breaks_off_leaves_whole_events_and_an_error(stream: bytes, end: int, cuts: list[int]) -> None:
    broken = EngineUnavailable("The engine broke off its answer")
    data = stream[: min(end, stream.rindex(b"data:"))]  # without [DONE]
    output = rendered(in_chunks(data, [min(cut, len(data)) for cut in cuts], broken))
    start, error = output.rsplit(b"data: ", 1)
    assert orjson.loads(error) == broken.openai()
    assert error.endswith(b"\n\n")
    assert stream.replace(b"{", b"{" + ADDED, 1).startswith(start)
    assert not start or start.endswith((b"\n\n", b"\r\n\r\n"))
    assert b"[DONE]" not in output


def test_an_engine_that_answers_a_stream_with_a_page_fails_with_a_status(service: Service) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>502</html>", content_type="text/html")

    service.engine.chat = page
    answer = service.chat(stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_error")
    assert answer.headers["Content-Type"] == "application/json"
    assert "html" not in answer.text


# --- reasoning ---------------------------------------------------------------------------------


def delta(index: int = 0, finish: str | None = None, logprobs: Any = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"choices": [choice | ({"logprobs": {"content": logprobs}} if logprobs else {})]}


def stream_of(*documents: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(document) + b"\n\n" for document in documents) + b"data: [DONE]\n\n"


def texts(output: bytes) -> list[str]:
    """What a caller reads, choice by choice."""
    shown: defaultdict[int, str] = defaultdict(str)
    for line in output.splitlines():
        if line.startswith(b"data: {"):
            for choice in orjson.loads(line[6:])["choices"]:
                shown[choice["index"]] += choice["delta"].get("content") or ""
    return [shown[index] for index in sorted(shown)]


SHOWN = {
    "<think>canary</think>\n\nAn answer.": "An answer.",
    "\n<THINK>canary < </b></think><think></think> An answer.": "An answer.",
    "[THINK]canary[/THINK]An answer.": "An answer.",
    "<|channel|>analysis<|message|>canary<|end|><|start|>assistant<|channel|>final<|message|>Yes": "Yes",
    "<think>canary": "",
    " An <think> tag, closed by </think>.": " An <think> tag, closed by </think>.",
    "The tag `</think>` ends it.": "The tag `</think>` ends it.",
    "<thin": "<thin",
    "<b>bold</b>": "<b>bold</b>",
    "": "",
}


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(SHOWN)), min_size=1, max_size=3), st.data())
def test_reasoning_is_hidden_however_it_is_cut(replies: list[str], data: st.DataObject) -> None:
    pieces = [
        delta(index, content=text[start:end])
        for index, text in enumerate(replies)
        for start, end in itertools.pairwise(
            [0, *sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6))), len(text)]
        )
    ]
    pieces = [delta(role="assistant", content=""), *pieces]
    ends = [delta(index, "stop") for index in range(len(replies))]
    stream = stream_of(*pieces, *ends, {"choices": [], "usage": {"completion_tokens": 9}})
    output = rendered(in_chunks(stream, []), choices=len(replies))
    assert texts(output) == [SHOWN[text] for text in replies]
    assert b"canary" not in output
    assert output.count(b'"personalization"') == 1
    assert output.endswith(b'"usage":{"completion_tokens":9}}\n\ndata: [DONE]\n\n')
    assert texts(rendered(in_chunks(stream, []), choices=len(replies), reasoning=True)) == replies


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "reasoning_details"])
def test_reasoning_in_a_field_of_its_own_is_hidden(service: Service, name: str) -> None:
    tokens = [[{"token": token}] for token in ("canary", "Hi", "!")]
    stream = stream_of(
        delta(role="assistant", **{name: None}),
        delta(**{name: "canary"}, logprobs=tokens[0]),
        delta(content="Hi", logprobs=tokens[1]),
        delta(content="!", logprobs=tokens[2]),
        delta(**{name: "canary"}, content=""),
        delta(finish="length"),
    )
    service.engine.chat = sends(stream)
    assert b"canary" in service.chat(stream=True, include_reasoning=True).content
    shown = service.chat(stream=True)
    assert texts(shown.content) == ["Hi!"]
    assert b"canary" not in shown.content
    assert shown.content.count(b'"token":"Hi"') == 1
    assert "include_reasoning" not in service.engine.bodies[0]


def test_log_probabilities_wait_with_their_text() -> None:
    tokens = [{"token": "<"}, {"token": "b>"}]
    stream = stream_of(delta(content="<", logprobs=tokens[:1]), delta(content="b>", logprobs=tokens[1:]))
    last = orjson.loads(rendered(in_chunks(stream, [])).split(b"\n\n")[-3].removeprefix(b"data: "))
    assert last["choices"][0]["logprobs"]["content"] == tokens
    hidden = stream_of(delta(content="<think>x</think>", logprobs=tokens), delta(content="y", logprobs=tokens[:1]))
    assert rendered(in_chunks(hidden, [])).count(b'"token"') == 1


@pytest.mark.parametrize("closing", ["</think>", "[/THINK]", "</seed:think>", "<|channel|>final<|message|>"])
def test_an_opening_tag_may_stand_in_the_prompt(closing: str) -> None:
    message = {"content": f"canary{closing}Hi"}
    hide_in_message({}, message)
    assert message == {"content": "Hi"}


def test_log_probabilities_of_reasoning_are_not_kept() -> None:
    text, choice = ThinkingFilter(), {"logprobs": {"content": [{"token": "x"}]}}
    for piece in ("<think>", "x"):
        hide_in_delta({**choice}, {"content": piece}, text)
    assert text.logprobs == []


@pytest.mark.parametrize("reply", sorted(SHOWN))
def test_reasoning_of_a_whole_answer_is_hidden(service: Service, reply: str) -> None:
    message = {"role": "assistant", "content": reply, "reasoning": "canary"}
    choice = {"index": 0, "message": message, "logprobs": {"content": []}, "finish_reason": "stop"}
    parts = [{"type": "thinking", "thinking": "canary"}, {"type": "text", "text": "Hi"}]
    others = ({"content": None, "tool_calls": [{"id": "c1"}]}, {"content": parts}, {"content": "canary</think>Hi"})
    body = {"choices": [choice, *({"message": other} for other in others)], "usage": {"completion_tokens": 9}}
    service.engine.chat = answers(body)
    first, call, listed, opened = service.chat().json()["choices"]
    assert first == choice | {"message": {"role": "assistant", "content": SHOWN[reply]}, "logprobs": None}
    assert call["message"] == others[0]
    assert listed["message"]["content"] == parts[1:]
    assert opened["message"]["content"] == "Hi"  # the prompt held the opening tag
    whole = service.chat(include_reasoning=True).json()
    assert (whole["choices"], whole["usage"]) == (body["choices"], body["usage"])


# --- what engines send -------------------------------------------------------------------------

BEGIN, END = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}', b'"finish_reason": "stop"}]}'
LAST = b'data: {"choices": [{"index": 0, "delta": {}, ' + END
TOLERATED = {
    "no [DONE]": [BEGIN, LAST],
    "a blank data line": [b"data: ", BEGIN, b"data:", LAST],
    "pings": [b"event: ping\ndata: {}", BEGIN, b"event: ping\ndata: 12:00", b": ping", LAST],
    "two data lines": [BEGIN, b'data: {"choices":\ndata:  [{"index": 0, "delta": {}, ' + END],
    "an object without members": [b"data: {}", BEGIN, LAST],
}


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", sorted(TOLERATED))
def test_openais_client_reads_what_an_engine_may_send(service: Service, name: str, newline: bytes) -> None:
    events = [event.replace(b"\n", newline) + 2 * newline for event in TOLERATED[name]]
    service.engine.chat = sends(*events)
    sdk = openai.OpenAI(base_url=f"{service.url}/v1", api_key="-", default_headers=dict(service.http.headers))
    messages: Any = [QUESTION]
    with sdk, sdk.chat.completions.create(model="tiny", messages=messages, stream=True) as stream:
        choices = [chunk.choices[0] for chunk in stream]
    assert "".join(choice.delta.content or "" for choice in choices) == "Hi"
    assert choices[-1].finish_reason == "stop"


def test_of_several_choices_each_must_end(service: Service) -> None:
    first = stream_of(delta(0, content="a"), delta(1, content="b"), delta(0, "stop")).removesuffix(b"data: [DONE]\n\n")
    service.engine.chat = sends(first)
    assert b"engine_unavailable" in service.chat(stream=True, n=2).content
    service.engine.chat = sends(first, b"data: " + orjson.dumps(delta(1, "stop")) + b"\n\n")
    assert service.chat(stream=True, n=2).content.endswith(b"data: [DONE]\n\n")


# --- waiting -----------------------------------------------------------------------------------


SOON: dict[str, Any] = {"response": {"keep_alive_after_s": 0.05, "keep_alive_s": 0.05}}


@with_settings(**SOON)
def test_comments_keep_the_connection_until_the_first_token(service: Service) -> None:
    service.write_summary("ada", "Likes brevity.")
    service.engine.chat = late(1, sends(STREAM))
    body = {"messages": [QUESTION], "stream": True, "user": "ada"}
    with service.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == KEEP_ALIVE  # before the engine has sent anything
        rest = b"".join(pieces)
    assert answer.headers["X-AlignX-Summary-Version"] == "1"
    assert rest.count(KEEP_ALIVE) > 1
    used = member(mode="summary", user="ada", version=1)
    assert rest.replace(KEEP_ALIVE, b"") == STREAM.replace(b"{", b"{" + used, 1)


@with_settings(**SOON)
def test_comments_keep_the_connection_while_reasoning_is_hidden(service: Service) -> None:
    thinking = [b"data: " + orjson.dumps(delta(content=text)) + b"\n\n" for text in ["<think>", *"canary" * 4]]
    service.engine.chat = sends(*thinking)
    answer = service.chat(stream=True)
    assert KEEP_ALIVE in answer.content
    assert b"canary" not in answer.content


@with_settings(**SOON)
def test_a_fault_behind_the_first_comment_is_an_event(service: Service) -> None:
    service.engine.chat = late(0.3, fails(500))
    answer = service.chat(stream=True)
    assert answer.status_code == 200
    *comments, error, rest = answer.content.split(b"\n\n")
    assert (comments[0] + b"\n\n", rest) == (KEEP_ALIVE, b"")
    assert orjson.loads(error.removeprefix(b"data: "))["error"]["code"] == "engine_unavailable"


@with_settings(engine={"first_token_timeout_s": 0.2, "breaker_failures": 1})
def test_an_engine_without_a_first_token_is_unavailable(service: Service) -> None:
    service.engine.chat = service.engine.silent
    answer = service.chat(stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "0.2 s" in answer.json()["error"]["message"]
    assert service.engine.left.wait(5)
    assert service.http.get("/readyz").json()["checks"]["engine"] != "ok"


@with_settings(engine={"concurrency": 1}, **SOON)
def test_a_caller_that_leaves_before_the_first_token_ends_the_engines_work(service: Service) -> None:
    service.engine.chat = service.engine.silent
    body = {"messages": [QUESTION], "stream": True}
    with service.client("acme") as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert next(answer.iter_raw()) == KEEP_ALIVE
    assert service.engine.left.wait(5)
    service.engine.chat = sends(STREAM)
    assert service.chat(stream=True).status_code == 200
