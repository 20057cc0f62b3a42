"""Holds what is answered against the OpenAPI document: each status of each call must be declared there.

`check_status` looks at one answer, `problems_watched` at every error that an app of this process renders.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

from starlette.responses import Response
from starlette.types import Scope

from gateway.__main__ import build_app
from gateway.pages import Document, merge, problems_of
from gateway.routing import Service
from services.errors import AlignXError, MethodNotAllowed
from services.preference.__main__ import create_preference_app
from services.response.__main__ import create_response_app
from services.server import app as server
from services.server.metrics import create_registry, matched_route
from services.settings import Settings


@cache
def documents() -> tuple[Document, dict[Service, Document]]:
    """The gateway's own document and those of the services."""
    settings = Settings(internal_token="the-apps-are-not-started")
    parts: dict[Service, Document] = {
        "preference": create_preference_app(settings).openapi(),
        "response": create_response_app(settings).openapi(),
    }
    return build_app(settings, create_registry("gateway")).openapi(), parts


@cache
def merged_document() -> Document:
    """What the gateway serves while both services answer."""
    own, parts = documents()
    return merge(own, parts, [])


def declared_statuses(method: str, template: str) -> set[str] | None:
    """Of a call, as the document has them; None for a path that is not in it. A method that the path does not take
    shares the refusals of those it takes."""
    operations = merged_document()["paths"].get(template)
    if operations is None:
        return None
    method = "get" if method == "HEAD" else method.lower()
    chosen = operations.get(method) or next(iter(operations.values()))
    statuses = set(chosen["responses"])
    return statuses if method in operations else {status for status in statuses if status >= "400"}


def check_status(method: str, path: str, status: int) -> None:
    """Fails if the call at `path`, as it was sent, declares no such status. A browser's preflight is no call."""
    template = None if method == "OPTIONS" else _template_of(path.partition("?")[0])
    declared = declared_statuses(method, template) if template else None
    if declared is not None:
        assert str(status) in declared, f"{method} {template} answers {status}, which its document does not declare"


def _template_of(path: str) -> str | None:
    for template in sorted(merged_document()["paths"], key=lambda known: known.count("{")):
        pattern = "".join(
            "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"({\w+})", template)
        )
        if re.fullmatch(pattern, path):
            return str(template)
    return None


def _is_declared(method: str, template: str, error: AlignXError) -> bool:
    operations = merged_document()["paths"].get(template)
    if operations is None or isinstance(error, MethodNotAllowed):
        return True
    method = "get" if method == "HEAD" else method.lower()
    if method not in operations:
        return str(error.status) in (declared_statuses(method, template) or ())
    return type(error) in problems_of(template, method, _unmerged(template)[method])


@cache
def _unmerged(template: str) -> Document:
    own, parts = documents()
    found = (part["paths"][template] for part in (*parts.values(), own) if template in part["paths"])
    operations: Document = next(found)
    return operations


@contextmanager
def problems_watched() -> Iterator[None]:
    """Fails at its end if an app has rendered an error that its call does not declare."""
    undeclared = set[str]()
    render = server.problem_response

    def watching(scope: Scope, error: AlignXError) -> Response:
        template = matched_route(scope)
        if not _is_declared(scope["method"], template, error):
            undeclared.add(f"{scope['method']} {template}: {error.status} {error.code}")
        return render(scope, error)

    with patch.object(server, "problem_response", watching):
        yield
    assert not undeclared, "answered, but not in the OpenAPI document"
