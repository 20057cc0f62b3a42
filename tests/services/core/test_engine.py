"""The engine client against a hand-written server on loopback, one branch of the wire at a time."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from services.core.answers import Completion, Delta
from services.core.breaker import Breaker
from services.core.calls import EngineCall
from services.core.engine import NO_ENGINE, Engine
from services.core.errors import AlignXError, EngineError, EngineRejected, EngineUnavailable, InvalidRequest
from services.core.schemas import TokenCounts
from services.core.settings import EngineSettings

MESSAGES = [{"role": "user", "content": "a canary"}]
SAMPLING: dict[str, Any] = {"tenant": "acme", "max_tokens": 8, "temperature": 0.5, "top_p": 0.9, "top_k": 20}
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
TOKENS = TokenCounts(prompt=9, completion=3, cached=4)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeEngine:
    """Keeps the chat and embedding bodies it got, and answers as it is told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.tokenized: list[str] = []
        self.gone: list[str] = []
        self.chat: Answer = reply("hello")
        self.models: Any = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        self.health = 200
        self.tokenizer_status = 404
        self.ids: dict[str, list[int]] | None = {" A": [7], " B": [8], " C": [9]}

    async def on_post(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        return await self.chat(request)

    async def on_models(self, _: web.Request) -> web.StreamResponse:
        return self.models if isinstance(self.models, web.StreamResponse) else web.json_response(self.models)

    async def on_health(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=self.health)

    async def on_tokenize(self, request: web.Request) -> web.StreamResponse:
        self.tokenized.append((await request.json())["prompt"])
        if self.ids is None:
            return web.Response(status=self.tokenizer_status)
        return web.json_response({"tokens": self.ids[self.tokenized[-1]]})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.on_post)
        app.router.add_post("/v1/embeddings", self.on_post)
        app.router.add_post("/tokenize", self.on_tokenize)
        app.router.add_get("/v1/models", self.on_models)
        app.router.add_get("/health", self.on_health)
        # No access log; a handler whose client has gone is cancelled, as an engine does.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


