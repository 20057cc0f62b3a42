"""Which header fields cross the gateway.

A service gets only the fields listed here: never the API key, cookies, or a field that claims to come from
the gateway. The caller gets all but hop-by-hop fields and internal ones.
"""

from collections.abc import Iterable, Mapping

from services.errors import RequestError
from services.server.app import DRAINING_HEADER, TENANT_HEADER, TOKEN_HEADER

_INWARD = {
    name.lower().encode(): name
    for name in (
        "Accept",
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
        b"ratelimit",
        b"ratelimit-policy",
        b"x-request-id",
        # internal
        TENANT_HEADER.lower().encode(),
        TOKEN_HEADER.lower().encode(),
        DRAINING_HEADER.lower().encode(),
    }
)


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
