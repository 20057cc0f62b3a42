"""Reads a file of histories and sends it: in order for each user, and safely more than once.

Two kinds of lines, which may be mixed:

    {"type": "click", "clicked": "…", "shown": […], "user": "ada"}            one interaction
    {"userid": "ada", "history": [{"query": "…", "chosen": "…", "rejected": "…"}], …}    a UPI row

Lines of `alignx export` are read too: the events, also those that failed, not the summaries.

The file is read twice: once to check every line and to hash the content, once to send. The
Idempotency-Key of a batch depends on the content and on the lines in the batch, so the same command
run again after an interruption stores no event twice while the service remembers the keys (a day).
Each event without an id gets one from its position in the file; with these ids `SendOptions.resume`
skips what the service has, which works for longer and for other batch sizes.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from alignx.client import endpoints
from alignx.client.client import AlignX
from alignx.client.errors import ProblemError
from alignx.schemas.interactions import INTERACTION, ComparisonInteraction, Interaction
from alignx.schemas.items import Item, UserId

T = TypeVar("T")

BUFFERED_EVENTS = 20_000
"""Events in memory while batches fill; then all are sent."""
BATCH_BYTES = 4 * 1024 * 1024
"""A batch of long events is sent before it is full; the service takes 16 MiB in one body."""
RETRIES = 60
"""A full queue is normal while a file is sent: the service says when to retry."""

EXPORT_SKIPPED = frozenset({"header", "version", "rejected_draft"})
EXPORT_EVENTS = frozenset({"event", "dead_letter"})
"""Lines of an export: those that are no events of a history, and those that are."""

USER: TypeAdapter[str] = TypeAdapter(UserId)


class BadLine(NamedTuple):
    """A line that is not usable. `line` counts from 1; `field` is empty for the line as a whole."""

    line: int
    field: str
    message: str


class LineError(Exception):
    """Raised for a bad line; carries every field that is wrong."""

    def __init__(self, problems: tuple[BadLine, ...]) -> None:
        super().__init__(problems)
        self.problems = problems


class Entry(NamedTuple):
    """One event and its position: the line, and the part of it where a line holds several."""

    line: int
    part: int
    user: str
    event: Interaction
    size: int
    """Bytes of the line's share."""


class Batch(NamedTuple):
    """Events of one user that go out in one call."""

    user: str
    entries: tuple[Entry, ...]

    def key(self, digest: str) -> str:
        """The Idempotency-Key: the same for the same content, user and lines."""
        first, last = self.entries[0], self.entries[-1]
        position = f"{digest}\n{first.line}.{first.part}-{last.line}.{last.part}\n{len(self.entries)}\n{self.user}"
        return f"ingest-{hashlib.sha256(position.encode()).hexdigest()[:40]}"


@dataclass(frozen=True)
class Scan:
    """What a file holds."""

    digest: str
    """SHA-256 of the content."""
    events: int
    users: int
    bad: tuple[BadLine, ...]


class UpiTriple(BaseModel):
    """One choice of a UPI row; further fields are not read."""

    query: str | None = None
    chosen: Item
    rejected: Item


class UpiRow(BaseModel):
    """A row of the family's benchmark form. Its target is what a summary is tested on, so it is not history."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    userid: UserId | None = None
    history: tuple[UpiTriple, ...] = Field(min_length=1)


class ExportedEvent(BaseModel):
    """A line of an export; its position in the old log is not read."""

    interaction: dict[str, Any]


# --- reading -----------------------------------------------------------------------------------


def scan(file: BinaryIO, default_user: str | None) -> Scan:
    """Reads the whole file and checks each line."""
    reader = Reader(default_user)
    digest, bad, users, events = hashlib.sha256(), list[BadLine](), set[str](), 0
    for number, line in enumerate(file, start=1):
        digest.update(line)
        try:
            entries = reader.read(number, line)
        except LineError as error:
            bad.extend(error.problems)
            continue
        events += len(entries)
        users.update(entry.user for entry in entries)
    return Scan(digest.hexdigest(), events, len(users), tuple(bad))


class Reader:
    """Turns the lines of one file into events. A line's own user goes before `default_user`."""

    def __init__(self, default_user: str | None) -> None:
        self._user = default_user

    def read(self, number: int, line: bytes) -> tuple[Entry, ...]:
        """The events of a line; none where it is blank or belongs to an export's other lines.

        Raises LineError.
        """
        content = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not content:
            return ()
        try:
            document = from_json(content, allow_inf_nan=False)
        except ValueError as error:
            raise LineError((BadLine(number, "", f"not JSON: {error}"),)) from error
        if not isinstance(document, dict):
            raise LineError((BadLine(number, "", "not a JSON object"),))
        if document.get("kind") in EXPORT_SKIPPED or _has_no_content(document):
            # The header names the user of all lines that follow.
            self._user = self._user or document.get("user")
            return ()
        line_user, events = _parse_events(number, document)
        user = _validate(number, lambda: USER.validate_python(_select_user(number, line_user, self._user)), "user")
        share = len(content) // len(events)
        return tuple(Entry(number, part, user, event, share) for part, event in enumerate(events))