def sse(*events: Any, done: bool = True, cut: bool = False) -> Answer:
    """Events as an OpenAI stream; `cut` drops the connection in the middle."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(b"data: " + (event if isinstance(event, bytes) else orjson.dumps(event)) + b"\n\n")
            await asyncio.sleep(0)
        if done:
            await response.write(b"data: [DONE]\n\n")
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


def delta(finish: str | None = None, **fields: str) -> dict[str, Any]:
    return {"model": "tiny-1", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def reply(*texts: str) -> Answer:
    return sse(*(delta(content=text) for text in texts), delta("stop"), {"choices": [], "usage": USAGE})


def fails(status: int, message: str = "boom: a canary", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)

    return answer


def answers(body: Any) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            body=body if isinstance(body, bytes) else orjson.dumps(body), content_type="application/json"
        )

    return answer


def first_token(**logprobs: float) -> dict[str, Any]:
    listed = [{"token": token.replace("id_", "id:"), "logprob": value} for token, value in logprobs.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}], "usage": USAGE}


def run(test: Callable[[FakeEngine, Engine, list[EngineCall]], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        fake, calls = FakeEngine(), list[EngineCall]()
        async with fake.serving() as url:
            configured = EngineSettings(**{"url": url, **settings})
            async with asyncio.timeout(10), Engine.open(configured, calls.append) as engine:
                await test(fake, engine, calls)

    asyncio.run(main())


async def refused(call: Awaitable[Any], kind: type[AlignXError]) -> AlignXError:
    with pytest.raises(AlignXError) as caught:
        await call
    assert type(caught.value) is kind
    assert "canary" not in caught.value.detail
    return caught.value


async def chat_bytes(engine: Engine, body: dict[str, Any]) -> bytes:
    async with engine.chat(body, tenant="acme") as answer:
        return b"".join([chunk async for chunk in answer.chunks])


# --- generation --------------------------------------------------------------------------------


def test_stream_gives_deltas_then_one_completion() -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
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

    run(test)


def test_complete_gathers_the_stream() -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        completion = await engine.complete(MESSAGES, **{**SAMPLING, "top_k": -1})
        assert completion == Completion("hello", "stop", TOKENS, "tiny-1")
        assert "top_k" not in fake.bodies[0]
        assert "priority" not in fake.bodies[0]
        assert [(call.kind, call.outcome) for call in calls] == [("complete", "ok")]

    run(test)


def test_events_split_over_packets_are_joined() -> None:
    async def in_bytes(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        wire = b": ping\r\n\r\ndata: " + orjson.dumps(delta("stop", content="né")) + b"\r\n\r\ndata: [DONE]\r\n\r\n"
        for i in range(len(wire)):
            await response.write(wire[i : i + 1])
        return response

    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = in_bytes
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "né"

    run(test)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_reported_apart_is_put_back_in_tags(name: str) -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = sse(delta(**{name: "a"}), delta(**{name: "b"}), delta("stop", content="c"))
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "<think>ab</think>c"
        fake.chat = sse(delta("stop", **{name: "a"}))
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "<think>a</think>"
        fake.chat = sse(delta("length", **{name: "a"}))
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "<think>a"

    run(test)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (sse(delta(content="a"), done=False), EngineUnavailable),
        (sse(delta(content="a"), done=False, cut=True), EngineUnavailable),
        (sse(b"{not json"), EngineError),
        (sse({"no": "choices"}), EngineError),
        (sse(delta(content="a"), {"error": {"message": "a canary", "code": 400}}), EngineRejected),
        (sse({"error": {"message": "a canary", "code": 500}}), EngineUnavailable),
        (sse({"error": "a canary"}), EngineUnavailable),
        (fails(400), EngineRejected),
        (fails(413), EngineRejected),
        (fails(422), EngineRejected),
        (fails(401), EngineUnavailable),
        (fails(404), EngineUnavailable),
        (fails(429), EngineUnavailable),
        (fails(500), EngineUnavailable),
        (fails(503), EngineUnavailable),
    ],
)
def test_faults_are_sorted_by_who_can_mend_them(answer: Answer, kind: type[AlignXError]) -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = answer
        await refused(engine.complete(MESSAGES, **SAMPLING), kind)
        outcome = {EngineUnavailable: "unavailable", EngineRejected: "rejected", EngineError: "error"}
        assert [call.outcome for call in calls] == [outcome[kind]]

    run(test)


def test_a_refusal_says_what_it_means() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = fails(400, "This model's maximum context length is 8 tokens: a canary")
        error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineRejected)
        assert "context window" in error.detail
        fake.chat = fails(503, **{"Retry-After": "7"})
        error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
        assert ("overloaded" in error.detail, error.retry_after) == (True, 7.0)

    run(test)


def test_a_silent_engine_is_unavailable() -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        raise AssertionError("unreachable")

    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = silent
        await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)

    run(test, read_timeout_s=0.1)


def test_stopping_early_ends_the_engines_work_and_frees_the_slot() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"data: " + orjson.dumps(delta(content="a")) + b"\n\n")
                await asyncio.sleep(0.005)
        finally:
            ended.set()

    ended = asyncio.Event()

    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = endless
        async with aclosing(engine.stream(MESSAGES, **SAMPLING)) as pieces:
            async for _ in pieces:
                break
        await asyncio.wait_for(ended.wait(), 5)
        fake.chat = reply("b")
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "b"
        assert [call.outcome for call in calls] == ["cancelled", "ok"]

    run(test, concurrency=1)


def test_no_more_calls_at_once_than_allowed() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        under_way, most = 0, 0

        async def slow(request: web.Request) -> web.StreamResponse:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.02)
            under_way -= 1
            return await reply("a")(request)

        fake.chat = slow
        await asyncio.gather(*(engine.complete(MESSAGES, **SAMPLING) for _ in range(6)))
        assert most == 2

    run(test, concurrency=2)


# --- tenants and keys --------------------------------------------------------------------------


def test_each_tenant_has_a_cache_of_its_own() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        await engine.complete(MESSAGES, **SAMPLING)
        await chat_bytes(engine, {"messages": MESSAGES, "stream": True, "cache_salt": "forged"})
        salt = hmac.new(b"secret", b"acme", hashlib.sha256).hexdigest()
        assert [body["cache_salt"] for body in fake.bodies] == [salt, salt]

    run(test, cache_salt_secret="secret")


def test_the_key_goes_to_the_engine_and_not_to_another_host() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        other = FakeEngine()
        other.chat = answers({"data": [{"index": 0, "embedding": [1]}]})
        await engine.complete(MESSAGES, **SAMPLING)
        async with other.serving() as url:
            settings = EngineSettings(url=engine._base, api_key="k", embeddings_url=url)
            async with Engine.open(settings) as keyed:
                await keyed.embed(["x"])
        assert fake.headers[0]["Authorization"] == "Bearer k"
        assert "Authorization" not in other.headers[0]

    run(test, api_key="k")


# --- chat pass-through -------------------------------------------------------------------------


def test_chat_passes_bytes_through() -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
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

    run(test)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (fails(400), EngineRejected),
        (fails(500), EngineUnavailable),
        (sse({"error": {"message": "a canary", "code": 400}}), EngineRejected),
        (fails(404), EngineUnavailable),
    ],
)
def test_a_chat_that_fails_at_once_never_starts(answer: Answer, kind: type[AlignXError]) -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = answer
        await refused(engine.chat({"messages": MESSAGES, "stream": True}, tenant="t").__aenter__(), kind)

    run(test)


def test_a_chat_with_an_unknown_model_is_the_callers_mistake() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = fails(404)
        error = await refused(chat_bytes(engine, {"messages": MESSAGES, "model": "other"}), InvalidRequest)
        assert error.errors[0]["field"] == "model"

    run(test)


@pytest.mark.parametrize(
    "answer",
    [
        sse(delta(content="a"), done=False),
        sse(delta(content="a"), done=False, cut=True),
        sse(done=False),
        answers(b""),
    ],
)
def test_a_chat_that_breaks_off_says_so(answer: Answer) -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = answer
        async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme") as started:
            with pytest.raises(EngineUnavailable):
                async for _ in started.chunks:
                    pass
        assert [call.outcome for call in calls] == ["unavailable"]

    run(test)


def test_a_chat_left_early_is_no_mark_against_the_engine() -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = reply(*"abc")
        async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme"):
            pass
        with pytest.raises(ZeroDivisionError):
            async with engine.chat({"messages": MESSAGES, "stream": True}, tenant="acme"):
                raise ZeroDivisionError
        assert [call.outcome for call in calls] == ["cancelled", "cancelled"]
        await chat_bytes(engine, {"messages": MESSAGES, "stream": True})

    run(test, breaker_failures=1)


# --- choice ------------------------------------------------------------------------------------


def test_choose_asks_for_exactly_the_letters() -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        fake.chat = answers(first_token(token_id_5=-0.1, token_id_8=-2.0, token_id_7=-1.0))
        for _attempt in range(2):
            assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme", priority=1) == [-1.0, -2.0]
        body = fake.bodies[0]
        assert body["logprob_token_ids"] == [7, 8]
        assert (body["max_tokens"], body["continue_final_message"], body["add_generation_prompt"]) == (1, True, False)
        assert body["priority"] == 1
        assert sorted(fake.tokenized) == [" A", " B"]  # asked once
        assert [(call.kind, call.outcome, call.tokens) for call in calls] == [("choose", "ok", TOKENS)] * 2

    run(test)


@pytest.mark.parametrize("ids", [None, {" A": [1, 7], " B": [1, 8]}, {" A": [7], " B": [7]}, {" A": [], " B": []}])
def test_choose_falls_back_to_the_likeliest_tokens(ids: dict[str, list[int]] | None) -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.ids = ids
        listed = [{"token": "A", "logprob": -1.0}, {"token": " B", "logprob": -2.0}, {"token": " A", "logprob": -3.0}]
        fake.chat = answers({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})
        assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme") == [-3.0, -2.0]
        assert fake.bodies[0]["top_logprobs"] == 20
        assert "logprob_token_ids" not in fake.bodies[0]
        listed[:] = [{"token": "A", "logprob": -1.0}, {"token": "x", "logprob": -9.0}]
        fake.chat = answers({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})
        assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme") == [-1.0, -9.0]

    run(test)


def test_choose_notices_an_engine_that_ignores_token_ids() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        async def only_top(_: web.Request) -> web.StreamResponse:
            top = fake.bodies[-1].get("top_logprobs", 0)
            listed = [{"token": " B", "logprob": -0.5}, {"token": " A", "logprob": -1.5}][: max(top, 1)]
            return web.json_response({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})

        fake.chat = only_top
        for _attempt in range(2):
            assert await engine.choose(MESSAGES, [" A", " B"], tenant="acme") == [-1.5, -0.5]
        assert ["logprob_token_ids" in body for body in fake.bodies] == [True, False, False]

    run(test)


@pytest.mark.parametrize(
    "body", [b"nonsense", [], {}, {"choices": []}, first_token(), {"choices": [{"logprobs": None}]}]
)
def test_choose_refuses_an_answer_it_cannot_read(body: Any) -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = answers(body)
        await refused(engine.choose(MESSAGES, [" A", " B"], tenant="acme"), EngineError)

    run(test)


def test_a_failing_tokenizer_is_an_outage() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.ids, fake.tokenizer_status = None, 500
        await refused(engine.choose(MESSAGES, [" A", " B"], tenant="acme"), EngineUnavailable)

    run(test)


# --- embeddings --------------------------------------------------------------------------------


def test_embeddings_come_in_the_order_of_the_texts() -> None:
    async def test(fake: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        await refused(engine.embed(["x"]), EngineUnavailable)
        fake.chat = answers({"data": [{"index": 1, "embedding": [2, 3.5]}, {"index": 0, "embedding": [0, 1]}]})
        settings = EngineSettings(url=engine._base, embeddings_url=engine._base + "/", embeddings_model="e")
        async with Engine.open(settings, calls.append) as embedding:
            assert await embedding.embed(["x", "y"]) == [[0.0, 1.0], [2.0, 3.5]]
            await refused(embedding.embed(["x"]), EngineError)
            fake.chat = answers({"data": [{"embedding": None}]})
            await refused(embedding.embed(["x"]), EngineError)
        assert fake.bodies[0] == {"input": ["x", "y"], "model": "e"}
        assert calls[0].kind == "embed"

    run(test)


# --- state -------------------------------------------------------------------------------------


def test_models_and_model() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
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

    run(test)


def test_ready_asks_the_engine() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        await engine.ready()
        fake.health = 503
        await refused(engine.ready(), EngineUnavailable)
        fake.health = 404  # no health route: the list of models tells
        await engine.ready()
        fake.models = web.Response(status=500)
        await refused(engine.ready(), EngineUnavailable)

    run(test)


def test_nobody_there_is_unavailable_and_opens_the_breaker() -> None:
    async def test(_: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        await refused(engine.ready(), EngineUnavailable)
        await refused(engine.choose(MESSAGES, [" A"], tenant="acme"), EngineUnavailable)
        for _attempt in range(2):
            error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
            assert error.retry_after is None
        error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
        assert 0 < (error.retry_after or 0) <= 30
        assert len(calls) == 2  # the third was refused before it went out

    run(test, url="http://127.0.0.1:9/v1", model="tiny", breaker_failures=2, breaker_cooldown_s=30)


def test_the_breaker_lets_one_call_try_and_closes_on_success() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        fake.chat = fails(500)
        await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
        await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
        assert len(fake.bodies) == 1
        await asyncio.sleep(0.06)
        fake.chat = reply("back")
        outcomes = await asyncio.gather(
            *(engine.complete(MESSAGES, **SAMPLING) for _ in range(3)), return_exceptions=True
        )
        assert sum(isinstance(outcome, Completion) for outcome in outcomes) == 1
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "back"

    run(test, breaker_failures=1, breaker_cooldown_s=0.05)


def test_refused_input_and_overload_leave_the_breaker_closed() -> None:
    async def test(fake: FakeEngine, engine: Engine, _: list[EngineCall]) -> None:
        for status in (400, 429, 404, 401):
            fake.chat = fails(status)
            with pytest.raises(AlignXError):
                await engine.complete(MESSAGES, **SAMPLING)
        fake.chat = reply("fine")
        assert (await engine.complete(MESSAGES, **SAMPLING)).text == "fine"

    run(test, breaker_failures=1)


def test_a_cancelled_probe_frees_the_way_for_the_next() -> None:
    now = [0.0]
    breaker = Breaker(1, 5.0, lambda: now[0])
    breaker.admit()
    breaker.failed()
    with pytest.raises(EngineUnavailable) as caught:
        breaker.check()
    assert caught.value.retry_after == 5.0
    now[0] = 6.0
    breaker.admit()
    with pytest.raises(EngineUnavailable):
        breaker.check()
    breaker.released()
    breaker.admit()
    breaker.failed()
    with pytest.raises(EngineUnavailable):
        breaker.admit()


def test_without_an_engine_only_models_and_ready_answer() -> None:
    async def test(_: FakeEngine, engine: Engine, calls: list[EngineCall]) -> None:
        await engine.ready()
        (model,) = await engine.models()
        assert (model["id"], model["object"], model["owned_by"]) == ("profile", "model", "alignx")
        for call in (
            engine.model(),
            engine.complete(MESSAGES, **SAMPLING),
            anext(engine.stream(MESSAGES, **SAMPLING)),
            engine.choose(MESSAGES, [" A"], tenant="acme"),
            chat_bytes(engine, {"messages": MESSAGES, "model": "x"}),
            engine.embed(["x"]),
        ):
            assert (await refused(call, EngineUnavailable)).detail == NO_ENGINE
        assert (engine.enabled, calls) == (False, [])

    run(test, url="profile")
