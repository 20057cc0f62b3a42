"""Records spans and sends them by OTLP/HTTP; services/tracing.py says what they are for.

Imported only where ALIGNX_TRACING__ENDPOINT is set: it needs the extra `tracing`. The exporter reads headers and
certificates from OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_HEADERS.
"""

import random
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from alignx import __version__

_TRACES = "/v1/traces"


class RandomSampler(Sampler):
    """Samples at random: a caller could choose a trace id that a sampler by id always takes."""

    def __init__(self, sample: float) -> None:
        self._sample = sample

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        sampled = random.random() < self._sample  # noqa: S311  # not used for security
        return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP, attributes, trace_state)

    def get_description(self) -> str:
        return f"RandomSampler({self._sample})"


def create_provider(service: str, endpoint: str, sample: float, *, trusting: bool) -> TracerProvider:
    """Records the spans of one process. A trace of a trusted caller is recorded if the caller records its part;
    one that another caller records, or that begins here, with the probability `sample`."""
    url = endpoint.rstrip("/").removesuffix(_TRACES) + _TRACES
    resource = Resource.create({"service.name": f"alignx-{service}", "service.version": __version__})
    root = TraceIdRatioBased(sample)
    sampler = ParentBased(root) if trusting else ParentBased(root, remote_parent_sampled=RandomSampler(sample))
    provider = TracerProvider(sampler=sampler, resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return provider
