"""Refusals: whose fault they are, and which dialect an engine speaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from alignx.schemas.status import EngineState
from services.engine.client import open_session
from services.engine.dialects import VLLM
from services.engine.limits import Engine, EngineMetrics
from services.errors import ContextExceeded, EngineRejected, EngineUnavailable, EngineUnsupported, InvalidRequest
from services.settings import EngineSettings
from tests.chaos.mock_engine import MockEngine
from tests.chaos.strict_engine import DIALECTS, EXTENSIONS, rules
from tests.unit.services.engine.fake_engine import (
    MESSAGES,
    SAMPLING,
    Answer,
    FakeEngine,
    answer_canary,
    answers,
    chat_bytes,
    endless,
    fails,
    refused,
    reply,
)
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

PROMPT: Any = [
    {"role": "system", "content": "Choose."},
    {"role": "user", "content": '<item letter="A">\nbad\n</item>\n<item letter="B">\ngood\n</item>'},
    {"role": "assistant", "content": "The letter is"},
]
CHAT: dict[str, Any] = {"messages": [*PROMPT[:2], {"role": "user", "content": "Now."}], "stream": True, "max_tokens": 9}


@asynccontextmanager
async def strict(*names: str, **changes: Any) -> AsyncIterator[tuple[MockEngine, Engine]]:
    """An engine that refuses bodies by rules, and its client, which has sent no canary."""
    mock = MockEngine()
    mock.strict = rules(*names)
    async with asyncio.timeout(20), mock.serving() as url, open_session() as session:
        yield mock, Engine(EngineSettings(url=url, cache_salt_secret="s", **changes), session)


def too_long(window: int) -> Answer:
    """A refusal as OpenAI's API has it."""
    message = f"This model's maximum context length is {window} tokens. However, you requested more"
    return answers({"error": {"message": message, "code": "context_length_exceeded"}}, 400)


def state_of(engine: Engine) -> EngineState:
    state = engine.state()
    assert state is not None
    return state


@pytest.mark.parametrize("names", DIALECTS.values(), ids=DIALECTS)
async def test_every_dialect_generates_chats_and_chooses_or_says_why_not(names: tuple[str, ...]) -> None:
    async with strict(*names) as (mock, engine):
        assert (await engine.complete(PROMPT[:2], **SAMPLING, priority=10)).text
        assert len(mock.calls_at) <= 1 + 8 + 1, "the request, at most eight canaries, the request"
        assert (await chat_bytes(engine, CHAT)).endswith(b"data: [DONE]\n\n")
        if "logprobs" in names:
            await refused(engine.choose(PROMPT, (" A", " B"), tenant="t"), EngineUnsupported)
            assert state_of(engine).letters is False
        else:
            first, second = await engine.choose(PROMPT, (" A", " B"), tenant="t")
            assert first < second
        calls = len(mock.calls_at)
        await engine.complete(PROMPT[:2], **SAMPLING, priority=10)
        assert len(mock.calls_at) == calls + 1, "the dialect is kept"


async def test_a_dialect_keeps_what_the_engine_takes() -> None:
    async with strict("system", "alternation") as (mock, engine):
        await engine.complete(PROMPT[:2], **SAMPLING, priority=10)
        sent = mock.bodies[-1]
        assert [message["role"] for message in sent["messages"]] == ["user"]
        assert sent["messages"][0]["content"].startswith("Choose.\n\n<item")
        assert (sent["top_k"], sent["temperature"], sent["priority"], len(sent["cache_salt"])) == (20, 0.5, 10, 64)
        state = state_of(engine)
        assert (state.model, state.dialect, state.letters, state.state) == ("mock", "no system role", True, "ok")
        assert (state.detail, state.words) == (None, "Unsupported parameter or role: system")


async def test_caches_that_tenants_share_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with strict("cache_salt") as (_, engine):
        for _ in range(3):
            await engine.complete(PROMPT[:2], **SAMPLING, priority=10)
            await engine.prober._probe(letters=True)
        state = state_of(engine)
        assert (state.state, "cache_salt" in str(state.detail), caplog.text.count("share")) == ("ok", True, 1)


