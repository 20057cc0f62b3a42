"""The errors of the SDK.

    ClientError
    ├── ProblemError        the service answered with an error: status, code, detail, fields
    ├── Unreachable         no answer came, or it broke off
    └── AnswerUnreadable    the answer is not one of this API

`read_problem` reads both error shapes of the API: RFC 9457 problem+json, and OpenAI's shape on the
OpenAI-compatible paths.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from pydantic_core import from_json

from alignx.schemas.status import PROBLEM_PREFIX


class FieldError(NamedTuple):
    """One field that the service refused."""

    field: str
    message: str


class ClientError(Exception):
    """Base of everything the SDK raises."""


class ProblemError(ClientError):
    """The service answered with an error. `code` is the stable name to branch on."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{detail} ({code}, {status})")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.request_id = request_id


class Unreachable(ClientError):
    """No answer came. Whether the request had an effect is unknown."""


class AnswerUnreadable(ClientError):
    """The answer is not what this API sends; perhaps the URL is another service's."""


def read_problem(response: httpx.Response) -> ProblemError:
    """The error in a response whose body has been read."""
    request_id = response.headers.get("X-Request-Id")
    try:
        document = from_json(response.content)
    except ValueError:
        document = None
    if isinstance(document, dict) and ("error" in document or "status" in document):
        return parse_problem(document, status=response.status_code, request_id=request_id)
    detail = f"{response.url} answered {response.status_code} {response.reason_phrase}".strip()
    return ProblemError(response.status_code, "unknown", detail, request_id=request_id)


def parse_problem(document: Mapping[str, Any], *, status: int, request_id: str | None = None) -> ProblemError:
    """The error in a JSON document; `status` is used where the document has none."""
    error = document.get("error")
    if isinstance(error, Mapping):
        message, field = str(error.get("message", "")), error.get("param")
        fields = (FieldError(str(field), message),) if field else ()
        return ProblemError(status, str(error.get("code") or "unknown"), message, fields, request_id)
    document_status = str(document.get("status", ""))
    return ProblemError(
        int(document_status) if document_status.isdecimal() else status,
        str(document.get("type", "unknown")).removeprefix(PROBLEM_PREFIX),
        str(document.get("detail") or document.get("title") or "The service gave no reason."),
        _parse_fields(document.get("errors")),
        str(document.get("request_id") or request_id or "") or None,
    )


def _parse_fields(errors: object) -> tuple[FieldError, ...]:
    entries = [entry for entry in errors if isinstance(entry, Mapping)] if isinstance(errors, list) else []
    return tuple(FieldError(str(entry.get("field", "")), str(entry.get("message", ""))) for entry in entries)
