import re
from collections.abc import Callable
from typing import get_args

import pytest
from fastapi import FastAPI

from alignx.client.methods import Endpoints
from alignx.schemas.tenants import SCOPES as NAMES
from gateway.__main__ import build_app
from gateway.pages import Document, merge
from gateway.routing import CHATS, FEEDBACK, OPERATIONS, ROUTES, USER_SCOPES, Route, RoutingTable, Service, needed_scope
from services.errors import MethodNotAllowed, RequestError, RouteUnknown
from services.preference.__main__ import create_preference_app
from services.response.__main__ import create_response_app
from services.server.metrics import create_registry
from services.settings import Settings

TABLE = RoutingTable()
OPEN = {"/livez", "/readyz"}
"""Paths that need no key."""


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_paths_find_their_service(route: Route) -> None:
    assert TABLE.find(re.sub(r"{\w+}", "a%20b%3F", route.path).encode()) is route


@pytest.mark.parametrize(
    ("path", "template"),
    [
        (b"/v1/users/a%20b%3F%23%25/events", "/v1/users/{user}/events"),
        (b"/v1/users/events/events", "/v1/users/{user}/events"),
        (b"/v1/users/ann@example.com/dead-letters", "/v1/users/{user}/dead-letters"),
        (b"/v1/users/...ann/export", "/v1/users/{user}/export"),
        (b"/v1/users/%E4%BD%A0/preferences", "/v1/users/{user}/preferences"),
        (b"/v1/users/CORP%5Cada/preferences", "/v1/users/{user}/preferences"),
        (b"/v1/users/erasures", "/v1/users/{user}"),
        (b"/v1/models/org/tiny-1.5", "/v1/models/{model}"),
        (b"/v1/models/org%2Ftiny", "/v1/models/{model}"),
    ],
)
def test_names_in_paths_may_be_anything(path: bytes, template: str) -> None:
    assert TABLE.find(path).path == template


@pytest.mark.parametrize("name", [b"..", b"a/../b", b"a%2F..%2Fb", b"%2e%2e", b"a%2F%00"])
def test_the_name_of_a_model_leads_to_no_other_path(name: bytes) -> None:
    with pytest.raises((RequestError, RouteUnknown)):
        TABLE.find(b"/v1/models/" + name)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1",
        b"/v1/",
        b"/v1/users/",
        b"/v1/users//events",
        b"/v1/users/ann/",
        b"/v1/users/ann/secrets",
        b"/v1/users/ann/events/1/x",
        b"/v1/livez",
        b"/v1/chat/completions/x",
        b"/v1/models/",
        b"/v1/models//tiny",
        b"/v1/users/ann%/events",
        b"/v1/users/ann%2/events",
        b"/v1/users/a\\b/events",
        b"/v1/users/a b/events",
        b"/v1/users/\xff/events",
        b"/v2/users/ann",
    ],
)
def test_other_paths_are_unknown(path: bytes) -> None:
    with pytest.raises(RouteUnknown):
        TABLE.find(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/users/../quality",
        b"/v1/users/./events",
        b"/v1/users/%2e%2e/events",
        b"/v1/users/.%2E/events",
        b"/v1/users/ann%2Fevents",
        b"/v1/users/ann%2f..%2fbob/events",
        b"/v1/users/ann%00/events",
        b"/v1/users/ann%0d%0a/events",
        b"/v1/users/%FF/events",
        b"/v1/users/%C3%28/events",
    ],
)
def test_paths_with_two_readings_are_refused(path: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        TABLE.find(path)
    assert caught.value.status in (400, 404)


@pytest.fixture(scope="module")
def openapi() -> Document:
    """The document that the gateway serves."""
    settings = Settings(internal_token="the-apps-are-not-started")
    apps = {"preference": create_preference_app(settings), "response": create_response_app(settings)}
    parts: dict[Service, Document] = {service: apps[service].openapi() for service in get_args(Service)}
    return merge(build_app(settings, create_registry("gateway")).openapi(), parts, [])


@pytest.mark.parametrize(
    ("service", "create"), [("preference", create_preference_app), ("response", create_response_app)]
)
def test_each_call_goes_to_the_service_that_has_it(service: Service, create: Callable[[Settings], FastAPI]) -> None:
    paths = create(Settings(internal_token="the-app-is-not-started")).openapi()["paths"]
    assert {path for path in paths if path.startswith("/v1/")} == {r.path for r in ROUTES if r.service == service}


def test_every_call_of_the_api_needs_exactly_one_scope(openapi: Document) -> None:
    documented = {(path, method.upper()) for path, calls in openapi["paths"].items() for method in calls}
    tabled = {(path, method): call.scope for path, calls in OPERATIONS.items() for method, call in calls.items()}
    assert {call for call in documented if call[0] not in OPEN} == tabled.keys()
    for (path, method), scope in tabled.items():
        operation = openapi["paths"][path][method.lower()]
        credentials = [("key", [scope])] + [("user_token", [scope])] * ("{user}" in path or path in (*CHATS, FEEDBACK))
        assert [item for entry in operation["security"] for item in entry.items()] == credentials, path
        assert {"401", "403", "429"} <= operation["responses"].keys()
    assert set(tabled.values()) == set(NAMES), "a scope that no call needs"


def test_operations_have_the_names_of_the_sdk(openapi: Document) -> None:
    names = [operation["operationId"] for calls in openapi["paths"].values() for operation in calls.values()]
    assert len(names) == len(set(names))
    methods = {name for name in vars(Endpoints) if not name.startswith("_")} - {"preferences_if_changed"}
    assert set(names) - methods == {
        "create_message",
        "create_response",
        "export",
        "livez",
        "metrics",
        "read_model",
        "watch",
    }
    assert methods < set(names)


def test_user_tokens_hold_scopes_of_calls_for_one_user_alone() -> None:
    of_tenants = {"users:list", "catalogue:write", "quality:read", "webhooks:manage", "tokens:mint", "admin"}
    assert set(NAMES) - USER_SCOPES == of_tenants


def test_a_method_that_a_path_does_not_take_is_no_call() -> None:
    assert needed_scope("/v1/quality", "HEAD") == "quality:read"
    with pytest.raises(MethodNotAllowed) as caught:
        needed_scope("/v1/users/{user}/events", "PATCH")
    assert caught.value.allow == "GET, POST"
