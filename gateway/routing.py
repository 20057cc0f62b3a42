"""Which service answers which path.

Templates, never paths, go into metrics and logs. Paths are matched as they came, still
percent-encoded, and passed on byte for byte; `path_segments` therefore refuses whatever a service
would read otherwise than the gateway: dot segments, encoded slashes, broken encodings.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from services.errors import RequestError, RouteUnknown

Service = Literal["preference", "response"]
SERVICES: tuple[Service, ...] = ("preference", "response")

_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)+")
_PATH = re.compile(rb"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)+")
_CONTROL_OR_SLASH = re.compile(rb"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True, slots=True)
class Route:
    """One path of the API and the service behind it."""

    service: Service
    path: str
    """The template; the request's telemetry reads it by this name."""
    endless: bool = False
    """The answer is an event stream that never ends by itself."""


_USER = "/v1/users/{user}"
ROUTES: tuple[Route, ...] = (
    Route("preference", _USER),
    Route("preference", f"{_USER}/events"),
    Route("preference", f"{_USER}/dead-letters"),
    Route("preference", f"{_USER}/dead-letters/retry"),
    Route("preference", f"{_USER}/export"),
    Route("preference", f"{_USER}/preferences"),
    Route("preference", f"{_USER}/preferences/stream", endless=True),
    Route("preference", f"{_USER}/preferences/versions"),
    Route("preference", f"{_USER}/preferences/versions/{{version}}"),
    Route("preference", f"{_USER}/preferences/rejected"),
    Route("preference", f"{_USER}/preferences/diff"),
    Route("preference", f"{_USER}/preferences/rebuild"),
    Route("preference", f"{_USER}/preferences/rollback"),
    Route("preference", "/v1/items"),
    Route("preference", "/v1/quality"),
    Route("preference", "/v1/quality/trial"),
    Route("response", f"{_USER}/select"),
    Route("response", f"{_USER}/recommend"),
    Route("response", "/v1/chat/completions"),
    Route("response", "/v1/models"),
)


class Node:
    """One segment of the table: its route, and what may follow."""

    __slots__ = ("named", "route", "wild")

    def __init__(self) -> None:
        self.route: Route | None = None
        self.named: dict[bytes, Node] = {}
        self.wild: Node | None = None
        """Follows for any segment that has no name of its own here."""

    def child(self, segment: str) -> "Node":
        if segment.startswith("{"):
            self.wild = self.wild or Node()
            return self.wild
        return self.named.setdefault(segment.encode(), Node())


class RoutingTable:
    def __init__(self, routes: Iterable[Route] = ROUTES) -> None:
        self._root = Node()
        for route in routes:
            node = self._root
            for segment in route.path.split("/")[1:]:
                node = node.child(segment)
            node.route = route

    def find(self, raw_path: bytes) -> Route:
        """Raises RouteUnknown, and RequestError for a path that could be read in two ways."""
        node: Node | None = self._root
        for segment in path_segments(raw_path):
            assert node is not None
            node = node.named.get(segment, node.wild)
            if node is None:
                raise RouteUnknown
        if node is None or node.route is None:
            raise RouteUnknown
        return node.route


def path_segments(raw_path: bytes) -> list[bytes]:
    """The segments of a path, still encoded. Raises RequestError and RouteUnknown."""
    if not _PLAIN_PATH.fullmatch(raw_path):
        _check_encoded(raw_path)
    return raw_path.split(b"/")[1:]


def _check_encoded(raw_path: bytes) -> None:
    if not _PATH.fullmatch(raw_path):
        raise RouteUnknown
    for segment in raw_path.split(b"/")[1:]:
        decoded = unquote_to_bytes(segment)
        if decoded in (b".", b"..") or _CONTROL_OR_SLASH.search(decoded):
            raise RequestError("A segment of the path holds a slash, a control character, or is only dots.")
        try:
            decoded.decode()
        except UnicodeDecodeError as error:
            raise RequestError("The path is not valid UTF-8.") from error
