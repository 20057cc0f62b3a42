"""The mock engine, which also talks: it calls the first tool it is offered, then tells what the tool said.

    python -m tests.live.clients.tool_engine PORT

Arguments are made of the tool's schema, and so is what `response_format` asks for. Other chats are answered with the
last words of the user; whole, or streamed in pieces.
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
_ANSWER = {"id": "chatcmpl-1", "created": 1_790_000_000, "model": MODEL}
_CHUNK = _ANSWER | {"object": "chat.completion.chunk"}


class ToolEngine(MockEngine):
    async def on_chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        texts = [str(message.get("content")) for message in body["messages"]]
        if (asks_letter(body) and body.get("logprobs")) or CANARY in "".join(texts) or "<events>" in texts[-1]:
            return await super().on_chat(request)
        if body["model"] != MODEL:
            return refused("no such model", 404)
        try:
            message, finish = _reply(body)
        except (AttributeError, KeyError, TypeError):
            return refused("a tool or schema that cannot be read")
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
            return web.json_response(_ANSWER | {"object": "chat.completion", "choices": [choice], "usage": USAGE})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for delta in (*_pieces(message), {}):
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else finish}
            await response.write(b"data: " + orjson.dumps(_CHUNK | {"choices": [choice]}) + b"\n\n")
        await response.write(b"data: " + orjson.dumps(_CHUNK | {"choices": [], "usage": USAGE}) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def _reply(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return {"content": f"The tool says: {last['content']}"}, "stop"
    if tools := body.get("tools"):
        function = tools[0]["function"]
        arguments = orjson.dumps(_fill(function.get("parameters", {}), last["content"])).decode()
        function = {"name": function["name"], "arguments": arguments}
        return {
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }, "tool_calls"
    content, shape = last["content"], body.get("response_format", {})
    if shape.get("type") == "json_object":
        return {"content": orjson.dumps(dict.fromkeys(re.findall(r"'(\w+)'", content), "Solaris")).decode()}, "stop"
    if shape.get("type") == "json_schema":
        return {"content": orjson.dumps(_fill(shape["json_schema"]["schema"], content)).decode()}, "stop"
    text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    *_, last_line = text.split("\n")
    return {"content": f"You said: {last_line}"}, "stop"


def _fill(schema: dict[str, Any], text: Any) -> Any:
    """A value of a JSON schema; numbers and strings are the first that the text names or quotes."""
    match (schema.get("anyOf") or [schema])[0].get("type", "object"):
        case "object":
            return {name: _fill(inner, text) for name, inner in schema.get("properties", {}).items()}
        case "integer" | "number":
            return int((re.findall(r"\d+", str(text)) or ["3"])[0])
        case "array":
            return [_fill(schema.get("items", {}), text)]
        case "boolean":
            return True
    return (re.findall(r"'([^']+)'", str(text)) or ["Solaris"])[0]


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
