"""Which service answers which path, which scope each call needs, and which errors it can end with.

Templates, never paths, go into metrics and logs. Paths are matched as they came, still
percent-encoded, and passed on byte for byte; `path_segments` therefore refuses whatever a service
would read otherwise than the gateway: dot segments, encoded slashes, broken encodings.
"""

import re
from collections.abc import Mapping
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
class Operation:
    """What one method of a path needs, and what it can lead to."""

    scope: Scope
    problems: tuple[type[AlignXError], ...] = ()
    """Its own errors, beside those that follow from what a call is (pages.py)."""
    audited: str = ""
    """The action in the audit log, of a call that it keeps."""


Operations = Mapping[str, Operation]
"""By method."""


@dataclass(frozen=True, slots=True)
class Route:
    """One path of the API and the service behind it."""

    service: Service
    path: str
    """The template; the request's telemetry reads it by this name."""
    operations: Operations
    endless: bool = False
    """The answer is an event stream that never ends by itself."""

    @property
    def names_user(self) -> bool:
        """Whether the path names a user."""
        return self.path.startswith(_USER)

    def is_heard_to_the_end(self, method: str) -> bool:
        """Whether the call is logged though its caller has gone, since it changes something: the answer of some calls
        says what is to be logged."""
        operation = self.operations.get(method)
        return operation is not None and bool(operation.audited) and method != "GET"


_USER = "/v1/users/{user}"
_PREFERENCES = f"{_USER}/preferences"
FORGET = f"{_USER}/forget"
_WEBHOOKS = "/v1/webhooks"
_WEBHOOK = f"{_WEBHOOKS}/{{webhook}}"
FEEDBACK = "/v1/feedback"
CHAT = "/v1/chat/completions"
CHATS = (CHAT, "/v1/responses", "/v1/messages")
"""Chats by the APIs of OpenAI, both of them, and of Anthropic."""

_NO_USER = (errors.UserUnknown,)
_NO_WEBHOOK = (errors.WebhookUnknown,)
_NO_VERSION = (errors.UserUnknown, errors.VersionUnknown)
_NO_MODELS = (errors.EngineUnavailable, errors.EngineError)
_NO_ANSWER = (*_NO_MODELS, errors.NoEngine, errors.BudgetSpent, errors.EngineRejected, errors.ContextExceeded)
_NO_CHOICE = (*_NO_USER, *_NO_ANSWER, errors.EngineUnsupported)
_NOT_TAKEN = (errors.IdempotencyMismatch, errors.UserLimited, errors.BacklogFull, errors.QueueFull)

_READ_PREFERENCES = {"GET": Operation("preferences:read", _NO_USER)}
_READ_VERSIONS = {"GET": Operation("preferences:read", _NO_VERSION)}
_READ_QUALITY = {"GET": Operation("quality:read")}
_MANAGE_WEBHOOK = Operation("webhooks:manage", _NO_WEBHOOK)
_ADMINISTER = Operation("admin")

