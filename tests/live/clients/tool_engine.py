"""The mock engine, which also talks: it calls the first tool it is offered, then tells what the tool said.

    python -m tests.live.clients.tool_engine PORT

What names no tool is answered with the last words of the user; whole, or streamed in pieces.
"""

import asyncio
import re
import sys
from typing import Any

import orjson
from aiohttp import web

from services.engine.capabilities import CANARY
from tests.chaos.mock_engine import USAGE, MockEngine, asks_letter, refused

MODEL = "mock"


class ToolEngine(MockEngine):
    async def on_chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        texts = [str(message.get("content")) for message in body["messages"]]
        if asks_letter(body) or CANARY in "".join(texts) or "<events>" in texts[-1]:
            return await super().on_chat(request)
        if body["model"] != MODEL:
            return refused("no such model", 404)
        message, finish = _reply(body)
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
            return web.json_response({"id": "chatcmpl-1", "model": MODEL, "choices": [choice], "usage": USAGE})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for delta in (*_pieces(message), {}):
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else finish}
            await response.write(b"data: " + orjson.dumps({"model": MODEL, "choices": [choice]}) + b"\n\n")
        await response.write(b"data: " + orjson.dumps({"model": MODEL, "choices": [], "usage": USAGE}) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def _reply(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return {"content": f"The tool says: {last['content']}"}, "stop"
    if tools := body.get("tools"):
        name = tools[0]["function"]["name"]
        names = tools[0]["function"]["parameters"].get("properties", {})
        arguments = orjson.dumps(dict.fromkeys(names, "Solaris")).decode()
        function = {"name": name, "arguments": arguments}
        return {
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }, "tool_calls"
    content = last["content"]
    text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    return {"content": f"You said: {text.splitlines()[-1]}"}, "stop"


def _pieces(message: dict[str, Any]) -> list[dict[str, Any]]:
    if calls := message.get("tool_calls"):
        first = {**calls[0], "index": 0, "function": {"name": calls[0]["function"]["name"], "arguments": ""}}
        arguments = re.findall(r".{1,6}", calls[0]["function"]["arguments"])
        rest = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in arguments]
        return [{"role": "assistant", "content": None, "tool_calls": [first]}, *rest]
    return [
        {"role": "assistant", "content": ""},
        *({"content": piece} for piece in re.findall(r".{1,5}", message["content"])),
    ]


async def main(port: int) -> None:
    async with ToolEngine().serving(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
