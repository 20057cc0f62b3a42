"""What Anthropic's SDK makes of the Messages API: answers, streams, calls of tools, errors. Prints one document."""

import json
import os
import sys
from typing import Any

import anthropic

MODEL = os.environ["ALIGNX_MODEL"]
TOOL: Any = {
    "name": "stock",
    "description": "How many copies are there?",
    "input_schema": {"type": "object", "properties": {"title": {"type": "string"}}},
}
seen: dict[str, Any] = {}
key = os.environ["ALIGNX_API_KEY"]
with anthropic.Anthropic(base_url=os.environ["ALIGNX_URL"], api_key=key, max_retries=0) as client:

    def create(**fields: Any) -> Any:
        body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hello."}], **fields}
        return client.messages.create(**body)

    answer = create(system="Be brief.", metadata={"user_id": "ann"})
    seen["text"], seen["reason"] = answer.content[0].text, answer.stop_reason
    seen["usage"] = [answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens]
    seen["user"], seen["has_request_id"] = answer.personalization["user"], bool(answer._request_id)

    turns: list[Any] = [{"role": "user", "content": "Have you got Solaris?"}]
    with client.messages.stream(model=MODEL, max_tokens=64, messages=turns, tools=[TOOL]) as stream:
        seen["events"] = [event.type for event in stream]
        called = stream.get_final_message()
    (call,) = called.content
    seen["call"] = [called.stop_reason, call.name, call.input]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "3 copies"}
    turns += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    with client.messages.stream(model=MODEL, max_tokens=64, messages=turns, tools=[TOOL]) as stream:
        seen["after"] = "".join(stream.text_stream)
        seen["streamed_tokens"] = stream.get_final_message().usage.output_tokens

    seen["errors"] = []
    for fields in ({"model": "other"}, {"max_tokens": 0}, {"service_tier": "priority"}):
        try:
            create(**fields)
        except anthropic.APIStatusError as error:
            seen["errors"].append([type(error).__name__, error.body["error"]["type"], bool(error.request_id)])
with anthropic.Anthropic(base_url=os.environ["ALIGNX_URL"], api_key="sk-nobody", max_retries=0) as stranger:
    try:
        stranger.messages.create(model=MODEL, max_tokens=1, messages=[{"role": "user", "content": "Hello."}])
    except anthropic.AuthenticationError as error:
        seen["errors"].append([type(error).__name__, error.body["error"]["type"], bool(error.request_id)])
sys.stdout.write(json.dumps(seen))
