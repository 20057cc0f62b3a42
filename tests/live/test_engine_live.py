"""The engine client against a real engine with the tiny random checkpoint: the wire, not the words."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import orjson
import pytest

from alignx.schemas.interactions import ComparisonInteraction
from services.engine import wire
from services.engine.capabilities import Capabilities
from services.engine.choice.choice_client import ChoiceClient
from services.engine.choice.measure import measure_protocol
from services.engine.client import Server, open_session
from services.engine.limits import Engine, EngineCall
from services.engine.wire import Completion, Delta
from services.errors import EngineRejected, ModelUnknown, UnusableReply
from services.prompts import build
from services.prompts.plain import likelihood_prompt
from services.prompts.replies import parse_summary
from services.settings import EngineSettings

pytestmark = [pytest.mark.live, pytest.mark.anyio]

SAMPLING: dict[str, Any] = {"max_tokens": 200, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
HELLO = [{"role": "user", "content": "hello"}]


def update() -> build.Prompt:
    events = [ComparisonInteraction(query="news", chosen="a short match report", rejected="a long essay")] * 12
    return build.update_prompt("The user likes brevity.", events, past_tokens=100)


@pytest.fixture
def calls() -> list[EngineCall]:
    return []


@pytest.fixture
async def engine(engine_url: str, calls: list[EngineCall]) -> AsyncIterator[Engine]:
    settings = EngineSettings.model_validate(
        {"url": engine_url, "cache_salt_secret": "a secret of the tests", "choose": "letters"}
    )
    async with asyncio.timeout(120), Engine.open(settings, calls.append) as engine:
        yield engine


async def test_the_engine_is_ready_and_lists_its_model(engine: Engine) -> None:
    await engine.ready()
    assert await engine.model() in [model["id"] for model in await engine.models()]


async def test_a_summary_is_streamed_and_parsed(engine: Engine, calls: list[EngineCall]) -> None:
    preview, text = parse_summary.SummaryPreview(), ""
    async for piece in engine.stream(update().messages, tenant="acme", priority=10, **SAMPLING):
        if isinstance(piece, Delta):
            text += piece.text
            if preview.add(piece.text):
                preview.read()
    assert isinstance(piece, Completion)
    assert piece.text == text
    assert piece.finish_reason in ("stop", "length")
    assert piece.tokens.prompt > 300
    assert piece.tokens.completion > 1
    with suppress(UnusableReply):  # random words may say nothing
        assert parse_summary.parse_summary(text, max_chars=8_000).text.startswith(preview.shown)
    assert calls[0].outcome == "ok"


async def test_most_random_replies_are_summaries(engine: Engine) -> None:
    """The tests of the suite count on it: an update asks twice."""
    replies = [engine.complete(update().messages, tenant="acme", **SAMPLING) for _reply in range(32)]
    kept = 0
    for reply in await asyncio.gather(*replies):
        with suppress(UnusableReply):
            kept += not parse_summary.parse_summary(reply.text, max_chars=8_000).removed
    assert kept > 24


async def test_a_prefix_is_cached_for_its_own_tenant_only(engine: Engine) -> None:
    messages = build.update_prompt("A past summary of this very test.", [], past_tokens=100).messages
    cached = []
    for tenant in ("first", "first", "second"):
        cached.append((await engine.complete(messages, tenant=f"cache-{tenant}", **SAMPLING)).tokens.cached)
    assert cached[1] > 200
    assert cached[2] == 0


@pytest.mark.parametrize("count", [2, 26])
async def test_letters_have_probabilities(engine: Engine, calls: list[EngineCall], count: int) -> None:
    letters = build.LETTERS[:count]
    prompt = build.selection_prompt("dinner", [f"dish {i}" for i in range(count)], "The user likes soup.")
    first = await engine.choose(prompt.messages, letters, tenant="acme")
    again = await engine.choose(prompt.messages, letters, tenant="acme")
    assert len(first) == count
    assert len(set(first)) > 1
    assert 0 < sum(map(math.exp, first)) < 1
    assert again == pytest.approx(first, abs=0.05)  # the cache may change the order of sums
    assert [(call.kind, call.outcome) for call in calls] == [("choose", "ok")] * 2  # no fallback


async def test_a_likelihood_is_that_of_the_engines_own_answer(engine: Engine, calls: list[EngineCall]) -> None:
    """Of a reply of one token it is the log-probability of that token as a chat's first."""
    chat = likelihood_prompt("dinner", "The user likes soup.", [("lunch", "a salad")])
    [token] = await engine._text_tokens(" A")
    body = await engine._body(chat, "acme", 0) | wire.FIRST_TOKEN | wire.choice_of([token])
    first = (await engine._first_token(body, "acme"))[f"token_id:{token}"]
    assert await engine.likelihood(chat, " A", tenant="acme", priority=10) == (pytest.approx(first, abs=0.05), 1)
    longer = await engine.likelihood(chat, " A A", tenant="acme")
    assert longer.tokens > 1
    assert longer.logprob < first
    assert {(call.kind, call.outcome) for call in calls} == {("choose", "ok")}


async def test_both_protocols_are_measured(engine_url: str) -> None:
    async with open_session() as session:
        client = partial(ChoiceClient, session, Server(engine_url))
        found = await measure_protocol(client, "auto", Capabilities())
    assert found.accuracies.keys() == {"letters", "likelihood"}
    assert all(0.2 < share < 0.8 for share in found.accuracies.values()), "its weights are random"


@pytest.mark.parametrize("stream", [True, False])
async def test_chat_is_passed_through(engine: Engine, calls: list[EngineCall], stream: bool) -> None:
    body = {"messages": HELLO, "stream": stream, "max_tokens": 5}
    async with engine.chat(body, tenant="acme") as answer:
        raw = b"".join([chunk async for chunk in answer.chunks])
    assert answer.status == 200
    if stream:
        assert answer.content_type == "text/event-stream"
        assert raw.endswith(b"data: [DONE]\n\n")
    else:
        assert orjson.loads(raw)["choices"][0]["message"]["role"] == "assistant"
        assert calls[0].tokens.completion > 0


async def test_faults_of_the_input_are_told_from_faults_of_the_engine(engine: Engine) -> None:
    with pytest.raises(EngineRejected, match="context window"):
        await engine.complete([{"role": "user", "content": "word " * 40_000}], tenant="acme", **SAMPLING)
    with pytest.raises(EngineRejected):
        await engine.complete([{"role": "user", "content": {"no": "text"}}], tenant="acme", **SAMPLING)
    with pytest.raises(ModelUnknown):
        async with engine.chat({"messages": HELLO, "model": "nobody"}, tenant="acme"):
            pass


async def test_leaving_a_stream_leaves_the_engine_free(engine: Engine, calls: list[EngineCall]) -> None:
    endless = SAMPLING | {"max_tokens": 4_000, "temperature": 2.0, "top_k": -1}
    async with aclosing(engine.stream(HELLO, tenant="acme", **endless)) as pieces:
        async for _ in pieces:
            break
    assert (await engine.complete(HELLO, tenant="acme", **SAMPLING)).text
    assert [call.outcome for call in calls] == ["cancelled", "ok"]
