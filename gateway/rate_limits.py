"""What one request may cost: tokens of its key's bucket, and bytes of its body.

The bucket itself lives in Redis (lua/admit.lua); here its state becomes the fields `RateLimit` and
`RateLimit-Policy` of the answer: `"key";q=400;w=2` says a burst of 400 that takes 2 seconds to
fill up again, `"key";r=399;t=1` says 399 left and 1 second until it is full.
"""

import asyncio
import math
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import PayloadTooLarge, RequestError

RawHeaders = list[tuple[bytes, bytes]]

_STATE = "rate_limit_headers"


@dataclass(frozen=True, slots=True)
class Allowance:
    """The state of a token bucket after a request asked for one token."""

    granted: bool
    tokens: float
    """Left in the bucket."""
    rate: float
    """Tokens a second."""
    burst: int
    """Size of the bucket."""

    @property
    def retry_after(self) -> int:
        """Whole seconds until there is a token."""
        return max(1, math.ceil((1 - self.tokens) / self.rate))

    def headers(self) -> RawHeaders:
        window = max(1, math.ceil(self.burst / self.rate))
        full_in = math.ceil((self.burst - self.tokens) / self.rate)
        return [
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (self.burst, window)),
            (b"ratelimit", b'"key";r=%d;t=%d' % (int(self.tokens), full_in)),
        ]


def note_allowance(scope: Scope, allowance: Allowance) -> None:
    """Has RateLimitHeaders tell the caller, whatever the answer will be."""
    scope["state"][_STATE] = allowance.headers()


class RateLimitHeaders:
    """ASGI middleware: adds the rate limit fields to the answer, a problem included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start" and _STATE in state:
                message["headers"] = [*message.get("headers", ()), *state[_STATE]]
            await send(message)

        await self.app(scope, receive, send_with_limits)


class ClientDisconnected(Exception):
    """The caller went away: there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, *, limit: int, timeout_s: float) -> bytes | None:
    """The whole body, or None if the request has none.

    Raises PayloadTooLarge as soon as more than `limit` bytes are announced or have come,
    RequestError when the body stops coming for good, ClientDisconnected.
    """
    announced = _announced_bytes(scope)
    if announced is None:
        return None
    if announced > limit:
        raise _too_large(limit)
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
        if size > limit:
            raise _too_large(limit)
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


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may have at most {limit:,} bytes.", limit_bytes=limit)
