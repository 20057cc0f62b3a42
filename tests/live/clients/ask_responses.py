"""What OpenAI's SDK makes of the Responses API: answers, streams, calls of functions, errors. Prints one document."""

import json
import os
import sys
from typing import Any

import openai

MODEL = os.environ["ALIGNX_MODEL"]
TOOL: Any = {
    "type": "function",
    "name": "stock",
    "description": "How many copies are there?",
    "parameters": {"type": "object", "properties": {"title": {"type": "string"}}},
    "strict": False,
}
seen: dict[str, Any] = {}
url = f"{os.environ['ALIGNX_URL']}/v1"
with openai.OpenAI(base_url=url, api_key=os.environ["ALIGNX_API_KEY"], max_retries=0) as client:
    answer = client.responses.create(model=MODEL, instructions="Be brief.", input="Hello.", user="ann")
    seen["text"], seen["status"], seen["tokens"] = answer.output_text, answer.status, answer.usage.total_tokens
    seen["user"] = answer.personalization["user"]

    items: list[Any] = [{"role": "user", "content": "Have you got Solaris?"}]
    with client.responses.stream(model=MODEL, input=items, tools=[TOOL]) as stream:
        seen["events"] = [event.type for event in stream]
        called = stream.get_final_response()
    (call,) = called.output
    seen["call"] = [call.name, json.loads(call.arguments)]
    items += [call.to_dict(), {"type": "function_call_output", "call_id": call.call_id, "output": "3 copies"}]
    seen["after"] = client.responses.create(model=MODEL, input=items, tools=[TOOL]).output_text

    seen["model"] = client.models.retrieve(MODEL).id
    seen["errors"] = []
    for fields in ({"model": "other"}, {"previous_response_id": "resp_1"}, {"store": True}):
        try:
            client.responses.create(**{"model": MODEL, "input": "Hello.", **fields})
        except openai.APIStatusError as error:
            seen["errors"].append([type(error).__name__, error.code, error.param])
    for ask in (lambda: client.models.retrieve("other"), lambda: client.embeddings.create(model=MODEL, input="a")):
        try:
            ask()
        except openai.APIStatusError as error:
            seen["errors"].append([type(error).__name__, error.code, error.param])
sys.stdout.write(json.dumps(seen))
