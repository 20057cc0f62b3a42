"""Traces: which work belongs to one call, from the gateway to the summary version it leads to.

Written against OpenTelemetry's API. Spans are recorded only where ALIGNX_TRACING__ENDPOINT is set
(services/server/spans.py). A caller's `traceparent` (W3C Trace Context) is passed on in any case, so that logs can
name the trace: with every call between the services and with every event, not to the engine.
Attributes never hold a user's id or text.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    NoOpTracer,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer: Tracer = NoOpTracer()


def record_with(tracer: Tracer) -> None:
    """Records the spans of this process from now on. OpenTelemetry's global provider stays unset: with one, FastAPI
    and redis-py record spans of their own, whose paths and keys name users."""
    global _tracer
    _tracer = tracer


def context_of(traceparent: str) -> Context:
    """The context of a caller's work; an empty one unless the header is valid."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, Context())


def start_span(name: str, kind: SpanKind, parent: str = "", links: Sequence[str] = ()) -> Span:
    """Work that enters the process; `parent` and `links` are the `traceparent` of the calls that it comes from."""
    contexts = [get_current_span(context_of(link)).get_span_context() for link in links]
    linked = [Link(context) for context in contexts if context.is_valid]
    return _tracer.start_span(name, context_of(parent), kind, links=linked)


def traceparent_of(span: Span) -> str:
    """What a callee gets; "" when the work belongs to no trace."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, set_span_in_context(span))
    return headers.get("traceparent", "")


def current_trace_id() -> str:
    """In hexadecimal; "" outside of a trace."""
    span_context = get_current_span().get_span_context()
    return format_trace_id(span_context.trace_id) if span_context.is_valid else ""


@contextmanager
def child_span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """A part of the current work. It does not become current, so generators may leave it in another task."""
    with _ending(_tracer.start_span(name, kind=kind)) as span:
        yield span


@contextmanager
def current(span: Span) -> Iterator[Span]:
    """Makes `span` the current one for a block, and ends it there. Enter and leave it in one task."""
    token = attach(set_span_in_context(span))
    try:
        with _ending(span):
            yield span
    finally:
        detach(token)


@contextmanager
def _ending(span: Span) -> Iterator[Span]:
    try:
        yield span
    except BaseException as error:
        span.set_status(StatusCode.ERROR, type(error).__name__)  # a message can quote what a user wrote
        raise
    finally:
        span.end()
