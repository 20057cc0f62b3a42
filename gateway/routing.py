"""Which service answers which path, which scope each call needs, and which errors it can end with.

Templates, never paths, go into metrics and logs. Paths are matched as they came, still
percent-encoded, and passed on byte for byte; `path_segments` therefore refuses whatever a service
would read otherwise than the gateway: dot segments, encoded slashes, broken encodings.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from alignx.schemas.tenants import Scope
from services import errors
from services.errors import AlignXError, MethodNotAllowed, RequestError, RouteUnknown

Service = Literal["preference", "response"]
SERVICES: tuple[Service, ...] = ("preference", "response")

_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)+")
_PATH = re.compile(rb"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)+")
_MODELS, _SLASH = b"/v1/models/", re.compile(rb"%2[fF]")
_CONTROL_OR_SLASH = re.compile(rb"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True, slots=True)
class Route:
    """One path of the API and the service behind it."""

    service: Service
    path: str
    """The template; the request's telemetry reads it by this name."""
    endless: bool = False
    """The answer is an event stream that never ends by itself."""

    @property
    def names_user(self) -> bool:
        """Whether the path names a user."""
        return self.path.startswith(_USER)


_USER = "/v1/users/{user}"
_EVENT = f"{_USER}/events/{{event_id}}"
FORGET = f"{_USER}/forget"
ERASURES = "/v1/erasures"
WEBHOOKS = "/v1/webhooks"
_WEBHOOK = f"{WEBHOOKS}/{{webhook}}"
_REPLAY = f"{_WEBHOOK}/deliveries/{{delivery}}/replay"
FEEDBACK = "/v1/feedback"
CHAT = "/v1/chat/completions"
CHATS = (CHAT, "/v1/responses", "/v1/messages")
"""Chats by the APIs of OpenAI, both of them, and of Anthropic."""
_MODEL = "/v1/models/{model}"
ROUTES: tuple[Route, ...] = (
    Route("preference", _USER),
    Route("preference", f"{_USER}/events"),
    Route("preference", _EVENT),
    Route("preference", FORGET),
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
    Route("preference", "/v1/users"),
    Route("preference", "/v1/events"),
    Route("preference", ERASURES),
    Route("preference", "/v1/items"),
    Route("preference", "/v1/quality"),
    Route("preference", "/v1/quality/trial"),
    Route("preference", WEBHOOKS),
    Route("preference", _WEBHOOK),
    Route("preference", f"{_WEBHOOK}/rotate"),
    Route("preference", f"{_WEBHOOK}/test"),
    Route("preference", f"{_WEBHOOK}/deliveries"),
    Route("preference", _REPLAY),
    Route("preference", "/v1/quality/uplift"),
    Route("preference", FEEDBACK),
    Route("response", f"{_USER}/select"),
    Route("response", f"{_USER}/recommend"),
    *(Route("response", path) for path in CHATS),
    Route("response", "/v1/models"),
    Route("response", _MODEL),
)

