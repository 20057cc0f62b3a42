"""The engine client against a hand-written server on loopback, one branch of the wire at a time."""

import asyncio
import hashlib
import hmac

import orjson
import pytest
from aiohttp import web

from alignx.schemas.interactions import ComparisonInteraction
from services.engine.limits import NO_ENGINE, Engine
from services.engine.wire import OVERLONG, Completion, Delta
from services.errors import (
    AlignXError,
    EngineError,
    EngineRejected,
    EngineUnavailable,
    NoEngine,
    UnusableReply,
)
from services.prompts.profiles import load_profile
from services.prompts.replies.parse_summary import parse_summary
from tests.unit.services.engine.fake_engine import (
    MESSAGES,
    SAMPLING,
    TOKENS,
    USAGE,
    Answer,
    Calls,
    FakeEngine,
    answers,
    chat_bytes,
    endless,
    fails,
    first_token,
    late,
    refused,
    reply,
    sends,
    silent,
    sse,
)
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio


async def test_stream_gives_deltas_then_one_completion(fake: FakeEngine, engine: Engine, calls: Calls) -> None:
    fake.chat = reply("Hel", "lo €")
    pieces = [piece async for piece in engine.stream(MESSAGES, **SAMPLING, priority=5)]
    assert pieces == [Delta("Hel"), Delta("lo €"), Completion("Hello €", "stop", TOKENS, "tiny-1")]
    assert fake.bodies == [
        {
            "model": "tiny",
            "messages": MESSAGES,
            "priority": 5,
            "max_tokens": 8,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 20,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]
    assert (calls[0].kind, calls[0].outcome, calls[0].tokens) == ("stream", "ok", TOKENS)
    assert 0 < (calls[0].ttft_s or 0) <= calls[0].seconds


async def test_complete_gathers_the_stream(fake: FakeEngine, engine: Engine, calls: Calls) -> None:
    completion = await engine.complete(MESSAGES, **{**SAMPLING, "top_k": -1})
    assert completion == Completion("hello", "stop", TOKENS, "tiny-1")
    assert "top_k" not in fake.bodies[0]
    assert "priority" not in fake.bodies[0]
    assert [(call.kind, call.outcome) for call in calls] == [("complete", "ok")]


async def test_a_prompt_that_opens_the_reply_is_completed_as_it_stands(fake: FakeEngine, engine: Engine) -> None:
    """AlignXplore's checkpoints: no chat template, the end behind the answer, the thought never taken for a summary."""
    prompt = load_profile("alignxplore").update_prompt(
        None, [ComparisonInteraction(chosen="a", rejected="b")], past_tokens=9
    )
    texts = (" Short answers", " win. </think> <answer>The user likes", " short answers.")
    events = [{"model": "tiny-1", "choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in texts]
    end = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    fake.completion = sse(*events, end, {"choices": [], "usage": USAGE})
    completion = await engine.complete(prompt.messages, **SAMPLING, priority=5, thinking=False)
    assert completion == Completion("<think>" + "".join(texts), "stop", TOKENS, "tiny-1")
    reply = parse_summary(completion.text, max_chars=200)
    assert (reply.text, reply.reasoning) == ("The user likes short answers.", "Short answers win.")
    assert fake.bodies == []
    (body,) = fake.completions
    assert body.pop("prompt") == prompt.messages[0]["content"]
    sampling = {"max_tokens": 8, "temperature": 0.5, "top_p": 0.9, "top_k": 20, "priority": 5}
    asked = {"model": "tiny", "stop": ["</answer>"], "stream": True, "stream_options": {"include_usage": True}}
    assert body == asked | sampling
    cut = {"choices": [{"index": 0, "text": " Short answers win.", "finish_reason": "length"}]}
    fake.completion = sse(cut)
    completion = await engine.complete(prompt.messages, **SAMPLING)
    with pytest.raises(UnusableReply, match="cuts off its reasoning"):
        parse_summary(completion.text, max_chars=200, finish_reason=completion.finish_reason)


@with_settings(read_timeout_s=0.1)
async def test_a_whole_chat_answer_may_take_longer_than_a_silence(fake: FakeEngine, engine: Engine) -> None:
    fake.chat = late(0.3, answers({"choices": [], "usage": USAGE}))
    assert orjson.loads(await chat_bytes(engine, {"messages": MESSAGES}))["usage"] == USAGE
    await refused(chat_bytes(engine, {"messages": MESSAGES, "stream": True}), EngineUnavailable)
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)


@with_settings(first_token_timeout_s=0.5, breaker_failures=2)
async def test_a_stream_without_a_first_token_is_given_up_and_counts(
    fake: FakeEngine, engine: Engine, calls: Calls
) -> None:
    """Comments are no token; a silence behind the first one is bounded by the read timeout alone."""
    fake.chat = sends(b'data: {"choices": []}\n\n', b"data: [DONE]\n\n", pause_s=0.7)
    assert (await chat_bytes(engine, {"messages": MESSAGES, "stream": True})).endswith(b"data: [DONE]\n\n")
    for answer in (silent, endless(b": waiting\n\n")):
        fake.chat = answer
        error = await refused(chat_bytes(engine, {"messages": MESSAGES, "stream": True}), EngineUnavailable)
        assert "0.5 s" in error.detail
    assert engine.calls.breaker_open
    assert (engine.calls.in_flight, [call.outcome for call in calls]) == (0, ["ok", "unavailable", "unavailable"])


@with_settings(first_token_timeout_s=0.3, breaker_failures=1)
async def test_a_whole_chat_answer_is_waited_for_while_the_engine_answers_a_canary(
    fake: FakeEngine, engine: Engine, calls: Calls
) -> None:
    fake.chat = late(0.8, answers({"choices": [], "usage": USAGE}))
    assert orjson.loads(await chat_bytes(engine, {"messages": MESSAGES}))["usage"] == USAGE
    fake.chat = fake.canary = silent
    error = await refused(chat_bytes(engine, {"messages": MESSAGES}), EngineUnavailable)
    assert "0.3 s" in error.detail
    assert ([call.outcome for call in calls], engine.calls.breaker_open) == (["ok", "unavailable"], True)


@with_settings(answer_timeout_s=0.1, breaker_failures=1)
async def test_a_whole_chat_answer_that_takes_too_long_closes_the_engine_to_nobody(
    fake: FakeEngine, engine: Engine, calls: Calls
) -> None:
    fake.chat = silent
    error = await refused(chat_bytes(engine, {"messages": MESSAGES}), EngineUnavailable)
    assert error.detail == OVERLONG
    assert [call.outcome for call in calls] == ["unavailable"]
    fake.chat = reply("hello")
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "hello"


@with_settings(cache_salt_secret="secret")
async def test_each_tenant_has_a_cache_of_its_own(fake: FakeEngine, engine: Engine) -> None:
    await engine.complete(MESSAGES, **SAMPLING)
    await chat_bytes(engine, {"messages": MESSAGES, "stream": True, "cache_salt": "forged"})
    salt = hmac.new(b"secret", b"acme", hashlib.sha256).hexdigest()
    assert [body["cache_salt"] for body in fake.bodies] == [salt, salt]


async def test_chat_passes_bytes_through(fake: FakeEngine, engine: Engine, calls: Calls) -> None:
    fake.chat = reply("a", "b")
    body = {"messages": MESSAGES, "stream": True, "seed": 3}
    async with engine.chat(body, tenant="acme") as answer:
        raw = b"".join([chunk async for chunk in answer.chunks])
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert raw.count(b"data: ") == 5
    assert raw.endswith(b"data: [DONE]\n\n")
    assert fake.bodies[-1] == {**body, "model": "tiny"}
    fake.chat = answers({"choices": [], "usage": USAGE})
    raw = await chat_bytes(engine, {"messages": MESSAGES, "model": "mine"})
    assert orjson.loads(raw)["usage"] == USAGE
    assert fake.bodies[-1]["model"] == "mine"
    assert [(call.kind, call.outcome, call.tokens) for call in calls] == [("chat", "ok", TOKENS)] * 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (fails(400), EngineRejected),
        (fails(500), EngineUnavailable),
        (sse({"error": {"message": "a canary", "code": 400}}), EngineRejected),
        (fails(404), EngineUnavailable),
    ],
)
async def test_a_chat_that_fails_at_once_never_starts(
    fake: FakeEngine, engine: Engine, answer: Answer, kind: type[AlignXError]
) -> None:
    fake.chat = answer
    await refused(engine.chat({"messages": MESSAGES, "stream": True}, tenant="t").__aenter__(), kind)


