"""The errors that an OpenAI-compatible server reports, sorted by who can mend them.

EngineUnavailable: try later; also a wrong key, URL or model name. EngineRejected: this input. EngineError: an
answer that cannot be used. None quotes a prompt or a reply.
"""

import re
from typing import Any

import orjson

from services.errors import ContextExceeded, EngineError, EngineRejected, EngineUnavailable

UNREADABLE = "The engine's answer is not in OpenAI's format"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_RETRYABLE = (408, 429)
"""Statuses below 500 that a repeat may mend."""


def member(value: Any, name: str) -> Any:
    """A field of a JSON object; None where there is none, or no object."""
    return value.get(name) if isinstance(value, dict) else None


def parse_json(data: bytes) -> Any:
    """Raises EngineError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineError(UNREADABLE) from error


def reported_error(event: Any) -> EngineError | EngineUnavailable:
    """The error that an engine reports inside a stream whose status was 200."""
    code = member(member(event, "error"), "code")
    status = code if isinstance(code, int) and code >= 400 else 500
    try:
        body = orjson.dumps(event)
    except orjson.JSONEncodeError:  # nested too deeply
        body = b""
    return refusal(status, body, None)


def refusal(status: int, body: bytes, retry_after: str | None) -> EngineError | EngineUnavailable:
    """The error of a status. Of the engine's message, which may quote the prompt, only the meaning
    is kept, and the names that OpenAI's error object has for it."""
    if status in (400, 413, 422):
        if b"context length" in body or b"maximum model length" in body or b"max_model_len" in body:
            return ContextExceeded(engine_status=status)
        causes = ", ".join([f"status {status}", *_error_names(body)])
        return EngineRejected(f"The engine refused this input ({causes})", engine_status=status)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    reason = "is overloaded" if status in (429, 503) else "cannot serve this deployment's requests"
    if status >= 500 and status != 503:
        reason = "failed"
    return EngineUnavailable(f"The engine {reason} (status {status})", retry_after=seconds, engine_status=status)


def is_retryable(error: EngineError | EngineUnavailable) -> bool:
    """Whether the same call may succeed later; False for a status such as 401 or 404, which says that the key,
    the URL or the model is wrong."""
    status = error.extensions.get("engine_status")
    return status is None or status >= 500 or status in _RETRYABLE


def _error_names(body: bytes) -> list[str]:
    """`type`, `code` and `param` of OpenAI's error object, where they are names and no text."""
    try:
        error = member(parse_json(body), "error")
    except EngineError:
        return []
    values = (member(error, name) for name in ("type", "code", "param"))
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and _NAME.fullmatch(value)))