async def test_a_callers_fields_are_never_dropped() -> None:
    async with strict(*EXTENSIONS, "temperature", "max_tokens") as (mock, engine):
        for _ in range(2):  # before and after the dialect is known
            error = await refused(chat_bytes(engine, CHAT | {"temperature": 0.5}), InvalidRequest)
            assert error.errors == ({"field": "temperature", "message": "The engine does not take temperature"},)
        await chat_bytes(engine, CHAT | {"temperature": 1, "seed": 4})
        assert (mock.bodies[-1]["seed"], mock.bodies[-1]["max_completion_tokens"]) == (4, 9)


async def test_a_refusal_is_the_datas_when_the_canary_passes(fake: FakeEngine, engine: Engine) -> None:
    fake.chat = answers({"error": {"message": "a canary", "param": "tools", "code": 400}}, 400)
    error = await refused(chat_bytes(engine, {"messages": MESSAGES, "tools": []}), EngineRejected)
    assert (error.errors[0]["field"], error.openai()["error"]["param"]) == ("tools", "tools")
    await asyncio.gather(*(refused(engine.complete(MESSAGES, **SAMPLING), EngineRejected) for _ in range(30)))
    assert len(fake.canaries) <= 1 + 30
    fake.chat = fails(413)
    await refused(engine.complete(MESSAGES, **SAMPLING), ContextExceeded)
    assert (engine.fault, engine.calls.breaker_open) == ("", False)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500])
@with_settings(breaker_cooldown_s=0.05)
async def test_a_refusal_is_the_engines_when_the_canary_fails(fake: FakeEngine, engine: Engine, status: int) -> None:
    fake.chat, fake.canary = fails(400), fails(status, "no 'priority' scheduling " + "x" * 400)
    calls = [chat_bytes(engine, {"messages": MESSAGES, "model": "mine"}) for _ in range(9)]
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert type(error) is EngineUnavailable
        assert error.detail == engine.fault
        assert f"status {status}" in error.detail
        assert "priority" not in error.detail, "callers are not shown the engine's words"
        assert error.retry_after
    state = state_of(engine)
    assert (engine.calls.breaker_open, state.state, state.detail) == (True, "degraded", engine.fault)
    assert state.words is not None
    assert state.words.startswith("no 'priority' scheduling")
    assert len(state.words) < 300
    sent = len(fake.bodies) + len(fake.canaries)
    assert sent <= 9 + 5
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    assert len(fake.bodies) + len(fake.canaries) == sent, "nothing goes out while the breaker is open"
    fake.chat = fake.canary = reply("A")
    watch = asyncio.create_task(engine.prober.run())
    while engine.fault:  # noqa: ASYNC110  # it is mended by a connection
        await asyncio.sleep(0.01)
    watch.cancel()
    assert (await engine.complete(MESSAGES, **SAMPLING)).text == "A"


@with_settings(api_key="a-secret-key")
async def test_the_engines_words_do_not_show_the_key(fake: FakeEngine, engine: Engine) -> None:
    fake.canary = fails(401, "Incorrect API key provided: a-secret-key")
    await engine.prober._probe(letters=False)
    assert (engine.fault[-12:], engine.capabilities.refusal) == ("(status 401)", "Incorrect API key provided: …")
    await refused(engine.model(), EngineUnavailable)


async def test_the_window_is_the_smaller_of_setting_and_engine(fake: FakeEngine, engine: Engine) -> None:
    assert engine.context_tokens == 8192
    fake.models = {"data": [{"id": "tiny", "max_model_len": 4096}]}
    await engine.prober._probe(letters=False)
    assert engine.context_tokens == 4096
    fake.chat = too_long(2048)
    fake.models = {"data": [{"id": "tiny"}]}
    error = await refused(engine.complete(MESSAGES, **SAMPLING), ContextExceeded)
    assert (error.extensions["limit"], engine.context_tokens) == (2048, 2048)
    fake.models = {"data": [{"id": "tiny", "max_model_len": 1536}]}
    fake.chat = fails(400, "unknown value 'maximum context length is 1000', a caller's words")
    await refused(engine.complete(MESSAGES, **SAMPLING), ContextExceeded)
    assert engine.context_tokens == 1536, "what the server lists counts before"
    async with open_session() as session:
        small = Engine(EngineSettings(url=fake.url, context_tokens=1024), session)
        await small.prober._probe(letters=False)
        assert small.context_tokens == 1024


