"""Traces as they are passed on, without the library that records them; tests/live/test_tracing.py records."""

import asyncio
from collections.abc import Callable

import pytest

from services.tracing import NO_SPAN, SPAN, Span, Tracer, current, known_traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
VALID = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("text", "known"),
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
def test_only_a_valid_traceparent_is_passed_on(text: str, known: str) -> None:
    assert known_traceparent(text) == known
    span = Tracer().span("GET", "server", text)
    assert (span.traceparent, span.trace_id) == (known, TRACE if known else "")
    assert (span is NO_SPAN) == (not known)


def test_a_part_of_unrecorded_work_is_that_work() -> None:
    span = Tracer().span("GET", "server", VALID)
    with span.child("append") as part:
        part.note({"events": 1})
    assert part is span


def test_a_span_is_current_for_its_block_and_ends_with_it() -> None:
    class Told(Span):
        def fail(self, reason: str) -> None:
            told.append(reason)

        def end(self) -> None:
            told.append("end")

    told: list[str] = []
    with current(Told(VALID)) as span:
        assert SPAN.get() is span
    assert SPAN.get() is NO_SPAN
    with pytest.raises(ValueError, match="secret"), current(Told(VALID)):
        raise ValueError("secret words")
    assert told == ["end", "ValueError", "end"]
    assert SPAN.get() is NO_SPAN


def test_tasks_at_once_have_their_own_spans() -> None:
    async def look(span: Span, pause: Callable[[], asyncio.Future[bool]]) -> bool:
        with current(span):
            await pause()
            return SPAN.get() is span

    async def both() -> list[bool]:
        barrier = asyncio.Barrier(2)
        pause = lambda: asyncio.ensure_future(passed(barrier))  # noqa: E731
        return await asyncio.gather(look(Span(VALID), pause), look(Span(""), pause))

    async def passed(barrier: asyncio.Barrier) -> bool:
        await barrier.wait()
        return True

    assert asyncio.run(both()) == [True, True]
