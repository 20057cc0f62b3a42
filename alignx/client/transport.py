"""Between a `Call` and httpx: the connection's options, the request, and the error that an outcome means."""

import os
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx

from alignx.client.endpoints import Call
from alignx.client.errors import AnswerUnreadable, ClientError, Unreachable, read_problem
from alignx.client.retry import Outcome

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT_S = 5.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def key_from_environment() -> str | None:
    """ALIGNX_API_KEY, else the content of the file that ALIGNX_KEY_FILE names, else None."""
    key = os.environ.get("ALIGNX_API_KEY", "").strip()
    if not key and (path := os.environ.get("ALIGNX_KEY_FILE")):
        key = Path(path).read_text(encoding="utf-8-sig").strip()
    return key or None


def connection_options(base_url: str | None, api_key: str | None) -> dict[str, Any]:
    """The arguments of both httpx clients. Raises ClientError for an invalid URL or key."""
    key = api_key or key_from_environment()
    try:
        url = httpx.URL(base_url or os.environ.get("ALIGNX_URL") or DEFAULT_URL)
    except httpx.InvalidURL as error:
        raise ClientError(f"The service's URL is not one: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ClientError(f"The service's URL must look like {DEFAULT_URL}, not {str(url)!r}.")
    if key and not (key.isascii() and key.isprintable()):
        raise ClientError("The API key holds characters that no key has; it looks like ax_<id>_<secret>.")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        # A proxy of the environment cannot reach this machine's loopback.
        "trust_env": url.host not in LOOPBACK,
    }


def build_request(http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    headers = {"Content-Type": "application/json", **call.headers} if call.content is not None else call.headers
    return http.build_request(
        call.method,
        call.path,
        params=call.params or None,
        headers=headers,
        content=call.content,
        timeout=httpx.Timeout(CONNECT_TIMEOUT_S, read=call.timeout_s, write=call.timeout_s),
    )


def check_response(call: Call[Any], outcome: Outcome) -> httpx.Response:
    """The response if it is a success. Raises ProblemError or Unreachable."""
    if isinstance(outcome, httpx.RequestError):
        raise_unreachable(outcome, call)
    if outcome.is_success or outcome.status_code in call.accepts:
        return outcome
    raise read_problem(outcome)


def raise_unreachable(error: httpx.RequestError, call: Call[Any]) -> NoReturn:
    origin = f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
    if isinstance(error, httpx.ReadTimeout):
        raise Unreachable(f"{origin} sent nothing for {call.timeout_s:g} s ({call.method} {call.path}).") from error
    raise Unreachable(f"{origin} cannot be reached: {str(error) or type(error).__name__}") from error


def read_answer(call: Call[T], response: httpx.Response) -> T:
    """Raises AnswerUnreadable."""
    try:
        return call.read(response)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise AnswerUnreadable(f"{response.url} gave an answer that this client cannot read: {error}") from error


def expect_events(response: httpx.Response) -> None:
    content_type = response.headers.get("Content-Type", "")
    if not content_type.startswith("text/event-stream"):
        raise AnswerUnreadable(
            f"{response.url} should answer with server-sent events, and sent {content_type or 'no type'}."
        )
