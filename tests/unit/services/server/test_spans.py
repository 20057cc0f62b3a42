"""Which traces are recorded, by the library that records them."""

import pytest

from services.server.spans import RecordingTracer

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LOW_ID = f"00-{'0' * 31}1-00f067aa0ba902b7-01"


@pytest.mark.parametrize("traceparent", [SAMPLED, LOW_ID])
@pytest.mark.parametrize(
    ("trusting", "sample", "recorded"), [(True, 0.0, True), (False, 0.0, False), (False, 1.0, True)]
)
def test_a_caller_s_flag_counts_where_callers_are_trusted(
    traceparent: str, trusting: bool, sample: float, recorded: bool
) -> None:
    tracer = RecordingTracer("gateway", "1", "http://127.0.0.1:9", sample, trusting=trusting)
    span = tracer.span("GET", "server", traceparent)
    assert span.trace_id == traceparent[3:35]
    assert span.traceparent.endswith("-01") == recorded
    assert span.child("call preference").traceparent.endswith("-01") == recorded


def test_a_caller_that_does_not_record_is_left_out() -> None:
    tracer = RecordingTracer("gateway", "1", "http://127.0.0.1:9", 1.0, trusting=False)
    assert tracer.span("GET", "server", SAMPLED[:-1] + "0").traceparent.endswith("-00")
