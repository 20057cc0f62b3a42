"""Reads a file of histories and sends it: in order for each user, and safely a second time.

Two kinds of lines, which may be mixed:

    {"type": "click", "clicked": "…", "shown": […], "user": "ada"}            one interaction
    {"userid": "ada", "history": [{"query": "…", "chosen": "…", "rejected": "…"}], …}    a UPI row

Lines of `alignx export` are read too: the events, also those that failed, not the summaries.

The file is read twice: once to check every line and to hash the content, once to send. The
Idempotency-Key of a batch follows from the content and from the lines in the batch, so running the
same command again after an interruption doubles nothing, for as long as the service remembers the
keys (a day). Each event without an id of its own gets one from its place in the file; with them
`send(…, resume=True)` asks the service what it has, which holds for longer and for other batch sizes.
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
"""Events held back while batches fill; then all are sent, so that memory stays bounded."""
BATCH_BYTES = 4 * 1024 * 1024
"""A batch of long events is sent before it is full; the service takes 16 MiB in one body."""
PATIENT_RETRIES = 60
"""A full backlog is normal while a file is sent: the service says when to come back."""

EXPORT_SKIPPED = frozenset({"header", "version"})
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
    """One event and its place: the line, and the part of it where a line holds several."""

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
        place = f"{digest}\n{first.line}.{first.part}-{last.line}.{last.part}\n{len(self.entries)}\n{self.user}"
        return f"ingest-{hashlib.sha256(place.encode()).hexdigest()[:40]}"


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
    """A line of an export; its place in the old log is not kept."""

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
        if document.get("kind") in EXPORT_SKIPPED or _lost(document):
            # The header names the user of all lines that follow.
            self._user = self._user or document.get("user")
            return ()
        named, events = _events(number, document)
        user = _checked(number, lambda: USER.validate_python(_user(number, named, self._user)), "user")
        share = len(content) // len(events)
        return tuple(Entry(number, part, user, event, share) for part, event in enumerate(events))


def _lost(document: dict[str, Any]) -> bool:
    """A failed event of an export whose content could not be kept."""
    return document.get("kind") == "dead_letter" and document.get("interaction") is None


def _events(number: int, document: dict[str, Any]) -> tuple[object, tuple[Interaction, ...]]:
    """The user a line names, and its events."""
    if "history" in document and "type" not in document:
        row = _checked(number, lambda: UpiRow.model_validate(document))
        return row.userid, tuple(
            ComparisonInteraction(query=triple.query, chosen=triple.chosen, rejected=triple.rejected)
            for triple in _some_text(number, row.history)
        )
    if document.get("kind") in EXPORT_EVENTS:
        document = _checked(number, lambda: ExportedEvent.model_validate(document)).interaction
    fields = {name: value for name, value in document.items() if name != "user"}
    # Read as JSON, not as Python values, so that lists may stand for tuples and text for dates.
    event = _checked(number, lambda: INTERACTION.validate_json(to_json(fields)))
    return document.get("user"), (event,)


def _some_text(number: int, history: tuple[UpiTriple, ...]) -> Iterator[UpiTriple]:
    for place, triple in enumerate(history):
        if triple.chosen == triple.rejected == "":
            raise LineError((BadLine(number, f"history.{place}", "chosen and rejected are both empty"),))
        yield triple


def _user(number: int, named: object, default_user: str | None) -> object:
    user = named if named is not None else default_user
    if user is None:
        raise LineError((BadLine(number, "user", "the line names no user; add it, or give --user"),))
    return str(user) if isinstance(user, int) else user


def _checked(number: int, read: Callable[[], T], name: str = "") -> T:
    try:
        return read()
    except ValidationError as error:
        problems = tuple(
            BadLine(number, ".".join(str(part) for part in problem["loc"]) or name, problem["msg"])
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise LineError(problems) from error


def batches(file: BinaryIO, default_user: str | None, size: int) -> Iterator[Batch]:
    """The file's good lines as batches of one user each, every user's in the order of the file."""
    reader = Reader(default_user)
    waiting: dict[str, list[Entry]] = {}
    held = 0
    for number, line in enumerate(file, start=1):
        try:
            entries = reader.read(number, line)
        except LineError:
            continue  # reported by the scan
        for entry in entries:
            mine = waiting.setdefault(entry.user, [])
            mine.append(entry)
            held += 1
            if len(mine) >= size or sum(one.size for one in mine) >= BATCH_BYTES:
                held -= len(mine)
                yield Batch(entry.user, tuple(waiting.pop(entry.user)))
        if held >= BUFFERED_EVENTS:
            yield from _drained(waiting)
            held = 0
    yield from _drained(waiting)


def _drained(waiting: dict[str, list[Entry]]) -> Iterator[Batch]:
    for user in tuple(waiting):
        yield Batch(user, tuple(waiting.pop(user)))


# --- sending -----------------------------------------------------------------------------------


class Progress(NamedTuple):
    """After a batch: how many of its events went out now, and how many the service had."""

    batch: Batch
    sent: int
    known: int


def send(
    client: AlignX, batches: Iterator[Batch], digest: str, *, resume: bool = False, source: str | None = None
) -> Iterator[Progress]:
    """Sends the batches one after another. `source` is set on events that name none."""
    held: dict[str, frozenset[str]] = {}
    for batch in batches:
        if resume and batch.user not in held:
            held[batch.user] = known_ids(client, batch.user)
        entries = tuple(entry for entry in batch.entries if _id(entry, digest) not in held.get(batch.user, ()))
        if entries:
            left = Batch(batch.user, entries)
            events = [_placed(entry, digest, source) for entry in entries]
            call = endpoints.append(batch.user, events, idempotency_key=left.key(digest))
            if client.send(call, retries=PATIENT_RETRIES).replayed:
                entries = ()
        yield Progress(batch, len(entries), len(batch.entries) - len(entries))


def known_ids(client: AlignX, user: str) -> frozenset[str]:
    """The ids of the events that the service keeps of a user."""
    try:
        return frozenset(stored.interaction.id for stored in client.all_events(user) if stored.interaction.id)
    except ProblemError as error:
        if error.code == "user_unknown":
            return frozenset()
        raise


def _id(entry: Entry, digest: str) -> str:
    return entry.event.id or f"{digest[:16]}:{entry.line}:{entry.part}"


def _placed(entry: Entry, digest: str, source: str | None) -> Interaction:
    return entry.event.model_copy(
        update={"id": _id(entry, digest), "source": entry.event.source or source},
    )
