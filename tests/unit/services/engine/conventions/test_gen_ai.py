"""Spans and metrics of calls to the engine by OpenTelemetry's names."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from services import tracing
from services.engine.conventions.gen_ai import ModelNames
from services.engine.limits import Engine, EngineMetrics
from services.errors import EngineUnavailable, ModelUnknown
from tests.unit.services.engine.fake_engine import (
    MESSAGES,
    SAMPLING,
    Calls,
    FakeEngine,
    answers,
    chat_bytes,
    fails,
    first_token,
    refused,
    reply,
)

pytestmark = pytest.mark.anyio
USUAL = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "tiny"}
DURATION = "gen_ai_client_operation_duration_seconds_count"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


def count(calls: Calls) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    for call in calls:
        metrics.observe(call)
    return registry


async def test_a_streamed_call_is_a_span_and_three_histograms(
    fake: FakeEngine, engine: Engine, calls: Calls, spans: InMemorySpanExporter
) -> None:
    await engine.complete(MESSAGES, **SAMPLING)
    span = only(spans)
    about = dict(span.attributes or {})
    assert (span.name, span.kind) == ("chat tiny", SpanKind.CLIENT)
    assert 0 < float(str(about.pop("gen_ai.response.time_to_first_chunk"))) < 10
    host, port = fake.url.removeprefix("http://").removesuffix("/v1").split(":")
    assert about == {
        "alignx.call": "complete",
        "alignx.outcome": "ok",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.max_tokens": 8,
        "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
        "server.address": host,
        "server.port": int(port),
    }
    registry = count(calls)
    assert registry.get_sample_value(DURATION, USUAL | {"error_type": ""}) == 1
    assert registry.get_sample_value("gen_ai_client_operation_time_to_first_chunk_seconds_count", USUAL) == 1
    for kind, tokens in (("input", 9), ("output", 3)):
        labels = USUAL | {"gen_ai_token_type": kind}
        assert registry.get_sample_value("gen_ai_client_token_usage_sum", labels) == tokens
    assert calls[0].operation is not None
    assert calls[0].operation.seconds <= calls[0].seconds


async def test_a_choice_is_no_stream(
    fake: FakeEngine, engine: Engine, calls: Calls, spans: InMemorySpanExporter
) -> None:
    fake.chat = answers(first_token(token_id_7=-0.1, token_id_8=-2.0))
    await engine.choose(MESSAGES, (" A", " B"), tenant="acme")
    about = dict(only(spans).attributes or {})
    assert (about["alignx.call"], about["gen_ai.request.stream"]) == ("choose", False)
    assert "gen_ai.response.time_to_first_chunk" not in about
    first_chunk = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
    assert count(calls).get_sample_value(first_chunk, USUAL) is None


async def test_a_failure_says_of_what_kind(
    fake: FakeEngine, engine: Engine, calls: Calls, spans: InMemorySpanExporter
) -> None:
    fake.chat = fails(503)
    await refused(engine.complete(MESSAGES, **SAMPLING), EngineUnavailable)
    span = only(spans)
    assert (span.name, (span.attributes or {})["error.type"]) == ("chat tiny", "unavailable")
    assert count(calls).get_sample_value(DURATION, USUAL | {"error_type": "unavailable"}) == 1


async def test_a_model_that_a_caller_makes_up_is_not_written_down(
    fake: FakeEngine, engine: Engine, calls: Calls, spans: InMemorySpanExporter
) -> None:
    fake.chat = fails(404)
    await refused(chat_bytes(engine, {"messages": MESSAGES, "model": "what ada said"}), ModelUnknown)
    span = only(spans)
    assert span.name == "chat"
    assert "ada" not in str(span.attributes)
    unknown = USUAL | {"gen_ai_request_model": "other", "error_type": "unavailable"}
    assert count(calls).get_sample_value(DURATION, unknown) == 1
    fake.chat = reply("hello")
    await chat_bytes(engine, {"messages": MESSAGES, "model": "adapter", "stream": True})
    assert spans.get_finished_spans()[-1].name == "chat adapter"


def test_the_number_of_models_is_bounded() -> None:
    names = ModelNames()
    for number in range(100):
        names.add(f"m{number}")
    assert (names.name("m0"), names.name("m99"), names.name(["m0"])) == ("m0", "other", "other")
