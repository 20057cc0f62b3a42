"""Between a `Call` and httpx: where to connect, the request, and what its outcome means."""

import os
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx

from alignx.client.endpoints import Call
from alignx.client.errors import AnswerUnreadable, ClientError, Unreachable, problem_of
from alignx.client.retry import Outcome

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT_S = 5.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def key_from_environment() -> str | None:
    """ALIGNX_API_KEY, else the content of the file that ALIGNX_KEY_FILE names, else None."""
    key = os.environ.get("ALIGNX_API_KEY", "").strip()
    if not key and (path := os.environ.get("ALIGNX_KEY_FILE")):
        key = Path(path).read_text(encoding="utf-8").strip()
    return key or None


def connection(base_url: str | None, api_key: str | None) -> dict[str, Any]:
    """What both httpx clients are made with. Raises ClientError for a URL or key of no use."""
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


def request_of(http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    headers = {"Content-Type": "application/json", **call.headers} if call.content is not None else call.headers
    return http.build_request(
        call.method,
        call.path,
        params=call.params or None,
        headers=headers,
        content=call.content,
        timeout=httpx.Timeout(CONNECT_TIMEOUT_S, read=call.timeout_s, write=call.timeout_s),
    )


def settled(call: Call[Any], outcome: Outcome) -> httpx.Response:
    """The response when it is one of success; raises what it means otherwise."""
    if isinstance(outcome, httpx.RequestError):
        unreachable(outcome, call)
    if outcome.is_success or outcome.status_code in call.accepts:
        return outcome
    raise problem_of(outcome)


def unreachable(error: httpx.RequestError, call: Call[Any]) -> NoReturn:
    where = f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
    if isinstance(error, httpx.ReadTimeout):
        raise Unreachable(f"{where} sent nothing for {call.timeout_s:g} s ({call.method} {call.path}).") from error
    raise Unreachable(f"{where} cannot be reached: {str(error) or type(error).__name__}") from error


def read(call: Call[T], response: httpx.Response) -> T:
    try:
        return call.read(response)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise AnswerUnreadable(f"{response.url} gave an answer that this client cannot read: {error}") from error


def expect_events(response: httpx.Response) -> None:
    kind = response.headers.get("Content-Type", "")
    if not kind.startswith("text/event-stream"):
        raise AnswerUnreadable(f"{response.url} should answer with server-sent events, and sent {kind or 'no type'}.")
