"""Spans that are recorded and sent, by OpenTelemetry over OTLP/HTTP; tracing.py says what they are for.

Imported only where ALIGNX_TRACING__ENDPOINT is set: it needs the extra `tracing`. Where spans go may
ask for headers; the exporter reads OTEL_EXPORTER_OTLP_HEADERS, and certificates, by OpenTelemetry's
own variables.
"""

import random
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind as OtelKind
from opentelemetry.trace import Tracer as OtelTracer
from opentelemetry.util.types import Attributes as OtelAttributes

from services.tracing import Attributes, Span, SpanKind, Tracer, known_traceparent

_KINDS: dict[SpanKind, OtelKind] = {
    "internal": OtelKind.INTERNAL,
    "server": OtelKind.SERVER,
    "client": OtelKind.CLIENT,
    "consumer": OtelKind.CONSUMER,
}
_TRACES = "/v1/traces"


class RecordedSpan(Span):
    """A span that OpenTelemetry keeps until it is sent."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: OtelTracer, span: OtelSpan) -> None:
        place = span.get_span_context()
        super().__init__(f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}")
        self._tracer = tracer
        self._span = span

    def child(self, name: str, kind: SpanKind = "internal") -> Span:
        inside = set_span_in_context(self._span)
        return RecordedSpan(self._tracer, self._tracer.start_span(name, inside, _KINDS[kind]))

    def note(self, attributes: Attributes, name: str = "") -> None:
        self._span.set_attributes(attributes)
        if name:
            self._span.update_name(name)

    def fail(self, reason: str) -> None:
        self._span.set_status(StatusCode.ERROR, reason)

    def end(self) -> None:
        self._span.end()


class Drawn(Sampler):
    """Samples by lot: a caller could choose a trace id that a sampler by id always takes."""

    def __init__(self, sample: float) -> None:
        self._sample = sample

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: OtelKind | None = None,
        attributes: OtelAttributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        taken = random.random() < self._sample  # noqa: S311  # no secret hangs on it
        return SamplingResult(Decision.RECORD_AND_SAMPLE if taken else Decision.DROP, attributes, trace_state)

    def get_description(self) -> str:
        return f"Drawn({self._sample})"


class RecordingTracer(Tracer):
    """Records the spans of one process; a trace that comes from a trusted caller is recorded if the
    caller's part is, one that would be by another's with the probability `sample`, as a new one is."""

    def __init__(self, service: str, version: str, endpoint: str, sample: float, *, trusting: bool = True) -> None:
        url = endpoint.rstrip("/").removesuffix(_TRACES) + _TRACES
        resource = Resource.create({"service.name": f"alignx-{service}", "service.version": version})
        root = TraceIdRatioBased(sample)
        sampler = ParentBased(root) if trusting else ParentBased(root, remote_parent_sampled=Drawn(sample))
        self._provider = TracerProvider(sampler=sampler, resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("alignx", version)

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str = "",
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        place = _place(parent)
        inside = set_span_in_context(NonRecordingSpan(place), Context()) if place else Context()
        linked = [Link(found) for link in links if (found := _place(link))]
        return RecordedSpan(self._tracer, self._tracer.start_span(name, inside, _KINDS[kind], attributes, linked))

    def close(self) -> None:
        self._provider.shutdown()


def _place(traceparent: str) -> SpanContext | None:
    known = known_traceparent(traceparent)
    if not known:
        return None
    _, trace_id, span_id, flags = known.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
