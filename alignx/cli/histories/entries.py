"""Turns the rows of a file of histories into events of users, each with its place in the file.

Three kinds of rows, which may be mixed:

    {"type": "click", "clicked": "…", "shown": […], "user": "ada"}            one interaction
    {"userid": "ada", "history": [{"query": "…", "chosen": "…", "rejected": "…"}], …}    a UPI row
    a line of `alignx export`: the events, also those that failed, not the summaries
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from alignx.cli.histories.rows import Format, Row, read_rows
from alignx.schemas.interactions import INTERACTION, ComparisonInteraction, Interaction
from alignx.schemas.items import EVENT_BYTES, Item, UserId

T = TypeVar("T")

EXPORT_SKIPPED = frozenset({"header", "version", "rejected_draft", "answer"})
EXPORT_EVENTS = frozenset({"event", "chat", "dead_letter"})
"""Lines of an export: those that are no events of a history, and those that are."""
DIGEST_CHARS = 16
"""Of the file's digest in the id of an event."""

USER: TypeAdapter[str] = TypeAdapter(UserId)


class BadLine(NamedTuple):
    """A line that is not usable. `line` counts from 1; `field` is empty for the line as a whole."""

    line: int
    field: str
    message: str


class LineError(Exception):
    """Raised for a bad line, with the field and the message of everything that is wrong with it."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__(problems)
        self.problems = problems


class Entry(NamedTuple):
    """One event and its position: the line, and the part of it where a line holds several."""

    line: int
    part: int
    user: str
    event: Interaction
    size: int
    """Bytes of the row's share."""

    def id(self, digest: str) -> str:
        """The event's own id, or one from its place in the file."""
        return self.event.id or f"{digest[:DIGEST_CHARS]}:{self.line}:{self.part}"

    def complete(self, digest: str, source: str | None = None) -> Interaction:
        """The event with an id and a source."""
        return self.event.model_copy(update={"id": self.id(digest), "source": self.event.source or source})


def place_of(event_id: str, digest: str) -> tuple[int, int] | None:
    """The line and the part that `Entry.id` made an id of; None for another id."""
    found = re.fullmatch(rf"{digest[:DIGEST_CHARS]}:(\d+):(\d+)", event_id)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True)
class Source:
    """A file of histories that can be read more than once."""

    file: BinaryIO
    kind: Format = "jsonl"
    default_user: str | None = None
    """Of rows that name none."""
    event_bytes: int = EVENT_BYTES
    """Largest event that the service takes."""

    def rows(self) -> Iterator[Row]:
        """From the start of the file."""
        self.file.seek(0)
        return read_rows(self.file, self.kind)

    def digest(self) -> str:
        """SHA-256 of the content."""
        self.file.seek(0)
        digest = hashlib.sha256()
        while block := self.file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


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


def scan(source: Source) -> Scan:
    """Reads the whole file and checks each row."""
    bad, users, events = list[BadLine](), set[str](), 0
    for found in read_entries(source):
        if isinstance(found, BadLine):
            bad.append(found)
        else:
            events += 1
            users.add(found.user)
    return Scan(source.digest(), events, len(users), tuple(bad))


def read_entries(source: Source) -> Iterator[Entry | BadLine]:
    """The events of all rows, and what is wrong with a row in place of its events."""
    user = source.default_user
    for row in source.rows():
        if row.error:
            yield BadLine(row.number, "", row.error)
        elif row.content and _is_no_event(row.content):
            if row.content.get("kind") == "header":  # which names the user of all lines that follow
                user = source.default_user or row.content.get("user")
        elif row.content is not None:
            try:
                yield from _read_row(row, user, source.event_bytes)
            except LineError as error:
                yield from (BadLine(row.number, *problem) for problem in error.problems)


def _is_no_event(document: dict[str, Any]) -> bool:
    """Whether it is one of an export's other lines, or a failed event whose content could not be read."""
    kind = document.get("kind")
    return kind in EXPORT_SKIPPED or (kind == "dead_letter" and document.get("interaction") is None)


def _read_row(row: Row, default_user: str | None, most_bytes: int) -> tuple[Entry, ...]:
    """Raises LineError."""
    line_user, events = _parse_events(row.content)
    user = _validate(lambda: USER.validate_python(_select_user(line_user, default_user)), "user")
    share = row.size // len(events)
    entries = tuple(Entry(row.number, part, user, event, share) for part, event in enumerate(events))
    if row.size > most_bytes // 2:  # as it is stored an event may be longer than here
        _check_sizes(entries, most_bytes)
    return entries


def _check_sizes(entries: tuple[Entry, ...], most_bytes: int) -> None:
    sizes = [len(encode(entry.complete("0" * DIGEST_CHARS))) for entry in entries]
    problems = [
        (f"history.{part}" if len(entries) > 1 else "", f"{size:,} bytes; an event may have {most_bytes:,}")
        for part, size in enumerate(sizes)
        if size > most_bytes
    ]
    if problems:
        raise LineError(*problems)


def encode(event: Interaction) -> bytes:
    """The event as the service stores it."""
    return event.model_dump_json(exclude_none=True).encode()


def _parse_events(document: dict[str, Any]) -> tuple[object, tuple[Interaction, ...]]:
    """The line's own user, and its events."""
    if "history" in document and "type" not in document:
        row = _validate(lambda: UpiRow.model_validate(document))
        for index, triple in enumerate(row.history):
            if triple.chosen == triple.rejected == "":
                raise LineError((f"history.{index}", "chosen and rejected are both empty"))
        return row.userid, tuple(
            ComparisonInteraction(query=triple.query, chosen=triple.chosen, rejected=triple.rejected)
            for triple in row.history
        )
    if document.get("kind") in EXPORT_EVENTS:
        document = _validate(lambda: ExportedEvent.model_validate(document)).interaction
    fields = {name: value for name, value in document.items() if name != "user"}
    # Read as JSON, not as Python values, so that lists may stand for tuples and text for dates.
    event = _validate(lambda: INTERACTION.validate_json(to_json(fields)))
    return document.get("user"), (event,)


def _select_user(line_user: object, default_user: str | None) -> object:
    user = line_user if line_user is not None else default_user
    if user is None:
        raise LineError(("user", "the line names no user; add it, or give --user"))
    return user


def _validate(parse: Callable[[], T], field: str = "") -> T:
    """Raises LineError. `field` names the value where the error names none."""
    try:
        return parse()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise LineError(*((".".join(map(str, each["loc"])) or field, each["msg"]) for each in problems)) from error