async def test_choose_asks_for_exactly_the_letters(fake: FakeEngine, engine: Engine, calls: Calls) -> None:
    fake.chat = answers(first_token(token_id_5=-0.1, token_id_8=-2.0, token_id_7=-1.0))
    for _attempt in range(2):
        assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme", priority=1) == [-1.0, -2.0]
    body = fake.bodies[0]
    assert body["logprob_token_ids"] == [7, 8]
    assert (body["max_tokens"], body["continue_final_message"], body["add_generation_prompt"]) == (1, True, False)
    assert body["priority"] == 1
    assert sorted(fake.tokenized) == [" A", " B"]  # asked once
    assert [(call.kind, call.outcome, call.tokens) for call in calls] == [("choose", "ok", TOKENS)] * 2


@pytest.mark.parametrize("ids", [None, {" A": [1, 7], " B": [1, 8]}, {" A": [7], " B": [7]}, {" A": [], " B": []}])
async def test_choose_falls_back_to_the_likeliest_tokens(
    fake: FakeEngine, engine: Engine, ids: dict[str, list[int]] | None
) -> None:
    fake.ids = ids
    listed = [{"token": "A", "logprob": -1.0}, {"token": " B", "logprob": -2.0}, {"token": " A", "logprob": -3.0}]
    fake.chat = answers({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})
    assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme") == [-3.0, -2.0]
    assert fake.bodies[0]["top_logprobs"] == 20
    assert "logprob_token_ids" not in fake.bodies[0]
    listed[:] = [{"token": "A", "logprob": -1.0}, {"token": "x", "logprob": -9.0}]
    fake.chat = answers({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})
    assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme") == [-1.0, -9.0]


