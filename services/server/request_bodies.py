"""Reading a request: its JSON or raw body within limits, and the moment when its caller disconnects.

with DisconnectWatch(receive):
    ...                         # cancelled as soon as the caller has closed the connection
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope

from alignx.schemas.items import ITEM_FORM
from services.errors import InvalidRequest, MalformedBody, PayloadTooLarge, RequestError, UnsupportedMedia
from services.server.state import Process, state_of

_WATCH_AFTER_S = 0.02
_AGAIN_S = 1.0
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_LARGE = 1 << 18
"""Bytes of a body after whose parsing the loop has a turn."""


class JsonRequest(Request):
    """Reads JSON with a parser that refuses endless nesting instead of exhausting the stack, and no
    more bytes than a body may have."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        limit, size = state_of(self.app, Process).settings.limits.body_bytes, 0
        async for chunk in super().stream():
            size += len(chunk)
            _check_size(size, limit)
            yield chunk

    async def json(self) -> Any:
        document = parse_json(body := await self.body())
        if len(body) > _LARGE:
            await asyncio.sleep(0)
        return document


def parse_json(body: bytes) -> Any:
    """Raises ValueError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return orjson.loads(_ESCAPE.sub(_without_lone_surrogate, body))


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def _without_lone_surrogate(escape: re.Match[bytes]) -> bytes:
    """Half of a character, which a client has cut in two, becomes U+FFFD; other escapes stay."""
    return rb"\ufffd" if escape["lone"] else escape[0]


class JsonRoute(APIRoute):
    """Route class of every router here: bodies go through JsonRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_json_request(request: Request) -> Response:
            media = request.headers.get("Content-Type", "")
            if self.body_field and not _JSON.match(media) and _announced_bytes(request.scope) not in (None, 0):
                raise UnsupportedMedia
            return await handle(self.open_request(request))

        return with_json_request

    def open_request(self, request: Request) -> JsonRequest:
        return JsonRequest(request.scope, request.receive)


class ClientDisconnected(Exception):
    """The caller closed the connection: there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, *, limit: int, timeout_s: float) -> bytes | None:
    """The whole body of a raw ASGI request, or None if it has none.

    Raises PayloadTooLarge as soon as more than `limit` bytes are announced or have come,
    RequestError when the body stops coming for good, ClientDisconnected.
    """
    announced = _announced_bytes(scope)
    if announced is None:
        return None
    _check_size(announced, limit)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(receive, limit)
    except TimeoutError as error:
        raise RequestError(f"The body did not arrive within {timeout_s:g} s.") from error


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        part: bytes = message.get("body", b"")
        size += len(part)
        _check_size(size, limit)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _announced_bytes(scope: Scope) -> int | None:
    """Content-Length; 0 for a chunked body, whose size is not known yet; None without a body."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return 0
    return None


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise PayloadTooLarge(f"The body may have at most {limit:,} bytes.", limit_bytes=limit)


def invalid_request(error: RequestValidationError) -> RequestError:
    """What a caller reads of a body, query or header that is not valid."""
    problems: list[Mapping[str, Any]] = list(error.errors())
    if any(problem["type"] == "json_invalid" for problem in problems):
        return MalformedBody("The body is not valid JSON, or is nested too deeply.")
    problems = [problem for problem in problems if not _entries_say_more(problem, problems)]
    fields = [
        {"field": _field(problem["loc"], error.body), "message": problem["msg"].removeprefix("Value error, ")}
        for problem in problems[:20]
    ]
    first = fields[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"{first['field']}: {first['message']}{more}", errors=fields)


def _entries_say_more(problem: Mapping[str, Any], problems: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the problem is a list that counts as too short because all its entries are invalid."""
    path = problem["loc"]
    return problem["type"] == "too_short" and any(other["loc"][:-1][: len(path)] == path for other in problems)


def _field(path: Sequence[str | int], body: Any) -> str:
    """The dotted path of a field as the caller wrote it; the discriminator that pydantic adds to the
    path of a union is left out: the `type` of the object that stands there, or the form of an item."""
    parts, value = list[str](), body
    for part in path[1:] if path and path[0] in ("body", "query", "path", "header") else path:
        if isinstance(value, dict) and part not in value and value.get("type") == part:
            continue
        if str(part).startswith(ITEM_FORM):
            continue
        parts.append(str(part))
        value = _member(value, part)
    return ".".join(parts) or "body"


def _member(value: Any, part: str | int) -> Any:
    """What stands at a key or an index; None where nothing does."""
    try:
        return value[part]
    except (LookupError, TypeError):
        return None


class DisconnectWatch:
    """Cancels the current task when the caller of a request, whose body has been read, disconnects.

    The cancellation ends at the `with`, and is repeated until then: in Python 3.11 `asyncio.wait_for`, which the
    client of Redis uses, can return instead of raising it. Fast requests cost a timer only: the connection is
    watched from `_WATCH_AFTER_S` on.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._cancellations = 0

    @property
    def disconnected(self) -> bool:
        return self._cancellations > 0

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if not self.disconnected:
            return False
        # As in asyncio.timeout: a cancellation by somebody else, at the same time, goes on.
        left = [self._task.uncancel() for _ in range(self._cancellations)][-1]
        return left == 0 and kind is asyncio.CancelledError

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        while True:
            self._cancellations += 1
            self._task.cancel()
            await asyncio.sleep(_AGAIN_S)
