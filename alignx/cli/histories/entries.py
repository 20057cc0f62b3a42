"""Turns the rows of a file of histories into events of users, each with its place in the file.

Three kinds of rows, which may be mixed:

    {"type": "click", "clicked": "…", "shown": […], "user": "ada"}            one interaction
    {"userid": "ada", "history": [{"query": "…", "chosen": "…", "rejected": "…"}], …}    a UPI row
    a line of `alignx export`: the events, also those that failed, not the summaries
"""

import hashlib
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
    """Bytes of the row's share."""

    def id(self, digest: str) -> str:
        """The event's own id, or one from its place in the file."""
        return self.event.id or f"{digest[:DIGEST_CHARS]}:{self.line}:{self.part}"

    def complete(self, digest: str, source: str | None = None) -> Interaction:
        """The event with an id and a source."""
        return self.event.model_copy(update={"id": self.id(digest), "source": self.event.source or source})


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
    for result in read_entries(source):
        if isinstance(result, LineError):
            bad.extend(result.problems)
        else:
            events += len(result)
            users.update(entry.user for entry in result)
    return Scan(source.digest(), events, len(users), tuple(bad))


def read_entries(source: Source) -> Iterator["tuple[Entry, ...] | LineError"]:
    """The events of each row, or what is wrong with it."""
    reader = Reader(source)
    for row in source.rows():
        try:
            yield reader.read(row)
        except LineError as error:
            yield error


class Reader:
    """Turns the rows of one file into events. A row's own user goes before the default one."""

    def __init__(self, source: Source) -> None:
        self._user = source.default_user
        self._event_bytes = source.event_bytes

    def read(self, row: Row) -> tuple[Entry, ...]:
        """The events of a row; none where it is blank or belongs to an export's other lines.

        Raises LineError.
        """
        number, document = row.number, row.content
        if row.error:
            raise LineError((BadLine(number, "", row.error),))
        if document is None:
            return ()
        if document.get("kind") in EXPORT_SKIPPED or _has_no_content(document):
            # The header names the user of all lines that follow.
            self._user = self._user or document.get("user")
            return ()
        line_user, events = _parse_events(number, document)
        user = _validate(number, lambda: USER.validate_python(_select_user(number, line_user, self._user)), "user")
        share = row.size // len(events)
        entries = tuple(Entry(number, part, user, event, share) for part, event in enumerate(events))
        if row.size > self._event_bytes // 2:  # as it is stored an event may be longer than here
            self._check_sizes(entries)
        return entries

    def _check_sizes(self, entries: tuple[Entry, ...]) -> None:
        sizes = [(entry, len(encode(entry.complete("0" * DIGEST_CHARS)))) for entry in entries]
        problems = tuple(
            BadLine(
                entry.line,
                f"history.{entry.part}" if len(entries) > 1 else "",
                f"{size:,} bytes; an event may have {self._event_bytes:,}",
            )
            for entry, size in sizes
            if size > self._event_bytes
        )
        if problems:
            raise LineError(problems)


def encode(event: Interaction) -> bytes:
    """The event as the service stores it."""
    return event.model_dump_json(exclude_none=True).encode()


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