_OF_PREFERENCE: Mapping[str, Operations] = {
    _USER: {"DELETE": Operation("users:erase", _NO_USER, "user.erased")},
    f"{_USER}/events": {
        "GET": Operation("events:read", _NO_USER),
        "POST": Operation("events:write", _NOT_TAKEN),
    },
    f"{_USER}/events/{{event_id}}": {
        "DELETE": Operation("users:erase", (*_NO_USER, errors.EventUnknown), "event.forgotten"),
    },
    FORGET: {"POST": Operation("users:erase", _NO_USER, "event.forgotten")},
    f"{_USER}/dead-letters": {"GET": Operation("events:read", _NO_USER)},
    f"{_USER}/dead-letters/retry": {"POST": Operation("events:write", (*_NO_USER, errors.BacklogFull))},
    f"{_USER}/export": {"GET": Operation("users:export", _NO_USER, "user.exported")},
    _PREFERENCES: {
        **_READ_PREFERENCES,
        "PUT": Operation("preferences:write", (errors.StaleVersion, errors.PreconditionRequired)),
    },
    f"{_PREFERENCES}/versions": _READ_PREFERENCES,
    f"{_PREFERENCES}/versions/{{version}}": _READ_VERSIONS,
    f"{_PREFERENCES}/rejected": _READ_PREFERENCES,
    f"{_PREFERENCES}/diff": _READ_VERSIONS,
    f"{_PREFERENCES}/rebuild": {"POST": Operation("preferences:write", _NO_USER)},
    f"{_PREFERENCES}/rollback": {"POST": Operation("preferences:write", (*_NO_VERSION, errors.StaleVersion))},
    "/v1/users": {"GET": Operation("users:list")},
    "/v1/events": {"POST": Operation("events:write", (errors.UnsupportedEncoding,))},
    "/v1/erasures": {"POST": Operation("users:erase", audited="user.erased")},
    "/v1/items": {"PUT": Operation("catalogue:write")},
    "/v1/quality": _READ_QUALITY,
    "/v1/quality/trial": _READ_QUALITY,
    "/v1/quality/uplift": _READ_QUALITY,
    _WEBHOOKS: {
        "GET": Operation("webhooks:manage"),
        "POST": Operation("webhooks:manage", audited="webhook.created"),
    },
    _WEBHOOK: {
        "PATCH": Operation("webhooks:manage", _NO_WEBHOOK, "webhook.changed"),
        "DELETE": Operation("webhooks:manage", _NO_WEBHOOK, "webhook.deleted"),
    },
    f"{_WEBHOOK}/rotate": {"POST": Operation("webhooks:manage", _NO_WEBHOOK, "webhook.rotated")},
    f"{_WEBHOOK}/test": {"POST": _MANAGE_WEBHOOK},
    f"{_WEBHOOK}/deliveries": {"GET": _MANAGE_WEBHOOK},
    f"{_WEBHOOK}/deliveries/{{delivery}}/replay": {"POST": _MANAGE_WEBHOOK},
    FEEDBACK: {"POST": Operation("events:write", (errors.ResponseUnknown, *_NOT_TAKEN))},
}
_OF_RESPONSE: Mapping[str, Operations] = {
    f"{_USER}/select": {"POST": Operation("select", _NO_CHOICE)},
    f"{_USER}/recommend": {"POST": Operation("recommend", _NO_CHOICE)},
    **{path: {"POST": Operation("chat", (*_NO_ANSWER, errors.ModelUnknown))} for path in CHATS},
    "/v1/models": {"GET": Operation("chat", _NO_MODELS)},
    "/v1/models/{model}": {"GET": Operation("chat", (*_NO_MODELS, errors.ModelUnknown))},
}
_OF_GATEWAY: Mapping[str, Operations] = {
    "/v1/tokens": {"POST": Operation("tokens:mint")},
    "/v1/audit": {"GET": _ADMINISTER},
    "/admin/keys": {"GET": _ADMINISTER, "POST": _ADMINISTER},
    "/admin/keys/{key_id}": {"DELETE": Operation("admin", (errors.KeyUnknown,))},
    "/admin/keys/{key_id}/rotate": {"POST": Operation("admin", (errors.KeyUnknown, errors.KeyEnded))},
    "/admin/tenants": {"GET": _ADMINISTER},
    "/admin/tenants/{tenant}/settings": {"GET": _ADMINISTER, "PUT": _ADMINISTER, "PATCH": _ADMINISTER},
    "/metrics": {"GET": _ADMINISTER},
}
_STREAM = Route(
    "preference",
    f"{_PREFERENCES}/stream",
    {"GET": Operation("preferences:read", (*_NO_USER, errors.Draining, errors.Unavailable))},
    endless=True,
)
ROUTES: tuple[Route, ...] = (
    *(Route("preference", path, operations) for path, operations in _OF_PREFERENCE.items()),
    _STREAM,
    *(Route("response", path, operations) for path, operations in _OF_RESPONSE.items()),
)
OPERATIONS: Mapping[str, Operations] = {**{route.path: route.operations for route in ROUTES}, **_OF_GATEWAY}
"""By path and method. Calls that are not here need no key: health, pages."""


def is_for_user(path: str) -> bool:
    """Whether the calls of a template are for one user, so that a user token may make them: the path names the
    user, or a chat or feedback, whose service compares the user that the body names (services/server/app.py)."""
    return path.startswith(_USER) or path in (*CHATS, FEEDBACK)


USER_SCOPES = frozenset(
    operation.scope for path, calls in OPERATIONS.items() if is_for_user(path) for operation in calls.values()
)
"""What a user token may hold: the scopes of calls for one user."""
OWN_PATHS = frozenset(path for path in _OF_GATEWAY if path.startswith("/v1/"))
"""Paths under /v1 that the gateway answers itself; no template among them."""


def needed_scope(path: str, method: str) -> Scope:
    """Of a template of `OPERATIONS`. Raises MethodNotAllowed."""
    calls = OPERATIONS[path]
    operation = calls.get("GET" if method == "HEAD" else method)
    if operation is None:
        raise MethodNotAllowed(allow=", ".join(calls))
    return operation.scope


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
    def __init__(self) -> None:
        self._root = Node()
        for route in ROUTES:
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
