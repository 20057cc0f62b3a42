"""Traces as they are passed on where none is recorded; tests/live/test_tracing.py records."""

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, get_current_span

from services.tracing import child_span, context_of, current, current_trace_id, start_span, traceparent_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
VALID = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("text", "passed_on"),
    [
        (VALID, VALID),
        ("cc" + VALID[2:], VALID),  # a later version, read as this one
        ("ff" + VALID[2:], ""),
        (VALID.upper(), ""),
        (VALID + "-more", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        ("", ""),
    ],
)
def test_only_a_valid_traceparent_is_passed_on(text: str, passed_on: str) -> None:
    with current(start_span("GET", SpanKind.SERVER, text, [VALID, "", text])) as span:
        assert traceparent_of(span) == passed_on
        assert current_trace_id() == (TRACE if passed_on else "")
        with child_span("append") as part:
            part.set_attributes({"events": 1})
            assert traceparent_of(part) == passed_on
    assert current_trace_id() == ""


def test_a_span_is_current_for_its_block_and_ends_with_it() -> None:
    class Recorder(NonRecordingSpan):
        def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
            events.append(str(description))

        def end(self, end_time: int | None = None) -> None:
            events.append("end")

    events: list[str] = []
    recorder = Recorder(get_current_span(context_of(VALID)).get_span_context())
    with current(recorder) as span:
        assert get_current_span() is span
    with pytest.raises(ValueError, match="secret"), current(recorder):
        raise ValueError("secret words")
    assert events == ["end", "ValueError", "end"]
    assert current_trace_id() == ""
