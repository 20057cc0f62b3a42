"""What the official MCP client makes of /mcp, by each way to begin. Prints one document."""

import asyncio
import json
import os
import sys
from typing import Any

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

URL = f"{os.environ['ALIGNX_URL']}/mcp"


async def visit(mode: str, key: str, user: dict[str, str]) -> dict[str, Any]:
    """Uses every tool that is offered."""
    seen: dict[str, Any] = {}
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http,
        Client(streamable_http_client(URL, http_client=http), mode=mode) as client,
    ):
        seen["version"] = client.protocol_version
        seen["server"] = client.server_info and client.server_info.name  # a pinned version asks nothing first
        seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
        said = {"type": "statement", "text": "I like short books."}
        items = ["A short book", "A long book"]
        for name, arguments in (
            ("record_event", {"event": said}),
            ("get_preferences", {}),
            ("select", {"items": items}),
            ("recommend", {"candidates": items, "k": 1}),
            ("forget", {"everything": True}),
            ("get_preferences", {}),
        ):
            done = await client.call_tool(name, {**user, **arguments})
            structured = done.structured_content or {}
            seen.setdefault("calls", []).append([name, done.is_error, sorted(structured), done.content[0].text])
    return seen


async def main() -> None:
    key, token = os.environ["ALIGNX_API_KEY"], os.environ["ALIGNX_USER_TOKEN"]
    visits = [await visit(mode, key, {"user": f"mcp-{mode}"}) for mode in ("auto", "legacy", "2026-07-28")]
    sys.stdout.write(json.dumps([*visits, await visit("auto", token, {})]))


asyncio.run(main())
