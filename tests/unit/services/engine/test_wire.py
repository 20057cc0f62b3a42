"""What an engine answers, well formed and not, as the client reads it."""

from typing import Any

import orjson
import pytest

from services.engine.limits import Engine
from services.engine.wire import AnswerTail
from services.errors import AlignXError, ContextExceeded, EngineError, EngineRejected, EngineUnavailable
from tests.unit.services.engine.fake_engine import (
    MESSAGES,
    SAMPLING,
    Answer,
    Calls,
    FakeEngine,
    answers,
    delta,
    fails,
    first_token,
    refused,
    sends,
    sse,
)

pytestmark = pytest.mark.anyio


async def test_events_split_over_packets_are_joined(fake: FakeEngine, engine: Engine) -> None:
    wire = b": ping\r\n\r\ndata: " + orjson.dumps(delta("stop", content="né")) + b"\r\n\r\ndata: [DONE]\r\n\r\n"
    fake.chat = sends(*(wire[place : place + 1] for place in range(len(wire))))
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "né"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_reported_apart_is_put_back_in_tags(fake: FakeEngine, engine: Engine, name: str) -> None:
    fake.chat = sse(delta(**{name: "a"}), delta(**{name: "b"}), delta("stop", content="c"))
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "<think>ab</think>c"
    fake.chat = sse(delta("stop", **{name: "a"}))
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "<think>a</think>"
    fake.chat = sse(delta("length", **{name: "a"}))
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "<think>a"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (sse(delta(content="a"), done=False), EngineUnavailable),
        (sse(delta(content="a"), done=False, cut=True), EngineUnavailable),
        (sse(b"{not json"), EngineError),
        (sse({"no": "choices"}), EngineError),
        (sse(b"[]"), EngineError),
        (sse({"choices": {}}), EngineError),
        (sse({"choices": [{"delta": {"content": 7}}]}), EngineError),
        (sse(b'{"error":' + b"[" * 400 + b"]" * 400 + b"}"), EngineUnavailable),
        (sse(delta(content="a"), {"error": {"message": "a canary", "code": 400}}), EngineRejected),
        (sse({"error": {"message": "a canary", "code": 500}}), EngineUnavailable),
        (sse({"error": "a canary"}), EngineUnavailable),
        (fails(400), EngineRejected),
        (fails(413), ContextExceeded),
        (fails(422), EngineRejected),
        (fails(401), EngineUnavailable),
        (fails(404), EngineUnavailable),
        (fails(429), EngineUnavailable),
        (fails(500), EngineUnavailable),
        (fails(503), EngineUnavailable),
    ],
)
async def test_faults_are_sorted_by_who_can_mend_them(
    fake: FakeEngine, engine: Engine, calls: Calls, answer: Answer, kind: type[AlignXError]
) -> None:
    fake.chat = answer
    await refused(engine.complete(MESSAGES, **SAMPLING), kind)
    outcome = {EngineUnavailable: "unavailable", EngineRejected: "rejected", EngineError: "error"}
    assert [call.outcome for call in calls] == [outcome.get(kind, "rejected")]


A, STOP = (b"data: " + orjson.dumps(event) for event in (delta(content="a"), delta("stop")))


def sent(*events: bytes, newline: bytes = b"\n") -> Answer:
    """Events as they stand."""
    return sends(b"".join(event.replace(b"\n", newline) + 2 * newline for event in events))


@pytest.mark.parametrize(
    "answer",
    [
        sse(delta(content="a"), delta("stop"), done=False),
        sse(delta(content="a"), delta("stop"), done=False, cut=True),
        sent(b"data: ", b"event: ping\ndata: {}", b"event: ping\ndata: 12:00", b"event: message\n" + A, b": on", STOP),
        sent(A, STOP, newline=b"\r\n"),
        sent(A.replace(b"[", b"\ndata: [", 1), STOP),
        sent(A + b"\n" + STOP),
        sse(b"", delta(content="a"), b" ", {}, delta("stop"), {"choices": None}),
        sse(b"", delta(content="a"), delta("stop"), done=False),
        sse({"choices": [{"delta": {"content": [{"type": "text", "text": "a"}]}}]}, delta("stop")),
    ],
    ids=[
        "no [DONE]",
        "broken off behind its end",
        "pings",
        "CRLF",
        "two lines",
        "no blank line",
        "blank data and pings",
        "blank data, no [DONE]",
        "parts",
    ],
)
async def test_an_answer_with_a_finish_reason_is_whole(
    fake: FakeEngine, engine: Engine, calls: Calls, answer: Answer
) -> None:
    fake.chat = answer
    completion = await engine.complete(MESSAGES, **SAMPLING)
    assert (completion.text, completion.finish_reason) == ("a", "stop")
    async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme") as started:
        raw = b"".join([chunk async for chunk in started.chunks])
    assert raw.count(b"data: [DONE]\n\n") == 1
    assert raw.endswith(b"data: [DONE]\n\n")
    assert [call.outcome for call in calls] == ["ok", "ok"]


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_finish_reason_counts_wherever_it_stands(size: int) -> None:
    stream = A + b"\n\n" + STOP + b"\n\ndata: " + b" " * 5_000 + b'{"choices": []}\n\n'
    tails = [AnswerTail(choices=choices, streamed=True) for choices in (1, 2)]
    for tail in tails:
        for start in range(0, len(stream), size):
            tail.feed(stream[start : start + size])
    assert tails[0].end(None) == b"data: [DONE]\n\n"
    with pytest.raises(EngineUnavailable):
        tails[1].end(None)


@pytest.mark.parametrize("before", [b": waiting\n\n", b"data: \n\n", b"event: ping\n", b"\r\n"])
async def test_an_error_behind_comments_is_still_a_status(fake: FakeEngine, engine: Engine, before: bytes) -> None:
    fake.chat = sent(before + b'data:{"error": {"message": "a canary", "code": 400}}')
    await refused(engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme").__aenter__(), EngineRejected)


async def test_a_refusal_says_what_it_means(fake: FakeEngine, engine: Engine) -> None:
    fake.chat = fails(400, "This model's maximum context length is 8 tokens: a canary")
    error = await refused(engine.complete(MESSAGES, **SAMPLING), ContextExceeded)
    assert "context window" in error.detail
    words = {"type": "invalid_request_error", "param": "top_k", "code": "a canary in words", "message": "a canary"}
    fake.chat = answers({"error": words}, 400)
    error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineRejected)
    assert error.detail == "The engine refused this input (status 400, invalid_request_error, top_k)"
    fake.chat = fails(503, **{"Retry-After": "7"})
    error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    assert ("overloaded" in error.detail, error.retry_after) == (True, 7.0)


@pytest.mark.parametrize(
    "answer",
    [
        sse(delta(content="a"), done=False),
        sse(delta(content="a"), done=False, cut=True),
        sse(done=False),
        answers(b""),
    ],
)
async def test_a_chat_that_breaks_off_says_so(fake: FakeEngine, engine: Engine, calls: Calls, answer: Answer) -> None:
    fake.chat = answer
    async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme") as started:
        with pytest.raises(EngineUnavailable):
            async for _ in started.chunks:
                pass
    assert [call.outcome for call in calls] == ["unavailable"]


@pytest.mark.parametrize(
    "body", [b"nonsense", [], {}, {"choices": []}, first_token(), {"choices": [{"logprobs": None}]}]
)
async def test_choose_refuses_an_answer_it_cannot_read(fake: FakeEngine, engine: Engine, body: Any) -> None:
    fake.chat = answers(body)
    await refused(engine.choose(MESSAGES, [" A", " B"], tenant="acme"), EngineError)
