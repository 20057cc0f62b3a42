"""The rate limit of an API key, a token bucket, as the caller sees it.

The bucket itself is in Redis (lua/admit.lua); here its state becomes the fields `RateLimit` and
`RateLimit-Policy` of the answer: `"key";q=400;w=2` says a burst of 400 that takes 2 seconds to
fill up again, `"key";r=399;t=1` says 399 left and 1 second until it is full.
"""

import math
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    """Leaves the fields for RateLimitHeaders, whatever the answer will be."""
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
