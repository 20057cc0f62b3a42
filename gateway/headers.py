"""The header fields of the gateway: which cross it, and those of a rate limit, which it adds.

A service gets only the fields listed here: never the API key, cookies, or a field that claims to come from
the gateway. The caller gets all but hop-by-hop fields and internal ones.

A rate limit is a token bucket in Redis (lua/admit.lua). Its state becomes the fields `RateLimit` and
`RateLimit-Policy` of the answer: `"key";q=400;w=2` says a burst of 400 that takes 2 seconds to fill up again,
`"key";r=399;t=1` says 399 left and 1 second until it is full. A service's own fields of
that name, of a token budget, go out beside them: both are lists.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import RequestError
from services.server.app import APPEND_HEADER, COST_HEADER, DRAINING_HEADER, TENANT_HEADER, TOKEN_HEADER, USER_HEADER

RawHeaders = list[tuple[bytes, bytes]]

_INWARD = {
    name.lower().encode(): name
    for name in (
        "Accept",
        "Anthropic-Version",
        "Content-Encoding",
        "Content-Type",
        "Idempotency-Key",
        "If-Match",
        "If-None-Match",
        "Last-Event-ID",
        "Prefer",
        "X-User-Id",
    )
}

_NOT_OUTWARD = frozenset(
    {
        # hop by hop
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # the gateway's own
        b"date",
        b"server",
        b"server-timing",
        b"set-cookie",
        b"x-request-id",
    }
) | {
    name.lower().encode()
    for name in (TENANT_HEADER, TOKEN_HEADER, USER_HEADER, APPEND_HEADER, DRAINING_HEADER, COST_HEADER)
}


def inward_names(further: Iterable[str] = ()) -> dict[bytes, str]:
    """The fields that cross inwards, by their names in lower case; `further` are the deployment's own."""
    return _INWARD | {name.lower().encode(): name for name in further}


def inward(headers: Iterable[tuple[bytes, bytes]], names: Mapping[bytes, str]) -> list[tuple[str, str]]:
    """The caller's fields that a service may see. Raises RequestError for one that is not UTF-8."""
    fields: list[tuple[str, str]] = []
    for name, value in headers:
        if field := names.get(name):
            try:
                fields.append((field, value.decode()))
            except UnicodeDecodeError as error:
                raise RequestError(f"The header {field} is not valid UTF-8.") from error
    return fields


def caller_fields(tenant: str, user: str | None, *, may_append: bool) -> list[tuple[str, str]]:
    """The fields that tell a service for whom it works: the one user of a user token, and of a chat whether its caller
    may add to histories."""
    fields = [(TENANT_HEADER, tenant)]
    if user is not None:
        fields.append((USER_HEADER, quote(user, safe="")))
    if may_append:
        fields.append((APPEND_HEADER, "1"))
    return fields


def outward(headers: Iterable[tuple[bytes, bytes]], *, bodiless: bool) -> list[tuple[bytes, bytes]]:
    """A service's fields that the caller may see, with names in lower case as ASGI wants them.

    `bodiless`: the status allows no body, so Content-Length, if any, is not the length of one.
    """
    fields = [(name.lower(), value) for name, value in headers]
    dropped = _NOT_OUTWARD | {b"content-length"} if bodiless else _NOT_OUTWARD
    for name, value in fields:
        if name == b"connection":
            dropped = dropped | {token.strip().lower() for token in value.split(b",")}
    return [field for field in fields if field[0] not in dropped]


# --- rate limits -------------------------------------------------------------------------------

_STATE = "rate_limit_headers"


@dataclass(frozen=True, slots=True)
class Allowance:
    """The state of a token bucket after a request asked for one token."""

    granted: bool
    tokens: float
    """Left in the bucket; below zero while requests that counted as many are paid off."""
    rate: float
    """Tokens a second."""
    burst: int
    """Size of the bucket."""
    name: str = "key"
    """Whose bucket it is: `key`, or `user` for the tokens of one user."""

    @property
    def wait_s(self) -> float:
        """Seconds until there is a token."""
        return (1 - self.tokens) / self.rate

    @property
    def retry_after(self) -> int:
        """The same in whole seconds."""
        return max(1, math.ceil(self.wait_s))

    def headers(self) -> RawHeaders:
        window = max(1, math.ceil(self.burst / self.rate))
        full_in = math.ceil((self.burst - self.tokens) / self.rate)
        return [
            (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (self.name.encode(), self.burst, window)),
            (b"ratelimit", b'"%b";r=%d;t=%d' % (self.name.encode(), max(0, int(self.tokens)), full_in)),
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