def _has_no_content(document: dict[str, Any]) -> bool:
    """Whether the line is a failed event of an export whose content could not be read."""
    return document.get("kind") == "dead_letter" and document.get("interaction") is None


def _parse_events(number: int, document: dict[str, Any]) -> tuple[object, tuple[Interaction, ...]]:
    """The line's own user, and its events."""
    if "history" in document and "type" not in document:
        row = _validate(number, lambda: UpiRow.model_validate(document))
        return row.userid, tuple(
            ComparisonInteraction(query=triple.query, chosen=triple.chosen, rejected=triple.rejected)
            for triple in _check_text(number, row.history)
        )
    if document.get("kind") in EXPORT_EVENTS:
        document = _validate(number, lambda: ExportedEvent.model_validate(document)).interaction
    fields = {name: value for name, value in document.items() if name != "user"}
    # Read as JSON, not as Python values, so that lists may stand for tuples and text for dates.
    event = _validate(number, lambda: INTERACTION.validate_json(to_json(fields)))
    return document.get("user"), (event,)


def _check_text(number: int, history: tuple[UpiTriple, ...]) -> Iterator[UpiTriple]:
    for index, triple in enumerate(history):
        if triple.chosen == triple.rejected == "":
            raise LineError((BadLine(number, f"history.{index}", "chosen and rejected are both empty"),))
        yield triple


def _select_user(number: int, line_user: object, default_user: str | None) -> object:
    user = line_user if line_user is not None else default_user
    if user is None:
        raise LineError((BadLine(number, "user", "the line names no user; add it, or give --user"),))
    return str(user) if isinstance(user, int) else user


def _validate(number: int, parse: Callable[[], T], field: str = "") -> T:
    """Raises LineError. `field` names the value where the error names none."""
    try:
        return parse()
    except ValidationError as error:
        problems = tuple(
            BadLine(number, ".".join(str(part) for part in problem["loc"]) or field, problem["msg"])
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise LineError(problems) from error


def split_batches(file: BinaryIO, default_user: str | None, size: int) -> Iterator[Batch]:
    """The valid lines of the file as batches of one user each, every user's in the order of the file."""
    reader = Reader(default_user)
    waiting: dict[str, list[Entry]] = {}
    buffered = 0
    for number, line in enumerate(file, start=1):
        try:
            entries = reader.read(number, line)
        except LineError:
            continue  # reported by the scan
        for entry in entries:
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


class BatchCounts(NamedTuple):
    """After a batch: how many of its events went out now, and how many the service had."""

    sent: int
    known: int
    late: int
    """Sent ones that occurred before others that the service had."""


@dataclass(frozen=True)
class SendOptions:
    resume: bool = False
    """Skip what the service has."""
    backfill: bool = False
    source: str | None = None
    """Set on events that name none."""


def send(
    client: AlignX, batches: Iterator[Batch], digest: str, options: SendOptions = SendOptions()
) -> Iterator[BatchCounts]:
    """Sends the batches one after another."""
    stored_ids: dict[str, frozenset[str]] = {}
    for batch in batches:
        if options.resume and batch.user not in stored_ids:
            stored_ids[batch.user] = fetch_event_ids(client, batch.user)
        entries = tuple(entry for entry in batch.entries if _id(entry, digest) not in stored_ids.get(batch.user, ()))
        late = 0
        if entries:
            key = Batch(batch.user, entries).key(digest)
            events = [_complete(entry, digest, options.source) for entry in entries]
            call = endpoints.append(batch.user, events, idempotency_key=key, backfill=options.backfill)
            accepted = client.send(call, retries=RETRIES)
            if accepted.replayed:
                entries = ()
            late = accepted.late
        yield BatchCounts(len(entries), len(batch.entries) - len(entries), late)


def fetch_event_ids(client: AlignX, user: str) -> frozenset[str]:
    """The ids of the events that the service has of a user."""
    try:
        return frozenset(stored.interaction.id for stored in client.all_events(user) if stored.interaction.id)
    except ProblemError as error:
        if error.code == "user_unknown":
            return frozenset()
        raise


def _id(entry: Entry, digest: str) -> str:
    return entry.event.id or f"{digest[:16]}:{entry.line}:{entry.part}"


def _complete(entry: Entry, digest: str, source: str | None) -> Interaction:
    """The event with an id and a source."""
    return entry.event.model_copy(update={"id": _id(entry, digest), "source": entry.event.source or source})
