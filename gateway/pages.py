"""The web console and the API reference: a few static files, read once and served from memory.

They load nothing from elsewhere and run under a strict content security policy.
"""

import hashlib
from importlib import resources

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from services.errors import RouteUnknown

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


class Pages:
    """The files of gateway/console, by name."""

    def __init__(self) -> None:
        folder = resources.files("gateway").joinpath("console")
        self._files = {
            file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES
        }

    def answer(self, name: str, request: Request) -> Response:
        """The file, or 304 if the browser has it. Raises RouteUnknown."""
        content = self._files.get(name)
        if content is None:
            raise RouteUnknown
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

    @app.get("/console/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        return pages.answer(name, request)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return pages.answer("docs.html", request)
