"""What the queue's scripts take and answer, and the calls that an update comes from.

Redis stores these calls as one text, `<request id> <traceparent>,…`: the first few since the last update,
until nothing waits any more. They have a key of their own: so long a field would make Redis store the
user's state in its larger form for good.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from opentelemetry.trace import Span

from services.preference.cadence import DUE, News
from services.server.logging import REQUEST_ID
from services.storage.prequential import encode_window, hit
from services.tracing import traceparent_of

_PREDICTED_PAIRS = 4


@dataclass(frozen=True, slots=True)
class PrequentialSums:
    """Sums of prequential tests: choices, correct predictions (a tie counts half), probability of the chosen."""

    count: int = 0
    hits: float = 0.0
    mass: float = 0.0
    window: str = ""
    """The latest probabilities, as `encode_window` has them."""

    @classmethod
    def from_choices(cls, choices: Sequence[Sequence[float]]) -> "PrequentialSums":
        """From the probabilities of the chosen item against each item it was chosen over, choice by choice."""
        pairs = [probability for choice in choices for probability in choice]
        window = encode_window([fmean(choice) for choice in choices])
        return cls(len(pairs), sum(map(hit, pairs)), sum(pairs), window)

    def arguments(self) -> dict[str, Any]:
        """For a script, which adds floats by their texts."""
        return {"count": self.count, "hits": repr(self.hits), "mass": repr(self.mass), "window": self.window}


def encode_predictions(probabilities: Sequence[float]) -> str:
    """Of an event's first pairs, of which a worker judges a few; as exact as log-odds are taken (choice/fusion.py)."""
    return " ".join(f"{probability:.9g}" for probability in probabilities[:_PREDICTED_PAIRS])


@dataclass(frozen=True, slots=True)
class Append:
    """Encoded events of one user, and the profile that includes them."""

    events: Sequence[str]
    stamp: str
    """Of the state that the profile was made from."""
    profile: bytes
    scored: PrequentialSums = PrequentialSums()
    predicted: Sequence[str] = ()
    """For each event, what the profile before it gave to the chosen item, as `encode_predictions` has it."""
    drawn: Sequence[str] = ()
    """For each event, an item to compare the one taken with, as `Drawn.text` has it (traffic/negatives.py)."""
    has_items: bool = False
    """Whether the items of the events are to be counted."""
    idempotency_key: str = ""
    digest: str = ""
    at_once: bool = False
    """Whether the update starts without waiting for more events."""
    call: str = ""
    """The call that brings the events (`Origin`)."""
    news: News = DUE
    max_hourly: int = 0
    """Events of the user that are taken in an hour, the whole of these or none; 0 for no bound."""
    chat: str = ""
    """Response id of the conversation that the events are, which is not to wait any longer (outcomes/chats.py)."""

    def arguments(self) -> dict[str, Any]:
        """For a script, beside the profile and the events."""
        names = ("stamp", "at_once", "idempotency_key", "digest", "has_items", "call", "max_hourly", "chat")
        own = {name: getattr(self, name) for name in names}
        own |= {"predicted": list(self.predicted), "drawn": list(self.drawn)}
        return own | {"scored": self.scored.arguments(), "news": self.news.arguments()}


class AppendResult(NamedTuple):
    ids: tuple[str, ...]
    pending: int
    replayed: bool = False
    window: str = ""
    """The user's latest predicted choices before these, as storage/prequential.py has them."""
    late: int = 0
    """How many of the events occurred before others that an earlier call had brought."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A user whom a worker holds under a lease."""

    tenant: str
    user: str
    member: str
    token: str
    cursor: str
    version: int
    pending: int
    cap: int
    """At most this many events in this update; 0 is no cap."""
    suspect: bool
    """The next event has killed workers before and must not be tried again."""
    rebuild: str
    """Id of the requested rebuild; empty for none."""
    born: str
    last_id: str
    """The newest event at the time of the claim."""
    calls: str = ""
    """The calls that asked for the update (`Origin`)."""


class ClaimResult(NamedTuple):
    expired: int
    """Leases that had run out."""
    claim: Claim | None


_PART = 100
"""Entries that one script copies."""


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of a stream."""

    ids: Sequence[str]
    """Of all its entries, oldest first."""
    removed: frozenset[str]

    def parts(self) -> Iterator[dict[str, Any]]:
        """For copy_stream.lua, one after the other."""
        for start in range(0, len(self.ids), _PART):
            ids = self.ids[start : start + _PART]
            without = [entry_id for entry_id in ids if entry_id in self.removed]
            if len(without) < len(ids):
                yield {"first": ids[0], "last": ids[-1], "without": without}


@dataclass(frozen=True, slots=True)
class Removal:
    """What is removed of a user with some events, and what takes its place."""

    stamp: str
    seen: Sequence[str]
    """Version, cursor, pending events and newest rejected draft from which it was made."""
    log: Remainder
    dead_letters: Remainder
    pending: int
    """How many of the removed events wait."""
    versions: Sequence[int]
    drafts: Sequence[str]
    """Rejected drafts as they are stored."""
    drops_checkpoint: bool
    is_urgent: bool
    """Whether the update that follows is due at once; else it waits, as for a backfill, until nobody else does."""
    profile: bytes
    record: str
    """The version after the current one, if that is removed; else empty."""

    @property
    def number(self) -> int:
        """Of the version that `record` is."""
        return int(self.seen[0]) + 1

    @property
    def streams(self) -> tuple[Remainder, Remainder]:
        return self.log, self.dead_letters

    def arguments(self) -> dict[str, Any]:
        return {
            "stamp": self.stamp,
            "seen": list(self.seen),
            "sizes": [len(left.ids) - len(left.removed) for left in self.streams],
            "pending": self.pending,
            "removed_versions": list(self.versions),
            "drops_checkpoint": self.drops_checkpoint,
            "is_urgent": self.is_urgent,
        }

    def texts(self) -> list[str | bytes]:
        return [self.profile, self.record, *self.drafts]


class RetryResult(NamedTuple):
    pending: int
    moved: list[tuple[str, str]]
    """The old and the new id of each event."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A call that asked for an update."""

    request_id: str = ""
    traceparent: str = ""


def encode_origin(span: Span) -> str:
    """The current call as it is stored; `span` is its part that leads to the update."""
    return f"{REQUEST_ID.get()} {traceparent_of(span)}".strip()


def parse_origins(calls: str) -> list[Origin]:
    """The stored calls, oldest first."""
    return [Origin(*call.split(" ", 1)) for call in calls.split(",") if call]
