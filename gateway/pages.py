"""What a browser reads: the web console and the API reference, and the OpenAPI document behind it.

The console and the reference are a few static files, read once and served from memory. They load nothing from
elsewhere and run under a strict content security policy.

One document describes the whole suite, merged from the services' own as they are now. The services are asked at
the first request for the document, and again after `_FRESH_S`. While a service is down, its last known part is used,
or left out, and the document says so in its description.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, get_args

import aiohttp
import orjson
from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from alignx.schemas.tenants import Scope
from gateway.routing import OPERATIONS, ROUTES, SERVICES, Service, is_for_user
from services import errors
from services.errors import ANTHROPIC_PATHS, OPENAI_PATHS
from services.server.app import PROBLEM_JSON, TENANT_HEADER, TOKEN_HEADER

Document = dict[str, Any]

_FRESH_S = 60.0
_RETRY_S = 5.0
_FETCH_TIMEOUT_S = 3.0
_INTERNAL_HEADERS = {TENANT_HEADER.lower(), TOKEN_HEADER.lower()}
_SECTIONS = ("schemas", "responses", "parameters", "requestBodies", "headers")
_EXAMPLES = "#/components/examples/"
_SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "ax_<id>_<secret>",
        "description": "An API key, as `Authorization: Bearer ax_…` or as `x-api-key: ax_…`.",
    },
    "user_token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token for one user, by `POST /v1/tokens`: the calls for this user alone.",
    },
}
_OF_CONNECTION = (errors.MalformedHead, errors.HeadTooLarge, errors.TooManyConnections)
"""Answered before the path is known, so never in the shape of other clients (services/server/bounds.py)."""
_OF_ANY = (*_OF_CONNECTION, errors.MethodNotAllowed, errors.AlignXError)
_OF_KEYS = (
    errors.Unauthenticated,
    errors.CredentialExpired,
    errors.Forbidden,
    errors.RateLimited,
    errors.TooManyFailures,
    errors.StoreUnavailable,
)
_OF_BODIES = (errors.RequestError, errors.MalformedBody, errors.PayloadTooLarge)
_OF_SERVICES = (errors.RequestError, errors.PayloadTooLarge, errors.TooManyAtOnce, errors.UpstreamUnavailable)
_PROXIED = frozenset(route.path for route in ROUTES)
_HEADERS = {
    "401": ("WWW-Authenticate", "string"),
    "405": ("Allow", "string"),
    "429": ("Retry-After", "integer"),
    "503": ("Retry-After", "integer"),
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}


class DocsMerger:
    """Fetches, merges and caches the document."""

    def __init__(
        self, own: Callable[[], Document], session: aiohttp.ClientSession, urls: Mapping[Service, Sequence[str]]
    ) -> None:
        self._own = own
        self._session = session
        self._urls = urls
        self._parts: dict[Service, Document] = {}
        self._merged = b""
        self._expires = 0.0
        self._lock = asyncio.Lock()
        self._logger = logging.getLogger("alignx.gateway")

    async def document(self) -> bytes:
        """The merged OpenAPI document, as JSON."""
        async with self._lock:
            if time.monotonic() >= self._expires:
                missing = [service for service in SERVICES if not await self._fetch_any(service)]
                self._merged = orjson.dumps(merge(self._own(), self._parts, missing))
                self._expires = time.monotonic() + (_RETRY_S if missing else _FRESH_S)
            return self._merged

    async def _fetch_any(self, service: Service) -> bool:
        for url in self._urls[service]:
            if await self._fetch(service, url):
                return True
        return False

    async def _fetch(self, service: Service, url: str) -> bool:
        timeout = aiohttp.ClientTimeout(total=_FETCH_TIMEOUT_S)
        try:
            async with self._session.get(f"{url}/openapi.json", timeout=timeout) as answer:
                if answer.status != 200:
                    return False
                part = orjson.loads(await answer.read())
        except (aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            self._logger.warning("no API description", extra={"target": service, "error": type(error).__name__})
            return False
        self._parts[service] = part
        return True


def merge(own: Document, parts: Mapping[Service, Document], missing: list[Service]) -> Document:
    """The gateway's own document with the public paths of the services."""
    merged: Document = {**own, "paths": {}, "components": {section: {} for section in _SECTIONS}}
    for service, part in parts.items():
        _add(merged, part, service.capitalize())
    _add(merged, own, "Gateway")
    merged["components"] = {name: entries for name, entries in merged["components"].items() if entries}
    merged["components"]["securitySchemes"] = _SECURITY_SCHEMES
    schemas: Document = merged["components"].setdefault("schemas", {})
    for replaced in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which nothing here answers
        schemas.pop(replaced, None)
    schemas |= _error_schemas()
    merged["components"]["examples"] = _examples(merged["paths"])
    for operation in (operation for operations in merged["paths"].values() for operation in operations.values()):
        if examples := _read("body_examples.json").get(operation.get("operationId", "")):
            operation["requestBody"]["content"]["application/json"]["examples"] = examples
    if missing:
        names = " and ".join(missing)
        note = f"\n\nThe {names} service does not answer now; what it offers may be missing or out of date."
        merged["info"] = {**own["info"], "description": own["info"].get("description", "") + note}
    return merged


