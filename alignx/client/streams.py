"""Answers that come piece by piece: server-sent events, and what they mean here.

`SseParser` turns bytes into events after the WHATWG rules. It splits at CR and LF alone: JSON may
hold U+2028 and its like unescaped, at which `str.splitlines` (and `httpx.iter_lines`) would break.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import orjson

from alignx.client.errors import AnswerUnreadable, ProblemError, Unreachable, problem_from
from alignx.schemas.requests import PersonalizationUsed
from alignx.schemas.summaries import Preferences

LINE_END = re.compile(rb"\r\n|\n|\r")
DONE = "[DONE]"


class ServerEvent(NamedTuple):
    name: str
    data: str


class SseParser:
    """Bytes in, events out; remembers the last event id and the pause the server asks for."""

    def __init__(self, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        self.pause_s = 1.0
        """Seconds before reconnecting."""
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._id = last_event_id

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        text = self._rest + chunk
        # A CR at the end may be the first half of a CRLF.
        held = b"\r" if text.endswith(b"\r") else b""
        *lines, rest = LINE_END.split(text[: len(text) - len(held)])
        self._rest = rest + held
        for line in lines:
            event = self._line(line.decode("utf-8", "replace"))
            if event is not None:
                yield event

    def restart(self) -> None:
        """Forgets a half-read event: the connection is a new one."""
        self._rest, self._name, self._data, self._id = b"", "", [], self.last_event_id

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            # Only now: an event that is cut off after its id has not been received.
            self.last_event_id = self._id
            event = ServerEvent(self._name or "message", "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isdecimal():
                self.pause_s = int(value) / 1000
        return None


# --- the stream of a summary -------------------------------------------------------------------


class PendingEvent(NamedTuple):
    """Events wait to become part of the summary, which is at `version`."""

    pending: int
    version: int


class DeltaEvent(NamedTuple):
    """The next piece of the summary as it is written."""

    text: str


class VersionEvent(NamedTuple):
    """A version is complete and current."""

    preferences: Preferences


class ErrorEvent(NamedTuple):
    """An update failed; the service tries again by itself."""

    problem: ProblemError


SummaryEvent = PendingEvent | DeltaEvent | VersionEvent | ErrorEvent


def summary_event(event: ServerEvent) -> SummaryEvent | None:
    """The typed event, or None for a name this client does not know."""
    try:
        match event.name:
            case "pending":
                fields = orjson.loads(event.data)
                return PendingEvent(int(fields["pending"]), int(fields["version"]))
            case "delta":
                return DeltaEvent(str(orjson.loads(event.data)["text"]))
            case "version":
                return VersionEvent(Preferences.model_validate_json(event.data))
            case "error":
                return ErrorEvent(problem_from(orjson.loads(event.data), status=500))
            case _:
                return None
    except (ValueError, KeyError, TypeError) as error:
        raise AnswerUnreadable(f"The stream sent a {event.name!r} event that cannot be read: {error}") from error


def summary_events(parser: SseParser, chunk: bytes) -> Iterator[SummaryEvent]:
    """The typed events that these bytes complete."""
    for event in parser.feed(chunk):
        typed = summary_event(event)
        if typed is not None:
            yield typed


# --- chat --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChatAnswer:
    """A whole answer, with what it was conditioned on."""

    text: str
    model: str
    finish_reason: str | None
    personalization: PersonalizationUsed | None

    @classmethod
    def from_response(cls, response: httpx.Response) -> "ChatAnswer":
        document = orjson.loads(response.content)
        choice = document["choices"][0]
        return cls(
            choice["message"].get("content") or "",
            str(document.get("model", "")),
            choice.get("finish_reason"),
            _personalization(document),
        )


class ChatChunk(NamedTuple):
    """A piece of a streamed answer; the text may be empty."""

    text: str
    finish_reason: str | None = None
    personalization: PersonalizationUsed | None = None


class ChatStream:
    """Reads the chunks of one streamed answer and knows whether it came to its end."""

    def __init__(self) -> None:
        self._parser = SseParser()
        self.done = False

    def feed(self, chunk: bytes) -> Iterator[ChatChunk]:
        """Raises ProblemError for an error inside the stream."""
        for event in self._parser.feed(chunk):
            if event.data == DONE:
                self.done = True
                return
            yield _chat_chunk(event.data)

    def finish(self) -> None:
        """Called when the connection has ended. Raises Unreachable if the answer had not."""
        if not self.done:
            raise Unreachable("The answer broke off before its end.")


def _chat_chunk(data: str) -> ChatChunk:
    try:
        document = orjson.loads(data)
        if "error" in document:
            raise problem_from(document, status=502)
        choices = document.get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        return ChatChunk(delta.get("content") or "", choices[0].get("finish_reason"), _personalization(document))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnswerUnreadable(f"The chat stream sent a chunk that cannot be read: {error}") from error


def _personalization(document: Mapping[str, Any]) -> PersonalizationUsed | None:
    fields = document.get("personalization")
    return None if fields is None else PersonalizationUsed.model_validate(fields)
