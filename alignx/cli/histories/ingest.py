"""Sends a file of histories: in order for each user, and safely more than once.

The file is read twice: once to check every row and to hash the content, once to send. The idempotency key of a batch
depends on the content and on the rows in the batch, so the same command run again after an interruption stores no
event twice while the service remembers the keys (a day). Each event without an id gets one from its position in the
file; with these ids `SendOptions.resume` skips what the service has, which works for longer and for other batch sizes.
Of a user whose oldest events have left the service's log it also skips what stands in the file before the oldest that
is left; an event with an id of its own that has left the log is sent again.

Batches of many users go out in one call. What the service refuses of one stops no other.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from alignx.cli.histories.entries import BadLine, Entry, Source, place_of, read_entries
from alignx.client.client import AlignX
from alignx.client.errors import ProblemError, parse_problem
from alignx.schemas.many_users import LineOutcome, UserEvents
from alignx.schemas.summaries import DeadLetter

BUFFERED_EVENTS = 20_000
"""Events in memory while batches fill; then all are sent."""
BATCH_BYTES = 4 * 1024 * 1024
"""A batch of long events is sent before it is full; the service takes 16 MiB in one body."""
_EVENT_FIELD = re.compile(r"events\.(\d+)(?:\.|$)")


class Batch(NamedTuple):
    """Events of one user that go out in one call."""

    user: str
    entries: tuple[Entry, ...]

    def key(self, digest: str) -> str:
        """The Idempotency-Key: the same for the same content, user and lines."""
        first, last = self.entries[0], self.entries[-1]
        position = f"{digest}\n{first.line}.{first.part}-{last.line}.{last.part}\n{len(self.entries)}\n{self.user}"
        return f"ingest-{hashlib.sha256(position.encode()).hexdigest()[:40]}"


def split_batches(source: Source, size: int) -> Iterator[Batch]:
    """The valid rows of the file as batches of one user each, every user's in the order of the file."""
    waiting: dict[str, list[Entry]] = {}
    buffered = 0
    for entry in read_entries(source):
        if isinstance(entry, BadLine):
            continue  # reported by the scan
        pending = waiting.setdefault(entry.user, [])
        pending.append(entry)
        buffered += 1
        if len(pending) >= size or sum(other.size for other in pending) >= BATCH_BYTES:
            buffered -= len(pending)
            yield Batch(entry.user, tuple(waiting.pop(entry.user)))
        if buffered >= BUFFERED_EVENTS:
            yield from _flush(waiting)
            buffered = 0
    yield from _flush(waiting)


def _flush(waiting: dict[str, list[Entry]]) -> Iterator[Batch]:
    for user in tuple(waiting):
        yield Batch(user, tuple(waiting.pop(user)))


# --- sending -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SendOptions:
    resume: bool = False
    """Skip what the service has."""
    backfill: bool = False
    source: str | None = None
    """Set on events that name none."""


class Progress(NamedTuple):
    """After a batch: how many of its events went out now, and how many the service had."""

    sent: int = 0
    known: int = 0
    late: int = 0
    """Sent ones that occurred before others that the service had."""
    refused: tuple[BadLine, ...] = ()
    """What the service has refused, each with its row."""


class Sending:
    """The batches of one file on their way."""

    def __init__(self, client: AlignX, batches: Iterator[Batch], digest: str, options: SendOptions) -> None:
        self._client = client
        self._batches = batches
        self._digest = digest
        self._options = options
        self._again: deque[Batch] = deque()
        """What is left of batches of which an event was refused."""
        self._under_way: dict[int, Batch] = {}
        """By the number of their line."""
        self._stored: dict[str, Stored] = {}
        """By user."""
        self._known = 0
        """Events that the service had, since the latest step."""

    def run(self) -> Iterator[Progress]:
        """Sends the batches, many in a call. Raises ClientError."""
        while True:
            for outcome in self._client.append_all(self._lines()):
                yield self._take(outcome)
            if not self._again:
                break
        yield Progress(known=self._take_known())

    def _lines(self) -> Iterator[UserEvents]:
        """The batches as lines of calls; each first without what the service has."""
        self._under_way.clear()
        number = 0
        while batch := self._again.popleft() if self._again else next(self._batches, None):
            left = self._without_stored(batch)
            if left.entries:
                number += 1
                self._under_way[number] = left
                yield self._line(left)

    def _without_stored(self, batch: Batch) -> Batch:
        if not self._options.resume:
            return batch
        if batch.user not in self._stored:
            self._stored[batch.user] = fetch_stored(self._client, batch.user, self._digest)
        stored = self._stored[batch.user]
        left = tuple(entry for entry in batch.entries if not stored.has(entry, self._digest))
        self._known += len(batch.entries) - len(left)
        return Batch(batch.user, left)

    def _line(self, batch: Batch) -> UserEvents:
        return UserEvents(
            user=batch.user,
            events=tuple(entry.complete(self._digest, self._options.source) for entry in batch.entries),
            backfill=self._options.backfill,
            idempotency_key=batch.key(self._digest),
        )

    def _take(self, outcome: LineOutcome) -> Progress:
        """Raises ProblemError where the service has refused for a reason that no event gave."""
        batch = self._under_way.pop(outcome.line)
        if outcome.accepted:
            count, known = len(batch.entries), self._take_known()
            if outcome.accepted.replayed:
                return Progress(known=known + count)
            return Progress(sent=count, known=known, late=outcome.accepted.late)
        problem = parse_problem(outcome.problem or {}, status=outcome.status)
        places = {
            int(found[1]): error.message for error in problem.errors if (found := _EVENT_FIELD.match(error.field))
        }
        if not places:
            raise problem
        self._again.append(
            Batch(batch.user, tuple(entry for place, entry in enumerate(batch.entries) if place not in places))
        )
        return Progress(
            refused=tuple(BadLine(batch.entries[place].line, "", message) for place, message in places.items())
        )

    def _take_known(self) -> int:
        known, self._known = self._known, 0
        return known


@dataclass(frozen=True)
class Stored:
    """Which events of a file the service has of a user."""

    ids: frozenset[str] = frozenset()
    before: tuple[int, int] = (0, 0)
    """Line and part before which all were sent, though some are no longer kept."""

    def has(self, entry: Entry, digest: str) -> bool:
        was_sent = entry.event.id is None and (entry.line, entry.part) < self.before
        return was_sent or entry.id(digest) in self.ids


def fetch_stored(client: AlignX, user: str, digest: str) -> Stored:
    """Looks through the user's log and the events that were set aside. Raises ProblemError."""
    try:
        kept = [stored.interaction.id for stored in client.all_events(user)]
        dead = [letter.interaction.id if letter.interaction else None for letter in _all_dead_letters(client, user)]
        before = next((place for one in kept if one and (place := place_of(one, digest))), None)
        if before and client.preferences(user).events_total <= len(kept) + len(dead):
            before = None  # nothing has left
    except ProblemError as error:
        if error.code == "user_unknown":
            return Stored()
        raise
    return Stored(frozenset(filter(None, kept + dead)), before or (0, 0))


def _all_dead_letters(client: AlignX, user: str) -> Iterator[DeadLetter]:
    page = client.dead_letters(user)
    yield from page.events
    while page.next is not None:
        page = client.dead_letters(user, after=page.next)
        yield from page.events
