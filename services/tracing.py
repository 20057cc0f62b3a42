"""Traces: which work belongs to one call, from the gateway to the summary version it leads to.

A span is a piece of work with a begin and an end; the `traceparent` (W3C Trace Context) names its
trace and itself, and goes with every call between the services and with every event; the engine is not
told. The spans here keep nothing: they hand
the caller's `traceparent` on as it came, so that logs can name the trace. Those that are recorded and
sent are in spans.py and exist only where ALIGNX_TRACING__ENDPOINT is set.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, Self

SpanKind = Literal["internal", "server", "client", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})")


def known_traceparent(text: str) -> str:
    """The header as it is passed on; "" unless it is valid."""
    found = _TRACEPARENT.fullmatch(text)
    return f"00-{found[1]}" if found else ""


class Span:
    """A piece of work that is not recorded; the base of those that are.

    As a context manager it ends with its block, as failed if that raised. Attributes never hold a
    user's id or text.
    """

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent
        """What a callee is told; "" when the work belongs to no trace."""

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]

    def child(self, name: str, kind: SpanKind = "internal") -> "Span":
        """A part of this work."""
        return self

    def note(self, attributes: Attributes, name: str = "") -> None:
        """Adds attributes, and a better name when it is known."""

    def fail(self, reason: str) -> None:
        """Marks the work as failed; `reason` is a code or the name of a class."""

    def end(self) -> None:
        """Closes it; once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(type(error).__name__)  # the class alone: a message can quote what a user wrote
        self.end()


NO_SPAN = Span()
SPAN: ContextVar[Span] = ContextVar("span", default=NO_SPAN)
"""The work that the running code is part of."""


@contextmanager
def current(span: Span) -> Iterator[Span]:
    """Makes `span` the current one for a block, and ends it there. Enter and leave it in one task."""
    token = SPAN.set(span)
    try:
        with span:
            yield span
    finally:
        SPAN.reset(token)


class Tracer:
    """Starts the spans at which work enters a process. This one records nothing."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str = "",
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        """`parent` and `links` are the `traceparent` of the calls that the work comes from."""
        known = known_traceparent(parent) if parent else ""
        return Span(known) if known else NO_SPAN

    def close(self) -> None:
        """Sends what is still to be sent."""