async def test_words_of_a_caller_are_no_window(fake: FakeEngine, engine: Engine) -> None:
    fake.chat = fails(400, "Invalid value: 'maximum context length is 300', a caller's words")
    error = await refused(engine.complete(MESSAGES, **SAMPLING), ContextExceeded)
    assert (error.extensions["limit"], engine.context_tokens) == (300, 8192)


async def test_a_window_that_is_not_listed_is_forgotten_at_the_next_canary(fake: FakeEngine, engine: Engine) -> None:
    fake.chat = too_long(2048)
    await refused(engine.complete(MESSAGES, **SAMPLING), ContextExceeded)
    fake.models = web.Response(status=500)
    await engine.prober._probe(letters=False)
    assert engine.context_tokens == 2048, "it could not say"
    fake.models = {"data": [{"id": "tiny"}]}
    await engine.prober._probe(letters=False)
    assert engine.context_tokens == 8192


@with_settings(breaker_cooldown_s=0.02)
async def test_an_engine_that_is_away_is_degraded_without_a_call(fake: FakeEngine, engine: Engine) -> None:
    watch = asyncio.create_task(engine.prober.run())
    for health, fault in ((200, ""), (503, "The engine is not ready"), (200, "")):
        fake.health = health
        while engine.prober.record.checked_at is None or engine.fault != fault:  # noqa: ASYNC110  # by a connection
            await asyncio.sleep(0.01)
        state = state_of(engine)
        assert state.state == ("degraded" if fault else "ok")
        fake.models = {"data": [{"id": "tiny", "max_model_len": 4096}]}
    assert engine.context_tokens == 4096, "what it is capable of is found anew"
    watch.cancel()
    assert (fake.bodies, engine.calls.breaker_open) == ([], False)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
async def test_a_walk_that_finds_the_engine_away_changes_nothing(fake: FakeEngine, engine: Engine, status: int) -> None:
    canaries = iter([fails(400), fails(400), fails(status)])
    fake.canary = lambda request: next(canaries, reply("A"))(request)
    fake.chat = fails(400)
    error = await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    assert str(status) in error.detail
    assert (engine.capabilities.dialect, engine.fault, len(fake.canaries)) == (VLLM, "", 3)


@with_settings(breaker_cooldown_s=0.05)
async def test_an_engine_that_is_back_in_the_midst_of_a_walk_is_asked_as_before(
    fake: FakeEngine, engine: Engine
) -> None:
    fake.chat = fake.canary = fails(400, "no")
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    canaries = iter([fails(400)])
    fake.canary = lambda request: next(canaries, answer_canary)(request)
    assert await engine.prober._probe(letters=True) is None
    assert (engine.capabilities.dialect, engine.capabilities.letters, engine.fault) == (VLLM, "prefill", "")


async def test_refusals_that_begin_in_the_midst_of_a_probe_take_no_letters_away(
    fake: FakeEngine, engine: Engine
) -> None:
    canaries = iter([answer_canary])
    fake.canary = lambda request: next(canaries, fails(400))(request)
    await engine.prober._probe(letters=True)
    assert engine.capabilities.letters == "prefill"
    assert "status 400" in engine.fault, "nor does the work begin"


async def test_a_canary_that_never_ends_is_given_up(
    fake: FakeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.engine.capabilities._LONGEST_S", 0.1)
    fake.chat, fake.canary = fails(400), endless(b": still here\n\n")
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    fake.canary = reply("A")
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineRejected)


async def test_a_watch_that_begins_late_shows_the_record(fake: FakeEngine, engine: Engine) -> None:
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    await engine.prober._probe(letters=False)
    metrics.watch_canaries(engine.prober)
    assert registry.get_sample_value("alignx_engine_info", {"model": "tiny", "dialect": "vllm"}) == 1


async def test_letters_that_the_engine_does_not_list_are_no_odds(fake: FakeEngine, engine: Engine) -> None:
    listed = [{"token": "<think>", "logprob": -0.1}]
    fake.canary = answers({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})
    assert await engine.prober._find_letters(engine.capabilities) == "none"
