"""Which traces are recorded, by the library that records them."""

import pytest
from opentelemetry.trace import set_span_in_context

from services.server.spans import create_provider
from services.tracing import context_of, traceparent_of

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LOW_ID = f"00-{'0' * 31}1-00f067aa0ba902b7-01"


@pytest.mark.parametrize("traceparent", [SAMPLED, LOW_ID])
@pytest.mark.parametrize(
    ("trusting", "sample", "recorded"), [(True, 0.0, True), (False, 0.0, False), (False, 1.0, True)]
)
def test_a_caller_s_flag_counts_where_callers_are_trusted(
    traceparent: str, trusting: bool, sample: float, recorded: bool
) -> None:
    provider = create_provider("gateway", "http://127.0.0.1:9", sample, trusting=trusting)
    span = provider.get_tracer("test").start_span("GET", context_of(traceparent))
    part = provider.get_tracer("test").start_span("call preference", set_span_in_context(span))
    for recording in (span, part):
        assert traceparent_of(recording)[3:35] == traceparent[3:35]
        assert traceparent_of(recording).endswith("-01") == recorded


def test_a_caller_that_does_not_record_is_left_out() -> None:
    provider = create_provider("gateway", "http://127.0.0.1:9", 1.0, trusting=False)
    span = provider.get_tracer("test").start_span("GET", context_of(SAMPLED[:-1] + "0"))
    assert traceparent_of(span).endswith("-00")