def _add(merged: Document, part: Document, prefix: str) -> None:
    """Adds a service's paths and components; a component whose name is present by another of the same
    name gets the service's prefix."""
    components: Document = part.get("components", {})
    renamed: dict[str, str] = {}
    for section in _SECTIONS:
        present: Document = merged["components"][section]
        for name, entry in components.get(section, {}).items():
            if name in present and present[name] != entry:
                renamed[f"#/components/{section}/{name}"] = f"#/components/{section}/{prefix}{name}"
    for section in _SECTIONS:
        for name, entry in components.get(section, {}).items():
            reference = f"#/components/{section}/{name}"
            new_name = renamed.get(reference, reference).rpartition("/")[2]
            merged["components"][section][new_name] = _with_references(entry, renamed)
    for path, operations in part.get("paths", {}).items():
        if path.startswith(("/v1/", "/admin/")) or prefix == "Gateway":
            merged["paths"][path] = _public(path, _with_references(operations, renamed))


def _with_references(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: renamed.get(inner, inner)
            if name == "$ref" and isinstance(inner, str)
            else _with_references(inner, renamed)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_with_references(inner, renamed) for inner in value]
    return value


def _public(path: str, operations: Document) -> Document:
    """The operations of a path as a caller sees them: with a key, without internal headers."""
    public: Document = {}
    for method, operation in operations.items():
        changed = {name: part for name, part in operation.items() if name not in ("parameters", "security")}
        if parameters := [entry for entry in operation.get("parameters", ()) if not _is_internal(entry)]:
            changed["parameters"] = parameters
        if known := OPERATIONS.get(path, {}).get(method.upper()):
            credentials = ["key", "user_token"] if is_for_user(path) else ["key"]
            changed["security"] = [{name: [known.scope]} for name in credentials]
        changed["responses"] = _responses(path, method, operation)
        public[method] = changed
    return public


def problems_of(path: str, method: str, operation: Document) -> list[type[errors.AlignXError]]:
    """Every error that a call can end with: those of its kind, and its own in `OPERATIONS`."""
    found: list[type[errors.AlignXError]] = [*_OF_ANY]
    known = OPERATIONS.get(path, {}).get(method.upper())
    if known:
        found += _OF_KEYS
    if path in _PROXIED:
        found += _OF_SERVICES
    if path.startswith("/v1/"):
        found.append(errors.Overloaded)
    if "requestBody" in operation:
        found += _OF_BODIES
        if "application/json" in operation["requestBody"]["content"]:
            found.append(errors.UnsupportedMedia)
    if "422" in operation.get("responses", {}):  # FastAPI has fields to check
        found.append(errors.InvalidRequest)
    return list(dict.fromkeys((*found, *(known.problems if known else ()))))