async def test_choose_notices_an_engine_that_ignores_token_ids(fake: FakeEngine, engine: Engine) -> None:
    async def only_top(_: web.Request) -> web.StreamResponse:
        top = fake.bodies[-1].get("top_logprobs", 0)
        listed = [{"token": " B", "logprob": -0.5}, {"token": " A", "logprob": -1.5}][: max(top, 1)]
        return web.json_response({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})

    fake.chat = only_top
    for _attempt in range(2):
        assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme") == [-1.5, -0.5]
    assert ["logprob_token_ids" in body for body in fake.bodies] == [True, False, False]


async def test_a_failing_tokenizer_is_an_outage(fake: FakeEngine, engine: Engine) -> None:
    fake.ids, fake.tokenizer_status = None, 500
    await refused(engine.choose(MESSAGES, [" A", " B"], tenant="acme"), EngineUnavailable)


async def test_many_who_start_at_once_ask_for_each_letter_once(fake: FakeEngine, engine: Engine) -> None:
    async def choose() -> list[float]:
        return await engine.choose(MESSAGES, [" A", " B"], tenant="acme")

    fake.chat = answers(first_token(token_id_7=-0.5, token_id_8=-1.5))
    leaver, *others = [asyncio.create_task(choose()) for _ in range(40)]
    await asyncio.sleep(0)
    leaver.cancel()  # the first who asked: the others are not left without an answer
    assert await asyncio.gather(*others) == [[-0.5, -1.5]] * 39
    assert sorted(fake.tokenized) == [" A", " B"]


async def test_models_and_model(fake: FakeEngine, engine: Engine) -> None:
    assert await engine.models() == fake.models["data"]
    assert await engine.model() == "tiny"
    fake.models = {"data": []}
    assert await engine.model() == "tiny"  # kept
    fake.chat = fails(404)
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    await refused(engine.model(), EngineUnavailable)  # asked anew after a 404
    fake.models = {"data": [{}]}
    await refused(engine.models(), EngineError)
    fake.models = web.Response(status=401)
    await refused(engine.models(), EngineUnavailable)


async def test_ready_asks_the_engine(fake: FakeEngine, engine: Engine) -> None:
    await engine.ready()
    fake.health = 503
    await refused(engine.ready(), EngineUnavailable)
    fake.health = 404  # no health route: the list of models tells
    await engine.ready()
    fake.models = web.Response(status=500)
    await refused(engine.ready(), EngineUnavailable)


@with_settings(url="profile")
async def test_without_an_engine_only_models_and_ready_answer(engine: Engine, calls: Calls) -> None:
    await engine.ready()
    (model,) = await engine.models()
    assert (model["id"], model["object"], model["owned_by"]) == ("profile", "model", "alignx")
    for call in (
        engine.model(),
        engine.complete(MESSAGES, **SAMPLING),
        anext(engine.stream(MESSAGES, **SAMPLING)),
        engine.choose(MESSAGES, [" A"], tenant="acme"),
        chat_bytes(engine, {"messages": MESSAGES, "model": "x"}),
    ):
        assert (await refused(call, NoEngine)).detail == NO_ENGINE
    assert (engine.enabled, calls) == (False, [])