SCOPES: Mapping[str, Mapping[str, Scope]] = {
    _USER: {"DELETE": "users:erase"},
    f"{_USER}/events": {"GET": "events:read", "POST": "events:write"},
    _EVENT: {"DELETE": "users:erase"},
    FORGET: {"POST": "users:erase"},
    f"{_USER}/dead-letters": {"GET": "events:read"},
    f"{_USER}/dead-letters/retry": {"POST": "events:write"},
    f"{_USER}/export": {"GET": "users:export"},
    f"{_USER}/preferences": {"GET": "preferences:read", "PUT": "preferences:write"},
    f"{_USER}/preferences/stream": {"GET": "preferences:read"},
    f"{_USER}/preferences/versions": {"GET": "preferences:read"},
    f"{_USER}/preferences/versions/{{version}}": {"GET": "preferences:read"},
    f"{_USER}/preferences/rejected": {"GET": "preferences:read"},
    f"{_USER}/preferences/diff": {"GET": "preferences:read"},
    f"{_USER}/preferences/rebuild": {"POST": "preferences:write"},
    f"{_USER}/preferences/rollback": {"POST": "preferences:write"},
    f"{_USER}/select": {"POST": "select"},
    f"{_USER}/recommend": {"POST": "recommend"},
    **{path: {"POST": "chat"} for path in CHATS},
    "/v1/models": {"GET": "chat"},
    _MODEL: {"GET": "chat"},
    "/v1/users": {"GET": "users:list"},
    "/v1/events": {"POST": "events:write"},
    ERASURES: {"POST": "users:erase"},
    "/v1/items": {"PUT": "catalogue:write"},
    "/v1/quality": {"GET": "quality:read"},
    "/v1/quality/trial": {"GET": "quality:read"},
    WEBHOOKS: {"GET": "webhooks:manage", "POST": "webhooks:manage"},
    _WEBHOOK: {"PATCH": "webhooks:manage", "DELETE": "webhooks:manage"},
    f"{_WEBHOOK}/rotate": {"POST": "webhooks:manage"},
    f"{_WEBHOOK}/test": {"POST": "webhooks:manage"},
    f"{_WEBHOOK}/deliveries": {"GET": "webhooks:manage"},
    _REPLAY: {"POST": "webhooks:manage"},
    "/v1/quality/uplift": {"GET": "quality:read"},
    FEEDBACK: {"POST": "events:write"},
    "/v1/tokens": {"POST": "tokens:mint"},
    "/v1/audit": {"GET": "admin"},
    "/admin/keys": {"GET": "admin", "POST": "admin"},
    "/admin/keys/{key_id}": {"DELETE": "admin"},
    "/admin/keys/{key_id}/rotate": {"POST": "admin"},
    "/admin/tenants": {"GET": "admin"},
    "/admin/tenants/{tenant}/settings": {"GET": "admin", "PUT": "admin", "PATCH": "admin"},
    "/metrics": {"GET": "admin"},
}
"""The one scope that each call needs, by path and method. Calls that are not here need no key: health, pages."""

_NO_USER = (errors.UserUnknown,)
_NO_WEBHOOK = (errors.WebhookUnknown,)
_NO_VERSION = (errors.UserUnknown, errors.VersionUnknown)
_NO_MODELS = (errors.EngineUnavailable, errors.EngineError)
_NO_ANSWER = (*_NO_MODELS, errors.NoEngine, errors.BudgetSpent, errors.EngineRejected, errors.ContextExceeded)
PROBLEMS: Mapping[str, Mapping[str, tuple[type[AlignXError], ...]]] = {
    _USER: {"DELETE": _NO_USER},
    f"{_USER}/events": {
        "GET": _NO_USER,
        "POST": (errors.IdempotencyMismatch, errors.UserLimited, errors.BacklogFull, errors.QueueFull),
    },
    _EVENT: {"DELETE": (*_NO_USER, errors.EventUnknown)},
    FORGET: {"POST": _NO_USER},
    "/v1/events": {"POST": (errors.UnsupportedEncoding,)},
    FEEDBACK: {
        "POST": (
            *(errors.ResponseUnknown, errors.IdempotencyMismatch),
            *(errors.UserLimited, errors.BacklogFull, errors.QueueFull),
        )
    },
    f"{_USER}/dead-letters": {"GET": _NO_USER},
    f"{_USER}/dead-letters/retry": {"POST": (*_NO_USER, errors.BacklogFull)},
    f"{_USER}/export": {"GET": _NO_USER},
    f"{_USER}/preferences": {"GET": _NO_USER, "PUT": (errors.StaleVersion, errors.PreconditionRequired)},
    f"{_USER}/preferences/stream": {"GET": (*_NO_USER, errors.Draining, errors.Unavailable)},
    f"{_USER}/preferences/versions": {"GET": _NO_USER},
    f"{_USER}/preferences/versions/{{version}}": {"GET": _NO_VERSION},
    f"{_USER}/preferences/rejected": {"GET": _NO_USER},
    f"{_USER}/preferences/diff": {"GET": _NO_VERSION},
    f"{_USER}/preferences/rebuild": {"POST": _NO_USER},
    f"{_USER}/preferences/rollback": {"POST": (*_NO_VERSION, errors.StaleVersion)},
    f"{_USER}/select": {"POST": (*_NO_USER, *_NO_ANSWER, errors.EngineUnsupported)},
    f"{_USER}/recommend": {"POST": (*_NO_USER, *_NO_ANSWER, errors.EngineUnsupported)},
    **{path: {"POST": (*_NO_ANSWER, errors.ModelUnknown)} for path in CHATS},
    "/v1/models": {"GET": _NO_MODELS},
    _MODEL: {"GET": (*_NO_MODELS, errors.ModelUnknown)},
    _WEBHOOK: {"PATCH": _NO_WEBHOOK, "DELETE": _NO_WEBHOOK},
    f"{_WEBHOOK}/rotate": {"POST": _NO_WEBHOOK},
    f"{_WEBHOOK}/test": {"POST": _NO_WEBHOOK},
    f"{_WEBHOOK}/deliveries": {"GET": _NO_WEBHOOK},
    _REPLAY: {"POST": _NO_WEBHOOK},
    "/admin/keys/{key_id}": {"DELETE": (errors.KeyUnknown,)},
    "/admin/keys/{key_id}/rotate": {"POST": (errors.KeyUnknown, errors.KeyEnded)},
}
"""The errors of each call by path and method, beside those that follow from what a call is (pages.py)."""


