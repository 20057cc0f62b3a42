"""An OpenTelemetry collector for tests: takes OTLP over HTTP and keeps every span."""

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.live.receiver import receiving


@dataclass(frozen=True)
class Collected:
    """A span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    """Span ids."""
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    url: str = ""
    spans: list[Collected] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        self.paths.add(path)
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"
            )
            for scope in resource.scope_spans:
                self.spans += [_collected(service, span) for span in scope.spans]
        return 200

    def of_trace(self, trace_id: str) -> list[Collected]:
        return [span for span in self.spans if span.trace_id == trace_id]


def _collected(service: str, span: Any) -> Collected:
    return Collected(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        attributes={pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes},
        failed=span.status.code == 2,
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    with receiving(collector.take) as collector.url:
        yield collector
