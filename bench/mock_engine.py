"""An engine of known speed: it answers any prompt with the same short summary after LATENCY seconds.

    python -m bench.mock_engine PORT LATENCY

Speaks the part of OpenAI's API that the suite uses: /health, /v1/models, streamed chat completions,
and single letters with their log-probabilities, which come at once and are equally likely.
Prompt tokens are counted as characters / 4, so that the cost of a prompt can be compared.
GET /calls gives the number of summaries and of letters, their prompt tokens, and those of the last summary.
"""

import asyncio
import sys

import orjson
from aiohttp import web

REPLY = "<think>The choices agree.</think>The user prefers short and direct answers with plain words."


class MockEngine:
    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.calls = 0
        self.prompt_tokens = 0
        self.all_tokens = 0
        self.letters = 0
        self.letter_tokens = 0

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        tokens = sum(len(message["content"]) for message in body["messages"]) // 4
        if body.get("logprobs"):
            self.letters += 1
            self.letter_tokens += tokens
            even = [{"token": letter, "logprob": -0.7} for letter in (" A", " B")]
            choice = {"logprobs": {"content": [even[0] | {"top_logprobs": even}]}, "message": {"content": " A"}}
            return web.json_response({"model": "mock", "choices": [choice], "usage": {"prompt_tokens": tokens}})
        self.calls += 1
        self.prompt_tokens = tokens
        self.all_tokens += tokens
        await asyncio.sleep(self.latency_s)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": len(REPLY) // 4}
        for event in (
            {"model": "mock", "choices": [{"index": 0, "delta": {"content": REPLY}}]},
            {"model": "mock", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"model": "mock", "choices": [], "usage": usage},
        ):
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def counters(self, _request: web.Request) -> web.Response:
        return web.json_response(vars(self))


def main() -> None:
    engine = MockEngine(float(sys.argv[2]))
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", engine.completions)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_get("/health", engine.health)
    app.router.add_get("/calls", engine.counters)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
