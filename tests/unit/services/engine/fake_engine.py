"""A hand-written engine on loopback, and what it answers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from alignx.schemas.summaries import TokenCounts
from services.engine.capabilities import CANARY
from services.engine.conventions.sessions import HEADER
from services.engine.guard import EngineCall
from services.engine.limits import Engine
from services.errors import AlignXError

MESSAGES = [{"role": "user", "content": "a canary"}]
SAMPLING: dict[str, Any] = {"tenant": "acme", "max_tokens": 8, "temperature": 0.5, "top_p": 0.9, "top_k": 20}
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
TOKENS = TokenCounts(prompt=9, completion=3, cached=4)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Calls = list[EngineCall]


class FakeEngine:
    """Keeps the chat bodies it got, and answers with `chat`."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.sessions: list[str | None] = []
        """`X-Session-ID` of each chat."""
        self.tokenized: list[str] = []
        self.url = ""
        self.chat: Answer = reply("hello")
        self.completions: list[dict[str, Any]] = []
        """Bodies of raw completions."""
        self.completion: Answer = fails(404)
        self.canaries: list[dict[str, Any]] = []
        self.canary: Answer = answer_canary
        self.models: Any = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        self.health = 200
        self.tokenizer_status = 404
        self.ids: dict[str, list[int]] | None = {" A": [7], " B": [8], " C": [9]}

    async def on_post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if is_canary(body):
            self.canaries.append(body)
            return await self.canary(request)
        self.bodies.append(body)
        self.sessions.append(request.headers.get(HEADER))
        return await self.chat(request)

    async def on_completion(self, request: web.Request) -> web.StreamResponse:
        self.completions.append(await request.json())
        return await self.completion(request)

    async def on_models(self, _: web.Request) -> web.StreamResponse:
        return self.models if isinstance(self.models, web.StreamResponse) else web.json_response(self.models)

    async def on_health(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=self.health)

    async def on_tokenize(self, request: web.Request) -> web.StreamResponse:
        text = (await request.json()).get("prompt")
        if text not in (" A", " B", " C"):  # it tells no likelihoods
            return web.Response(status=404)
        self.tokenized.append(text)
        if self.ids is None:
            return web.Response(status=self.tokenizer_status)
        return web.json_response({"tokens": self.ids[self.tokenized[-1]]})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/chat/completions", self.on_post)
        app.router.add_post("/v1/completions", self.on_completion)
        app.router.add_post("/tokenize", self.on_tokenize)
        app.router.add_get("/v1/models", self.on_models)
        app.router.add_get("/health", self.on_health)
        async with running_app(app) as self.url:
            yield self.url


@asynccontextmanager
async def running_app(app: web.Application) -> AsyncIterator[str]:
    """The base URL, /v1 included. A handler whose client has gone is cancelled, as an engine does."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def sends(*pieces: bytes, cut: bool = False, pause_s: float = 0.0) -> Answer:
    """A stream of events, one packet a piece; `cut` breaks the connection behind the last."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(pause_s)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


def sse(*events: Any, done: bool = True, cut: bool = False) -> Answer:
    """Events as an OpenAI stream."""
    data = [event if isinstance(event, bytes) else orjson.dumps(event) for event in events] + [b"[DONE]"] * done
    return sends(*(b"data: " + event + b"\n\n" for event in data), cut=cut)


def endless(piece: bytes, left: asyncio.Event | threading.Event | None = None) -> Answer:
    """The same piece again and again; `left` is set when the caller has gone."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(piece)
                await asyncio.sleep(0.01)
        finally:
            if left:
                left.set()

    return answer


def late(seconds: float, then: Answer) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(request)

    return answer


def delta(finish: str | None = None, **fields: str) -> dict[str, Any]:
    return {"model": "tiny-1", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def reply(*texts: str) -> Answer:
    return sse(*(delta(content=text) for text in texts), delta("stop"), {"choices": [], "usage": USAGE})


def is_canary(body: Any) -> bool:
    return any(CANARY in str(message.get("content")) for message in body.get("messages", ()))


async def answer_canary(request: web.Request) -> web.StreamResponse:
    """As vLLM does: text, or the odds of the letters asked for."""
    body = await request.json()
    if not body.get("logprobs"):
        return await reply("A")(request)
    ids = body.get("logprob_token_ids")
    tokens = [f"token_id:{token}" for token in ids] if ids else [" A", " B"]
    listed = [{"token": token, "logprob": -1.0 - place} for place, token in enumerate(tokens)]
    return await answers({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})(request)


def fails(status: int, message: str = "boom: a canary", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)

    return answer


def answers(body: Any, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(body=data, status=status, content_type="application/json")

    return answer


def first_token(**logprobs: float) -> dict[str, Any]:
    listed = [{"token": token.replace("id_", "id:"), "logprob": value} for token, value in logprobs.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}], "usage": USAGE}


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    raise AssertionError("unreachable")


async def refused(call: Awaitable[Any], kind: type[AlignXError]) -> AlignXError:
    with pytest.raises(AlignXError) as caught:
        await call
    assert type(caught.value) is kind
    assert "canary" not in caught.value.detail
    return caught.value


async def chat_bytes(engine: Engine, body: dict[str, Any]) -> bytes:
    async with engine.chat(body, tenant="acme") as answer:
        return b"".join([chunk async for chunk in answer.chunks])
