"""The official OpenAI SDK, pointed at the gateway: what it can ask, and what it makes of our errors."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.live.suite import Suite

pytestmark = pytest.mark.live

MODEL = "alignx-tiny"
HELLO: Any = [{"role": "user", "content": "hello"}]
EVENTS = [
    {
        "type": "comparison",
        "query": f"q{i}",
        "chosen": "Yes.",
        "rejected": "Great question! Let us dive deep.",
        "directions": [0.5] * 16 + [1.0] + [0.5] * 73,  # concise
    }
    for i in range(4)
]


def sdk(suite: Suite, **key: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{suite.url}/v1", api_key=suite.new_key("sdk", **key), max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def client(engine_suite: Suite) -> Iterator[openai.OpenAI]:
    """An SDK whose tenant has a user "ada" with history and a summary."""
    assert engine_suite.tell("ada", *EVENTS, tenant="sdk")["version"] == 1
    with sdk(engine_suite) as client:
        yield client


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "version", "history"),
    [("summary", 1, 0), ("ica", None, 4), ("pba", None, 4), ("direct", None, 4), ("none", None, 0)],
)
def test_chat_in_every_mode(client: openai.OpenAI, mode: str, version: int | None, history: int) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, user="ada", max_tokens=8, extra_body={"personalization": {"mode": mode}}
    )
    answer = raw.parse()
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8
    assert (answer.usage.prompt_tokens > 100) == (mode != "none")  # what is known of the user was read
    used = {"mode": mode, "user": "ada", "version": version, "history": history}
    assert answer.model_extra is not None
    assert answer.model_extra["personalization"] == used
    assert raw.headers.get("X-AlignX-Summary-Version") == (str(version) if version else None)
    assert raw.headers["X-Request-Id"]


@pytest.mark.parametrize("mode", ["summary", "ica", "pba", "direct", "none"])
def test_streamed_chat_in_every_mode(client: openai.OpenAI, mode: str) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        user="ada",
        max_tokens=16,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"personalization": {"mode": mode}},
    )
    with stream:
        chunks = list(stream)
    marked = ["personalization" in (chunk.model_extra or {}) for chunk in chunks]
    assert marked == [True] + [False] * (len(chunks) - 1)
    assert (chunks[0].model_extra or {})["personalization"]["mode"] == mode
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 16


def test_the_sdks_stream_helper_gathers_the_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HELLO, user="ada", max_tokens=1024) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert stream.get_final_completion().choices[0].message.content == text


def test_options_reach_the_engine(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        n=2,
        max_completion_tokens=4,
        seed=1,
        temperature=0.5,
        logprobs=True,
        top_logprobs=2,
    )
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs is not None
    assert len((answer.choices[0].logprobs.content or [])[0].top_logprobs) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "ada"},
        {"safety_identifier": "ada"},
        {"extra_headers": {"X-User-Id": "ada"}},
        {"user": "ada", "extra_body": {"include_reasoning": True, "chat_template_kwargs": {"enable_thinking": False}}},
        {"user": "ada", "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
    ],
)
def test_the_user_is_named_and_the_message_sent_in_each_form(client: openai.OpenAI, fields: Any) -> None:
    answer = client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 2, **fields})
    assert answer.usage is not None
    assert (answer.model_extra or {})["personalization"]["version"] == 1


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_the_responses_api_is_the_same_chat(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "input": "hello", "user": "ada", "max_output_tokens": 16}
    answer = client.responses.create(**asked)
    assert answer.status in ("completed", "incomplete")
    assert answer.usage is not None
    assert answer.usage.input_tokens > 100  # what is known of the user was read
    assert (answer.model_extra or {})["personalization"]["version"] == 1
    with client.responses.stream(**asked) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert text


@pytest.mark.anyio
async def test_the_async_sdk_streams_many_answers_at_once(client: openai.OpenAI) -> None:
    async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0) as many:

        async def count_chunks() -> int:
            stream = await many.chat.completions.create(
                model=MODEL, messages=HELLO, user="ada", max_tokens=8, stream=True
            )
            return len([chunk async for chunk in stream])

        assert min(await asyncio.gather(*(count_chunks() for _ in range(8)))) >= 2


def test_a_stream_that_is_left_early_harms_no_other(client: openai.OpenAI) -> None:
    for _attempt in range(3):
        with client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2_000, stream=True) as stream:
            next(iter(stream))
    assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).usage is not None


# --- errors ------------------------------------------------------------------------------------


def test_a_bad_key_is_an_authentication_error(engine_suite: Suite) -> None:
    for key in ("ax_nobody_" + "a" * 52, "sk-something"):
        with openai.OpenAI(base_url=f"{engine_suite.url}/v1", api_key=key, max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError) as caught:
                stranger.chat.completions.create(model=MODEL, messages=HELLO)
            assert caught.value.code == "unauthenticated"
            assert caught.value.request_id
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"extra_body": {"chat_template": "x"}}, "chat_template"),
        ({"extra_body": {"guided_json": {}}}, "guided_json"),
        ({"extra_body": {"strange": 1}}, "strange"),
        ({"extra_body": {"personalization": {"mode": "summary"}}}, "user"),
        ({"user": "ada", "extra_body": {"personalization": {"mode": "all"}}}, "personalization.mode"),
    ],
)
def test_a_mistake_of_the_caller_names_its_field(client: openai.OpenAI, fields: Any, param: str, stream: bool) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "stream": stream, **fields})
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=HELLO, stream=stream)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_refused(client: openai.OpenAI, stream: bool) -> None:
    long: Any = [{"role": "user", "content": "word " * 40_000}]
    with pytest.raises(openai.UnprocessableEntityError, match="conversation is too long") as caught:
        client.chat.completions.create(model=MODEL, messages=long, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (422, "context_length_exceeded")


def test_too_many_requests_are_a_rate_limit_error(engine_suite: Suite) -> None:
    with sdk(engine_suite, rate=0.001, burst=1) as limited:
        limited.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as caught:
            limited.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
    assert caught.value.code == "rate_limited"
    assert int(caught.value.response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_without_an_engine_chat_is_an_internal_server_error(suite: Suite, stream: bool) -> None:
    with sdk(suite) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=MODEL, messages=HELLO, user="ada", stream=stream)
        assert (caught.value.status_code, caught.value.code) == (501, "no_engine")
        assert [model.id for model in client.models.list()] == ["profile"]
