"""Which calls an update comes from: their request ids and traces, kept with the user until it is made.

Redis holds them as one string, `<request id> <traceparent>,…`, of the first few calls since the last
update; it goes when nothing waits any more. It has a key of its own: so long a field would have Redis
keep the user's state in its wide form for good.
"""

from dataclasses import dataclass

from opentelemetry.trace import Span

from services.server.logging import REQUEST_ID
from services.tracing import traceparent_of


@dataclass(frozen=True, slots=True)
class Origin:
    """A call that asked for an update."""

    request_id: str = ""
    traceparent: str = ""


def origin_of(span: Span) -> str:
    """The call under way, as it is kept; `span` is its part that led to the update."""
    return f"{REQUEST_ID.get()} {traceparent_of(span)}".strip()


def origins(kept: str) -> list[Origin]:
    """What was kept, oldest first."""
    return [Origin(*call.split(" ", 1)) for call in kept.split(",") if call]
