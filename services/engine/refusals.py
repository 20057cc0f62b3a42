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
_CONTEXT = re.compile(
    rb"context[ _](?:length|window|size)|maximum model length|max_model_len|prompt is too long", re.IGNORECASE
)
_CONTEXT_LIMIT = re.compile(
    rb"(?:maximum context length is|maximum model length of|max_model_len\D{0,3}|context window of)\s*(\d{1,9})"
)
_RETRYABLE = (408, 429)
"""Statuses below 500 that a repeat may mend."""
_AWAY = (*_RETRYABLE, 502, 503, 504)
"""Statuses of an engine that is away or overloaded, or of a proxy before it: they prove nothing about the request."""


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
        if _CONTEXT.search(body):
            limit: dict[str, Any] = {"limit": int(match[1])} if (match := _CONTEXT_LIMIT.search(body)) else {}
            return ContextExceeded(engine_status=status, **limit)
        names = _error_names(body)
        detail = f"The engine refused this input ({', '.join([f'status {status}', *dict.fromkeys(names.values())])})"
        errors = [{"field": names["param"], "message": "The engine refuses it"}] if "param" in names else []
        return EngineRejected(detail, errors=errors, engine_status=status)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    reason = "is overloaded" if status in (429, 503) else "cannot serve this deployment's requests"
    if status >= 500 and status != 503:
        reason = "failed"
    return EngineUnavailable(f"The engine {reason} (status {status})", retry_after=seconds, engine_status=status)


def is_retryable(error: EngineError | EngineUnavailable) -> bool:
    """Whether the same call may succeed later; False for a status such as 401 or 404, which says that the key,
    the URL or the model is wrong."""
    status = engine_status(error)
    return status is None or status >= 500 or status in _RETRYABLE


def is_away(error: Exception) -> bool:
    """Whether the server is away or overloaded, so that its failure proves nothing."""
    return isinstance(error, EngineUnavailable) and engine_status(error) in (None, *_AWAY)


def engine_status(error: EngineError | EngineUnavailable) -> Any:
    return error.extensions.get("engine_status")


def says_too_long(body: bytes) -> bool:
    """Whether OpenAI's code says that the input is too long: a message may quote a caller who says so."""
    return _error_names(body).get("code") == ContextExceeded.code


def error_text(body: bytes) -> str:
    """The message of an error's body on one line, whatever its form. It may quote the prompt."""
    try:
        answer = parse_json(body)
    except EngineError:
        answer = None
    error = member(answer, "error")
    message = member(error, "message") or member(answer, "message") or member(answer, "detail") or error
    return " ".join((message if isinstance(message, str) else body.decode(errors="replace")).split())


def _error_names(body: bytes) -> dict[str, str]:
    """`type`, `code` and `param` of OpenAI's error object, where they are names and no text."""
    try:
        error = member(parse_json(body), "error")
    except EngineError:
        return {}
    values = {name: member(error, name) for name in ("type", "code", "param")}
    return {name: value for name, value in values.items() if isinstance(value, str) and _NAME.fullmatch(value)}
