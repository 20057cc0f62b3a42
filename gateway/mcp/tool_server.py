"""The MCP server at /mcp: a user's preferences as an agent's tools, over streamable HTTP without sessions.

A call of a tool is a call of the REST API, made through the same proxy: its scope, the one user of a user token, rates
and the audit log are those of that call. The tools stand in tools.json. Requests of protocol 2026-07-28 say
their version in each request; older clients `initialize` first. Each answer is one JSON document.

The protocol is written out here, since the official SDK would load 550 modules and 60 MiB into the process that checks
the keys; its client is what the live tests use.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from copy import deepcopy
from importlib import resources
from typing import Any, Final
from urllib.parse import quote

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from alignx import __version__
from gateway.auth import AuthState, Caller
from gateway.proxy import Proxy
from gateway.routing import OPERATIONS
from services.errors import AlignXError, Forbidden, MethodNotAllowed
from services.server.request_bodies import ClientDisconnected, read_body
from services.server.state import state_of
from services.settings import Settings

PATH: Final = "/mcp"
MODERN: Final = "2026-07-28"
"""The version whose requests stand by themselves."""
HANDSHAKES: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Versions that begin with `initialize`, newest first."""
HEADERS: Final = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id")

Document = dict[str, Any]
_META: Final = "io.modelcontextprotocol/"
_LIST_TTL_MS: Final = 60_000
_INVALID_JSON, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_HEADER_MISMATCH, _UNSUPPORTED_VERSION = -32020, -32022
_SERVER: Final = {"name": "alignx-serve", "title": "AlignX Serve", "version": __version__}
_INSTRUCTIONS: Final = (
    "Tools to learn and use what a user prefers. Read get_preferences before answering, record what the user says or "
    "chooses with record_event, and let select or recommend decide between items."
)
_LOOPBACK: Final = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?")