def is_for_user(path: str) -> bool:
    """Whether the calls of a template are for one user, so that a user token may make them: the path names the
    user, or a chat or feedback, whose service compares the user that the body names (services/server/app.py)."""
    return path.startswith(_USER) or path in (*CHATS, FEEDBACK)


USER_SCOPES = frozenset(scope for path, calls in SCOPES.items() if is_for_user(path) for scope in calls.values())
"""What a user token may hold: the scopes of calls for one user."""
OWN_PATHS = frozenset(path for path in SCOPES if path.startswith("/v1/")) - {route.path for route in ROUTES}
"""Paths under /v1 that the gateway answers itself; no template among them."""
AUDITED: Mapping[tuple[str, str], str] = {
    ("DELETE", _USER): "user.erased",
    ("DELETE", _EVENT): "event.forgotten",
    ("POST", FORGET): "event.forgotten",
    ("POST", ERASURES): "user.erased",
    ("GET", f"{_USER}/export"): "user.exported",
    ("POST", WEBHOOKS): "webhook.created",
    ("PATCH", _WEBHOOK): "webhook.changed",
    ("DELETE", _WEBHOOK): "webhook.deleted",
    ("POST", f"{_WEBHOOK}/rotate"): "webhook.rotated",
}
"""Calls to the services that the audit log keeps, by method and path."""
HEARD_TO_THE_END = (_USER, _EVENT, ERASURES, FORGET)
"""Paths of calls that are logged though their caller has gone; the answer of some says what is to be logged."""


def needed_scope(path: str, method: str) -> Scope:
    """Of a template of `SCOPES`. Raises MethodNotAllowed."""
    calls = SCOPES[path]
    scope = calls.get("GET" if method == "HEAD" else method)
    if scope is None:
        raise MethodNotAllowed(allow=", ".join(calls))
    return scope


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
        segments = path_segments(raw_path) if not raw_path.startswith(_MODELS) else _model_segments(raw_path)
        for segment in segments:
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


def _model_segments(raw_path: bytes) -> list[bytes]:
    """The same of a model's path: the name of a model is one segment, whatever slashes are in it."""
    names = path_segments(_SLASH.sub(b"/", raw_path))[2:]
    return [b"v1", b"models", b"/".join(names)]


def user_of(raw_path: bytes) -> str:
    """The user whom a path names that `path_segments` has let pass."""
    return unquote_to_bytes(raw_path.split(b"/")[3]).decode()


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