def _responses(path: str, method: str, operation: Document) -> Document:
    """The answers of a call, sorted by status; errors with an example of each code."""
    answers: Document = {status: answer for status, answer in operation.get("responses", {}).items() if status != "422"}
    for problem in problems_of(path, method, operation):
        status, shape = str(problem.status), _PROBLEM_SHAPE if problem in _OF_CONNECTION else _shape(path)
        answer = answers.setdefault(status, {"description": ""})
        about = f"`{problem.code}`: {problem.title}"
        answer["description"] = f"{answer['description']}\n\n{about}".strip()
        content = answer.setdefault("content", {}).setdefault(shape.media, {})
        content["schema"] = {"$ref": f"#/components/schemas/{shape.schema}"}
        content.setdefault("examples", {})[problem.code] = {"$ref": f"{_EXAMPLES}{shape.prefix}{problem.code}"}
        if field := _HEADERS.get(status):
            answer["headers"] = {field[0]: {"schema": {"type": field[1]}}}
    return dict(sorted(answers.items()))


def _examples(paths: Document) -> Document:
    """What the answers of `paths` refer to."""
    text, examples = orjson.dumps(paths).decode(), Document()
    for problem in errors.error_tree():
        for shape in (_PROBLEM_SHAPE, *_SHAPES.values()):
            if f'"{_EXAMPLES}{shape.prefix}{problem.code}"' in text:
                value = problem().document(shape.path, request_id="5f0c1f6f5e0c4d3b9a7e2d1c8b6a4f30")
                examples[shape.prefix + problem.code] = {"summary": problem.title, "value": value}
    return examples


def _error_schemas() -> Document:
    schemas = _read("error_schemas.json")
    schemas["Problem"]["properties"]["scope"]["enum"] = list(get_args(Scope))
    return schemas


@cache
def _read(name: str) -> Document:
    document: Document = orjson.loads(resources.files("gateway").joinpath(name).read_bytes())
    return document


class _Shape(NamedTuple):
    """How errors are written on some paths."""

    path: str
    """One of them."""
    schema: str
    prefix: str
    """Of the names of its examples."""
    media: str = "application/json"


_PROBLEM_SHAPE = _Shape("/v1/users", "Problem", "", PROBLEM_JSON)
_SHAPES = {
    OPENAI_PATHS: _Shape(OPENAI_PATHS[0], "OpenAIError", "openai_"),
    ANTHROPIC_PATHS: _Shape(ANTHROPIC_PATHS[0], "AnthropicError", "anthropic_"),
}


def _shape(path: str) -> _Shape:
    return next((shape for paths, shape in _SHAPES.items() if path.startswith(paths)), _PROBLEM_SHAPE)


def _is_internal(parameter: Document) -> bool:
    return parameter.get("in") == "header" and parameter.get("name", "").lower() in _INTERNAL_HEADERS


# --- static pages ------------------------------------------------------------------------------


class Pages:
    """The files of gateway/console and its folders, by their paths there."""

    def __init__(self) -> None:
        folder = resources.files("gateway").joinpath("console")
        with resources.as_file(folder) as root:
            paths = (path for path in root.rglob("*") if path.suffix[1:] in _TYPES)
            self._files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}

    def answer(self, name: str, request: Request) -> Response:
        """The file, or 304 if the browser has it. Raises RouteUnknown."""
        content = self._files.get(name)
        if content is None:
            raise errors.RouteUnknown
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**_SECURITY, "ETag": etag}
        if request.headers.get("If-None-Match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])


def add_pages(app: FastAPI) -> None:
    """`/` and `/console`, its files, and `/docs`."""
    pages = Pages()

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/console", status_code=307)

    @app.get("/console", include_in_schema=False)
    async def console(request: Request) -> Response:
        return pages.answer("index.html", request)

    @app.get("/console/{name:path}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        return pages.answer(name, request)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return pages.answer("docs.html", request)
