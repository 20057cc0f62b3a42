"""What the server-sent events of this API mean: a summary as it is written, a chat answer in pieces.

httpx-sse splits the bytes into events.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
from httpx_sse import ServerSentEvent
from pydantic_core import from_json

from alignx.client.errors import AnswerUnreadable, ProblemError, parse_problem
from alignx.schemas.requests import PersonalizationUsed
from alignx.schemas.summaries import PreferenceChange, Preferences

DONE = "[DONE]"
"""Data of the last event of a chat."""


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


class ChangedEvent(NamedTuple):
    """The user's choices have turned against what was known of them."""

    change: PreferenceChange


class ErrorEvent(NamedTuple):
    """An update failed; the service attempts again by itself."""

    problem: ProblemError


SummaryEvent = PendingEvent | DeltaEvent | VersionEvent | ChangedEvent | ErrorEvent


class SummaryStream:
    """Reads the events of a summary, over one connection after another."""

    def __init__(self, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        """Where the next connection resumes."""
        self.pause_s = 1.0
        """Seconds before the next connection."""

    def read(self, event: ServerSentEvent) -> SummaryEvent | None:
        """None for an event without data, or of a name that this client does not know.

        Raises AnswerUnreadable.
        """
        self.last_event_id = event.id or self.last_event_id
        if event.retry is not None and event.retry >= 0:
            self.pause_s = event.retry / 1000
        try:
            return parse_summary_event(event.event, event.data) if event.data else None
        except (ValueError, KeyError, TypeError) as error:
            raise AnswerUnreadable(f"The stream sent a {event.event!r} event that cannot be read: {error}") from error


def parse_summary_event(name: str, data: str) -> SummaryEvent | None:
    match name:
        case "pending":
            fields = from_json(data)
            return PendingEvent(int(fields["pending"]), int(fields["version"]))
        case "delta":
            return DeltaEvent(str(from_json(data)["text"]))
        case "version":
            return VersionEvent(Preferences.model_validate_json(data))
        case "changed":
            return ChangedEvent(PreferenceChange.model_validate_json(data))
        case "error":
            return ErrorEvent(parse_problem(from_json(data), status=500))
        case _:
            return None


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
        document = from_json(response.content)
        choice = document["choices"][0]
        return cls(
            choice["message"].get("content") or "",
            str(document.get("model", "")),
            choice.get("finish_reason"),
            _parse_personalization(document),
        )


class ChatChunk(NamedTuple):
    """A piece of a streamed answer; the text may be empty."""

    text: str
    finish_reason: str | None = None
    personalization: PersonalizationUsed | None = None


def parse_chat_chunk(data: str) -> ChatChunk:
    """Raises ProblemError for an error inside the stream, and AnswerUnreadable."""
    try:
        document = from_json(data)
        if "error" in document:
            raise parse_problem(document, status=502)
        choices = document.get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        return ChatChunk(delta.get("content") or "", choices[0].get("finish_reason"), _parse_personalization(document))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnswerUnreadable(f"The chat stream sent a chunk that cannot be read: {error}") from error


def _parse_personalization(document: Mapping[str, Any]) -> PersonalizationUsed | None:
    fields = document.get("personalization")
    return None if fields is None else PersonalizationUsed.model_validate(fields)