class RpcError(Exception):
    """An error of JSON-RPC."""

    def __init__(self, code: int, message: str, data: Document | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


class ToolServer:
    """The ASGI app at /mcp."""

    path = PATH

    def __init__(self, proxy: Proxy, settings: Settings) -> None:
        self._proxy = proxy
        self._origins = frozenset(settings.gateway.cors_origins)
        self._limits = settings.limits
        self._body_timeout_s = settings.gateway.body_timeout_s
        entries = orjson.loads(resources.files("gateway").joinpath("mcp/tools.json").read_bytes())
        self._tools: Mapping[str, Document] = {entry["tool"]["name"]: entry for entry in entries}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # its telemetry reads the path of it
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_origin(headers)
        if scope["method"] != "POST":  # no stream, and no session to end
            raise MethodNotAllowed(allow="POST")
        caller = await state_of(scope["app"], AuthState).authenticator.admit(scope)
        try:
            body = await read_body(scope, receive, limit=self._limits.body_bytes, timeout_s=self._body_timeout_s)
        except ClientDisconnected:
            return
        response = await self._answer(Exchange(scope, receive, headers, caller), body or b"")
        await response(scope, receive, send)

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """A page may call from an origin of the settings, or from this machine to this machine: a name that a foreign
        page has made to point here (DNS rebinding) is neither. Raises Forbidden."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return
        host = origin.partition("://")[2]
        if not (_LOOPBACK.fullmatch(host) and _LOOPBACK.fullmatch(headers.get("host", ""))):
            raise Forbidden("Pages of this origin may not call; ALIGNX_GATEWAY__CORS_ORIGINS lists those that may.")

    async def _answer(self, exchange: "Exchange", body: bytes) -> Response:
        request_id: Any = None
        try:
            message = _parse(body)
            request_id = message.get("id")
            exchange.check(message)
            if "id" not in message:  # a notification, of which none changes anything here
                return Response(status_code=202)
            result = await self._result(exchange, message["method"], message.get("params") or {})
        except RpcError as error:
            is_answer = not exchange.is_modern and error.code in (_NO_METHOD, _INVALID_PARAMS)
            status = 200 if is_answer else 404 if error.code == _NO_METHOD else 400
            return _json({"jsonrpc": "2.0", "id": request_id, "error": error.error}, status)
        return _json({"jsonrpc": "2.0", "id": request_id, "result": exchange.stamp(result)}, 200)

    async def _result(self, exchange: "Exchange", method: str, params: Document) -> Document:
        match method:
            case "tools/call":
                return await self._call(exchange, params)
            case "initialize":
                asked = params.get("protocolVersion")
                version = asked if asked in HANDSHAKES else HANDSHAKES[0]
                about = {"capabilities": {"tools": {}}, "instructions": _INSTRUCTIONS}
                return {"protocolVersion": version, "serverInfo": _SERVER, **about}
            case "server/discover":
                about = {"capabilities": {"tools": {}}, "instructions": _INSTRUCTIONS}
                return {"supportedVersions": [MODERN], **about, **_cached(_LIST_TTL_MS)}
            case "ping":
                return {}
            case "tools/list":
                return {"tools": self._offered(exchange.caller)} | (_cached(_LIST_TTL_MS) if exchange.is_modern else {})
            case _:
                raise RpcError(_NO_METHOD, "Method not found")

    def _offered(self, caller: Caller) -> list[Document]:
        """The tools whose calls the caller may make; a user token need not name its user."""
        offered = []
        for entry in self._tools.values():
            call = entry["call"]
            if OPERATIONS[call["path"]][call["method"]].scope in caller.scopes:
                tool = deepcopy(entry["tool"])
                if caller.user is not None:
                    tool["inputSchema"]["required"].remove("user")
                offered.append(tool)
        return offered

    async def _call(self, exchange: "Exchange", params: Document) -> Document:
        entry = self._tools.get(params.get("name", "")) if isinstance(params.get("name"), str) else None
        arguments = params.get("arguments") or {}
        if entry is None or not isinstance(arguments, dict):
            raise RpcError(_INVALID_PARAMS, "Unknown tool" if entry is None else "arguments must be an object")
        user = arguments.get("user", exchange.caller.user)
        if problem := _problem(entry["tool"], arguments, user):
            return _failed(problem)
        call, fields = entry["call"], {name: value for name, value in arguments.items() if name != "user"}
        if wrap := call.get("wrap"):
            fields = {wrap: [fields[call["field"]]]}
        path = call["path"].replace("{user}", quote(str(user), safe=""))
        try:
            body = orjson.dumps(fields) if call["method"] == "POST" else b""
        except orjson.JSONEncodeError:
            return _failed("The arguments are nested too deeply.")
        try:
            status, answer = await exchange.ask(self._proxy, call["method"], path, body)
        except AlignXError as error:
            return _failed(error.detail)
        if status >= 400:
            return _failed(_detail(answer))
        if answer is None:
            return _failed("The service broke off its answer.")
        document = orjson.loads(answer) if answer else {"done": True}
        text = answer.decode() or "Done."
        return {"content": [{"type": "text", "text": text}], "structuredContent": document, "isError": False}


class Exchange:
    """One POST: who sends it, by which version of the protocol, and the REST call behind it."""

    def __init__(self, scope: Scope, receive: Receive, headers: Mapping[str, str], caller: Caller) -> None:
        self.caller = caller
        self._scope = scope
        self._receive = receive
        self._headers = headers
        self.is_modern = headers.get("mcp-protocol-version") == MODERN

    def check(self, message: Document) -> None:
        """Raises RpcError where headers and body do not fit a version of the protocol."""
        version = self._headers.get("mcp-protocol-version")
        if version is not None and version not in (MODERN, *HANDSHAKES):
            data = {"supported": [MODERN, *HANDSHAKES], "requested": version}
            raise RpcError(_UNSUPPORTED_VERSION, "Unsupported protocol version", data)
        if not self.is_modern or "id" not in message:
            return
        params = message.get("params") or {}
        meta = params.get("_meta")
        if not isinstance(meta, dict) or not {f"{_META}protocolVersion", f"{_META}clientCapabilities"} <= meta.keys():
            raise RpcError(_INVALID_PARAMS, f"params._meta needs {_META}protocolVersion and {_META}clientCapabilities")
        named = params.get("name") if message["method"] == "tools/call" else None
        given = {"mcp-protocol-version": meta[f"{_META}protocolVersion"], "mcp-method": message["method"]}
        for header, value in (given | ({"mcp-name": named} if named is not None else {})).items():
            if _decoded(self._headers.get(header)) != value:
                raise RpcError(_HEADER_MISMATCH, f"The header {header} does not match the body")

    async def ask(self, proxy: Proxy, method: str, path: str, body: bytes) -> tuple[int, bytes | None]:
        """Status and body of a call of the REST API by the same caller; None for a body that was cut off. Raises
        AlignXError."""
        headers = list[tuple[bytes, bytes]]()
        if body:
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        raw = path.encode()
        inner = {"method": method, "path": path, "raw_path": raw, "query_string": b"", "headers": headers}
        waiting = [body] if body else []
        status, pieces, is_whole = 0, list[bytes](), False

        async def receive() -> Message:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(), "more_body": False}
            return await self._receive()

        async def send(message: Message) -> None:
            nonlocal status, is_whole
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                pieces.append(message.get("body", b""))
                is_whole = not message.get("more_body", False)

        await proxy.serve({**self._scope, **inner}, receive, send, self.caller)
        return status, b"".join(pieces) if is_whole else None

    def stamp(self, result: Document) -> Document:
        if not self.is_modern:
            return result
        return {"resultType": "complete", **result, "_meta": {f"{_META}serverInfo": _SERVER}}


def _parse(body: bytes) -> Document:
    """A request or notification. Raises RpcError."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RpcError(_INVALID_JSON, "Parse error") from error
    is_request = (
        isinstance(message, dict) and message.get("jsonrpc") == "2.0" and isinstance(message.get("method"), str)
    )
    if not is_request or not isinstance(message.get("params") or {}, dict):
        raise RpcError(_INVALID_REQUEST, "The body must be one JSON-RPC request or notification")
    if "id" in message and (isinstance(message["id"], bool) or not isinstance(message["id"], str | int)):
        raise RpcError(_INVALID_REQUEST, "An id is a text or a whole number")
    parsed: Document = message
    return parsed


def _problem(tool: Document, arguments: Document, user: Any) -> str:
    """What is wrong with the arguments before the call is made; the service says the rest."""
    schema = tool["inputSchema"]
    if not isinstance(user, str) or not user:
        return "user: the id of a user is needed, a text."
    if strange := sorted(arguments.keys() - schema["properties"].keys()):
        return f"{strange[0]}: no argument of this tool."
    if missing := [name for name in schema["required"] if name != "user" and name not in arguments]:
        return f"{missing[0]}: is needed."
    if "everything" in arguments and arguments["everything"] is not True:
        return "everything: must be true; this tool erases all of the user."
    return ""


def _detail(answer: bytes | None) -> str:
    try:
        problem = orjson.loads(answer or b"")
    except orjson.JSONDecodeError:
        problem = None
    return str(problem["detail"]) if isinstance(problem, dict) and "detail" in problem else "The call failed."


def _failed(why: str) -> Document:
    return {"content": [{"type": "text", "text": why}], "isError": True}


def _cached(ttl_ms: int) -> Document:
    return {"ttlMs": ttl_ms, "cacheScope": "private"}


def _decoded(header: str | None) -> str | None:
    """A header's text, which a client encodes where it holds more than ASCII."""
    encoded = re.fullmatch(r"=\?base64\?(.*)\?=", header or "")
    if encoded is None:
        return header
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _json(document: Document, status: int) -> Response:
    return Response(orjson.dumps(document), status, {"Cache-Control": "no-store"}, "application/json")
