"""The MCP server: what clients of each version send and get, whose calls the tools make, and who may call."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from alignx.schemas.interactions import INTERACTION_TYPES
from alignx.schemas.requests import EventsRequest, RecommendRequest, SelectRequest
from gateway.mcp.tool_server import HANDSHAKES, MODERN
from tests.unit.gateway.conftest import Suite, hang_up, http_answer
from tests.unit.gateway.test_user_tokens import mint
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

CLIENT = {"protocolVersion": HANDSHAKES[0], "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
ALL = ["get_preferences", "record_event", "select", "recommend", "forget"]


async def post(suite: Suite, message: Any, key: str | None = None, **headers: str) -> tuple[int, Any]:
    """Status and body of a POST; `_` in the name of a header stands for `-`."""
    fields = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = message if isinstance(message, bytes) else orjson.dumps(message)
    async with suite.call("POST", "/mcp", key=key, data=data, headers=fields) as answer:
        body = await answer.read()
        return answer.status, orjson.loads(body) if body else None


def request(method: str, params: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {}), **members}


async def result(suite: Suite, method: str, params: Mapping[str, Any] | None = None, **options: Any) -> Any:
    status, answer = await post(suite, request(method, params), **options)
    assert (status, answer["jsonrpc"], answer["id"]) == (200, "2.0", 1), answer
    return answer["result"]


async def use(suite: Suite, name: str, key: str | None = None, **arguments: Any) -> Any:
    return await result(suite, "tools/call", {"name": name, "arguments": arguments}, key=key)


def modern(method: str, **named: str) -> dict[str, str]:
    return {"MCP_Protocol_Version": MODERN, "Mcp_Method": method, **named}


# --- the protocol ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given"), [*((version, version) for version in HANDSHAKES), ("2099-01-01", "2025-11-25")]
)
async def test_a_client_with_a_handshake_is_served(suite: Suite, asked: str, given: str) -> None:
    opened = await result(suite, "initialize", CLIENT | {"protocolVersion": asked})
    assert (opened["protocolVersion"], opened["capabilities"]) == (given, {"tools": {}})
    assert opened["serverInfo"]["name"] == "alignx-serve"
    headers = {"MCP_Protocol_Version": given}
    assert await post(suite, {"jsonrpc": "2.0", "method": "notifications/initialized"}, **headers) == (202, None)
    assert await result(suite, "ping", **headers) == {}
    listed = await result(suite, "tools/list", **headers)
    assert listed.keys() == {"tools"}
    status, answer = await post(suite, request("resources/list"), **headers)
    assert (status, answer["error"]["code"]) == (200, -32601)


async def test_a_client_without_a_handshake_is_served(suite: Suite) -> None:
    found = await result(suite, "server/discover", {"_meta": META}, **modern("server/discover"))
    assert (found["supportedVersions"], found["resultType"], found["cacheScope"]) == ([MODERN], "complete", "private")
    assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "alignx-serve"
    listed = await result(suite, "tools/list", {"_meta": META}, **modern("tools/list"))
    assert [tool["name"] for tool in listed["tools"]] == ALL
    assert listed["ttlMs"] > 0
    status, answer = await post(suite, request("prompts/list", {"_meta": META}), **modern("prompts/list"))
    assert (status, answer["error"]["code"]) == (404, -32601)


@pytest.mark.parametrize(
    ("params", "headers", "code"),
    [
        ({}, modern("tools/list"), -32602),
        ({"_meta": {"io.modelcontextprotocol/protocolVersion": MODERN}}, modern("tools/list"), -32602),
        ({"_meta": META}, modern("tools/call"), -32020),
        ({"_meta": META}, {"MCP_Protocol_Version": MODERN}, -32020),
        ({"_meta": META | {"io.modelcontextprotocol/protocolVersion": "x"}}, modern("tools/list"), -32020),
        ({}, {"MCP_Protocol_Version": "2099-01-01"}, -32022),
    ],
)
async def test_headers_and_body_must_agree(suite: Suite, params: Any, headers: dict[str, str], code: int) -> None:
    status, answer = await post(suite, request("tools/list", params), **headers)
    assert (status, answer["error"]["code"], answer["id"]) == (400, code, 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"", -32700),
        ([request("ping")], -32600),
        ({"id": 1, "method": "ping"}, -32600),
        (request("ping", id=1.5), -32600),
        (request("ping", id=None), -32600),
        (request("ping", params=[1]), -32600),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, -32600),
    ],
)
async def test_what_is_no_request_is_refused(suite: Suite, body: Any, code: int) -> None:
    status, answer = await post(suite, body)
    assert (status, answer["error"]["code"]) == (400, code)


async def test_there_is_neither_a_stream_nor_a_session(suite: Suite) -> None:
    for method in ("GET", "DELETE"):
        status, headers, _ = await suite.json(method, "/mcp")
        assert (status, headers["Allow"]) == (405, "POST")


# --- tools -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "line", "body"),
    [
        ("get_preferences", {}, "GET /v1/users/a%20b/preferences", None),
        (
            "record_event",
            {"event": {"type": "statement", "text": "I like tea."}},
            "POST /v1/users/a%20b/events",
            {"events": [{"type": "statement", "text": "I like tea."}]},
        ),
        ("select", {"items": ["a", "b"]}, "POST /v1/users/a%20b/select", {"items": ["a", "b"]}),
        (
            "recommend",
            {"candidates": ["a"], "k": 1, "explain": True},
            "POST /v1/users/a%20b/recommend",
            {"candidates": ["a"], "k": 1, "explain": True},
        ),
        ("forget", {"everything": True}, "DELETE /v1/users/a%20b", None),
    ],
)
async def test_a_tool_is_a_call_of_the_api(suite: Suite, name: str, arguments: Any, line: str, body: Any) -> None:
    for service in (suite.preference, suite.response):
        service.answer(http_answer(b'{"text":"Tea."}'))
    done = await use(suite, name, user="a b", **arguments)
    assert done["isError"] is False
    assert orjson.loads(done["content"][0]["text"]) == done["structuredContent"] == {"text": "Tea."}
    (seen,) = (*suite.preference.seen, *suite.response.seen)
    assert seen.line == f"{line} HTTP/1.1"
    assert (seen.header("x-alignx-tenant"), seen.header("authorization")) == ("shop", None)
    assert (orjson.loads(seen.body) if seen.body else None) == body
    schema = {"select": SelectRequest, "recommend": RecommendRequest, "record_event": EventsRequest}.get(name)
    assert schema is None or schema.model_validate(body)


async def test_the_listed_arguments_are_those_of_the_api(suite: Suite) -> None:
    tools = {tool["name"]: tool["inputSchema"] for tool in (await result(suite, "tools/list"))["tools"]}
    assert list(tools) == ALL
    assert set(tools["record_event"]["properties"]["event"]["properties"]["type"]["enum"]) == INTERACTION_TYPES
    for name, model in (("select", SelectRequest), ("recommend", RecommendRequest)):
        assert tools[name]["properties"].keys() - {"user"} <= model.model_fields.keys()


async def test_a_tool_without_a_body_to_read_is_done(suite: Suite) -> None:
    suite.preference.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await use(suite, "forget", user="ann", everything=True))["structuredContent"] == {"done": True}
    _, _, log = await suite.json("GET", "/v1/audit", key=(await suite.make_key(scopes=["admin"]))["key"])
    assert log["entries"][0]["action"] != "user.erased" or log["entries"][0]["target"]
    assert "user.erased" in {entry["action"] for entry in log["entries"]}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("get_preferences", {}, "user:"),
        ("get_preferences", {"user": 7}, "user:"),
        ("get_preferences", {"user": "a/b"}, "slash"),
        ("get_preferences", {"user": "ann", "version": 1}, "version:"),
        ("record_event", {"user": "ann"}, "event:"),
        ("forget", {"user": "ann"}, "everything:"),
        ("forget", {"user": "ann", "everything": "yes"}, "everything:"),
    ],
)
async def test_arguments_that_do_not_fit_are_named_to_the_model(
    suite: Suite, name: str, arguments: Any, words: str
) -> None:
    done = await use(suite, name, **arguments)
    assert done["isError"] is True
    assert words in done["content"][0]["text"]
    assert suite.preference.seen == []


async def test_arguments_that_are_nested_too_deeply_are_an_answer_of_the_tool(suite: Suite) -> None:
    arguments = b'{"user":"ann","event":%s}'
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"record_event","arguments":%s}}'
    texts = []
    for levels in range(245, 261):
        status, answer = await post(suite, call % arguments % (b'{"a":' * levels + b"1" + b"}" * levels))
        assert status == 200
        texts.append(answer["result"]["content"][0]["text"])
    assert set(texts) == {"{}", "The arguments are nested too deeply."}
    assert texts == sorted(texts, key=len)


async def test_what_a_service_refuses_is_an_answer_of_the_tool(suite: Suite) -> None:
    problem = orjson.dumps({"detail": "No history is kept for this user", "status": 404})
    suite.preference.answer(http_answer(problem, "404 Not Found", "Content-Type: application/problem+json"))
    done = await use(suite, "get_preferences", user="ann")
    assert (done["isError"], done["content"][0]["text"]) == (True, "No history is kept for this user")
    suite.preference.handler = hang_up
    done = await use(suite, "get_preferences", user="ann")
    assert (done["isError"], "does not answer" in done["content"][0]["text"]) == (True, True)


async def test_an_unknown_tool_is_an_error_of_the_protocol(suite: Suite) -> None:
    for params in ({"name": "look"}, {"name": 1}, {}, {"name": "select", "arguments": [1]}):
        status, answer = await post(suite, request("tools/call", params))
        assert (status, answer["error"]["code"]) == (200, -32602)  # a status would end older clients' sessions
    params = {"name": "look", "_meta": META}
    status, answer = await post(suite, request("tools/call", params), **modern("tools/call", Mcp_Name="look"))
    assert (status, answer["error"]["code"]) == (400, -32602)


# --- who may call ------------------------------------------------------------------------------


async def test_a_key_is_needed_for_all_of_it(suite: Suite) -> None:
    for method in ("initialize", "ping", "tools/list", "server/discover", "notifications/initialized"):
        status, problem = await post(suite, request(method, CLIENT), key="")
        assert (status, problem["type"]) == (401, "urn:alignx:problem:unauthenticated")
    assert (await post(suite, b"{", key=""))[0] == 401
    call = request("tools/call", {"name": "get_preferences", "arguments": {"user": "ann"}})
    assert (await post(suite, call, key="ax_nobody_" + "a" * 52))[0] == 401
    assert suite.preference.seen == []


async def test_a_tool_needs_the_scope_of_its_call(suite: Suite) -> None:
    key = (await suite.make_key(scopes=["preferences:read"]))["key"]
    assert [tool["name"] for tool in (await result(suite, "tools/list", key=key))["tools"]] == ["get_preferences"]
    assert (await use(suite, "get_preferences", key=key, user="ann"))["isError"] is False
    done = await use(suite, "forget", key=key, user="ann", everything=True)
    assert (done["isError"], "users:erase" in done["content"][0]["text"]) == (True, True)
    assert len(suite.preference.seen) == 1


async def test_a_user_token_keeps_to_its_user_and_need_not_name_it(suite: Suite) -> None:
    token = await mint(suite, "ann", scopes=["preferences:read"])
    (tool,) = (await result(suite, "tools/list", key=token))["tools"]
    assert tool["inputSchema"]["required"] == []
    for named in ({}, {"user": "ann"}):
        assert (await use(suite, "get_preferences", key=token, **named))["isError"] is False
    assert [seen.line for seen in suite.preference.seen] == ["GET /v1/users/ann/preferences HTTP/1.1"] * 2
    done = await use(suite, "get_preferences", key=token, user="bob")
    assert (done["isError"], "own user" in done["content"][0]["text"]) == (True, True)
    assert len(suite.preference.seen) == 2


async def test_calls_count_once_for_the_rate_of_the_key(suite: Suite) -> None:
    key = (await suite.make_key(rate=0.1, burst=2))["key"]
    assert [(await post(suite, request("ping"), key=key))[0] for _ in range(2)] == [200, 200]
    call = request("tools/call", {"name": "get_preferences", "arguments": {"user": "ann"}})
    status, problem = await post(suite, call, key=key)
    assert (status, problem["type"]) == (429, "urn:alignx:problem:rate_limited")


@with_settings(gateway={"cors_origins": ("https://shop.example",)})
async def test_a_page_calls_from_an_origin_that_is_listed_or_from_this_machine(suite: Suite) -> None:
    for origin in ("https://shop.example", "http://localhost:6274", "http://127.0.0.1:1", "http://[::1]:80"):
        assert (await post(suite, request("ping"), Origin=origin))[0] == 200
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1.evil.example"):
        assert (await post(suite, request("ping"), Origin=origin))[0] == 403
    rebound = {"Origin": "http://evil.example:8080", "Host": "evil.example:8080"}
    assert (await post(suite, request("ping"), **rebound))[0] == 403
    foreign = {"Origin": "http://localhost:6274", "Host": "alignx.example"}
    assert (await post(suite, request("ping"), **foreign))[0] == 403


async def test_metrics_name_the_route(suite: Suite) -> None:
    await post(suite, request("ping"))
    assert 'route="/mcp",status="200"' in await suite.metrics()
