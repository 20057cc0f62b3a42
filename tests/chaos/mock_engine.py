"""An engine that keeps count: OpenAI's streaming API without a language model.

    python -m tests.chaos.mock_engine PORT SEED        # "steady" for a seed: no faults

Markers such as `u17n3` stand for events. The summary it writes lists the markers of the past summary
and then those of the new events, so a summary shows whether an event was lost, doubled or moved. It
chooses the item that says "good". As its own process it fails at random, by the seed: 503, a stream
that breaks off, a slow answer. GET /seen tells what it was asked, with ?prompts in full.
"""

import asyncio
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import orjson
from aiohttp import web

from services.engine.capabilities import CANARY

MARKER = re.compile(r"\bu\d+n\d+\b")
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
SHARES: dict["Fault", float] = {"overloaded": 0.08, "cut": 0.05, "slow": 0.05}
SLOW_S = 0.5

Fault = Literal["", "overloaded", "cut", "slow", "refused", "too long", "mute", "silent"]
Outage = Literal["cut", "silent"] | tuple[int, str] | tuple[str, str]
"""A fault, a status with its message, or a reply with its finish reason."""


class MockEngine:
    """`faults(prompt)` names what goes wrong with a request, "" for nothing."""

    def __init__(self, faults: Callable[[str], Fault] = lambda _: "") -> None:
        self.faults = faults
        self.prompts: list[str] = []
        """All messages of each generation, joined."""
        self.choices: list[str] = []
        """The same of each choice between letters."""
        self.met: Counter[str] = Counter()
        self.foreign = 0
        """Prompts that held markers of more than one user."""
        self.bodies: list[dict[str, Any]] = []
        """The same requests whole."""
        self.sessions: set[str | None] = set()
        """`X-Session-ID` of generations and choices."""
        self.scripted: list[tuple[str, str]] = []
        """Replies with their finish reasons, given first to last before any of its own."""
        self.gate = asyncio.Event()
        """A silent answer waits for it."""
        self.choosing_s = 0.0
        """How long a choice takes."""
        self.choosing_status = 200
        self.canaries = 0
        self.canary_status = 200
        self.calls_at: list[float] = []
        """When each request came, canaries among them."""
        self.outage: Sequence[Outage] = ()
        """What requests meet in turn, whatever they ask and canaries among them; empty for nothing. Choices between
        letters are spared bad replies."""
        self.strict: Callable[[dict[str, Any]], str] = lambda _: ""
        """Why a body is refused, whatever it asks; empty for not at all (strict_engine.py)."""
        self.summary: Callable[[str], str] = summarise
        """What it writes after its reasoning."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.on_chat)
        app.router.add_get("/v1/models", self.on_models)
        app.router.add_get("/health", self.on_health)
        app.router.add_get("/seen", self.on_seen)
        return app

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """The base URL, /v1 included."""
        runner = web.AppRunner(self.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def on_models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})

    async def on_health(self, _: web.Request) -> web.StreamResponse:
        return web.Response()

    async def on_seen(self, request: web.Request) -> web.StreamResponse:
        events = sum(len(MARKER.findall(_block(prompt, "events"))) for prompt in self.prompts)
        seen = {"calls": len(self.prompts), "events": events, "faults": dict(self.met), "foreign": self.foreign}
        whole = {"prompts": self.prompts + self.choices} if "prompts" in request.query else {}
        return web.json_response(seen | whole)

    async def on_chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = "\n".join(message["content"] for message in body["messages"])
        self.calls_at.append(time.monotonic())
        if outage := self._outage_of(body):
            return await self._fail(request, outage)
        if CANARY in prompt:
            return await self._answer_canary(request, body)
        self.sessions.add(request.headers.get("X-Session-ID"))
        if asks_letter(body):
            self.choices.append(prompt)
            await asyncio.sleep(self.choosing_s)
            return web.json_response(_letters(prompt), status=self.choosing_status)
        fault = self.faults(prompt)
        self.met[fault or "none"] += 1
        match fault:
            case "overloaded":
                return web.json_response({"error": {"message": "full", "code": 503}}, status=503)
            case "refused":
                return refused("bad input")
            case "too long":
                return refused("This model's maximum context length is 8 tokens")
            case "slow":
                await asyncio.sleep(SLOW_S)
            case "silent":
                await self.gate.wait()
        self.prompts.append(prompt)
        self.bodies.append(body)
        self.foreign += len({marker.split("n")[0] for marker in MARKER.findall(prompt)}) > 1
        if self.scripted:
            return await self._write(request, *self.scripted.pop(0))
        text = "" if fault == "mute" else self.summary(prompt)
        return await self._write(request, f"<think>They say a lot.</think>{text}", cut=fault == "cut")

    def _outage_of(self, body: dict[str, Any]) -> Outage | None:
        """What the request meets, whatever it is about."""
        if refusal := self.strict(body):
            return 400, refusal
        outage = self.outage[len(self.calls_at) % len(self.outage)] if self.outage else None
        is_reply = isinstance(outage, tuple) and isinstance(outage[0], str)
        return None if is_reply and asks_letter(body) else outage

    async def _fail(self, request: web.Request, outage: Outage) -> web.StreamResponse:
        match outage:
            case "silent":
                await self.gate.wait()
                return refused("late", 503)
            case "cut":
                return await MockEngine._write(self, request, "The user has shown a liking for", cut=True)
            case (status_or_text, more):
                if isinstance(status_or_text, int):
                    return refused(more, status_or_text)
                return await MockEngine._write(self, request, status_or_text, more)

    async def _answer_canary(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.canaries += 1
        if self.canary_status != 200:
            return refused("bad input", self.canary_status)
        if asks_letter(body):
            return web.json_response(_listed({"A": -0.1, "B": -2.4}))
        return await MockEngine._write(self, request, "A")  # also where a test writes otherwise

    async def _write(
        self, request: web.Request, text: str, finish: str = "stop", *, cut: bool = False
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        pieces = re.findall(r"\S{1,8}\s*", text)
        for piece in pieces[: len(pieces) // 2] if cut else pieces:
            await response.write(_event({"delta": {"content": piece}, "finish_reason": None}))
        if cut:
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(_event({"delta": {}, "finish_reason": finish}))
        await response.write(b"data: " + orjson.dumps({"choices": [], "usage": USAGE}) + b"\n\ndata: [DONE]\n\n")
        return response


def _event(choice: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps({"model": "mock-1", "choices": [{"index": 0, **choice}]}) + b"\n\n"


def _block(prompt: str, tag: str) -> str:
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", prompt, re.DOTALL)
    return found[1] if found else ""


def summarise(prompt: str) -> str:
    markers = MARKER.findall(_block(prompt, "past_summary")) + MARKER.findall(_block(prompt, "events"))
    return f"The user has shown {' '.join(markers) or 'a liking for short answers'}."


def _letters(prompt: str) -> dict[str, Any]:
    items = re.findall(r'<item letter="(\w)">\n(.*?)\n</item>', prompt, re.DOTALL)
    return _listed({letter: -0.1 if "good" in text else -2.4 for letter, text in items})


def _listed(odds: dict[str, float]) -> dict[str, Any]:
    listed = [{"token": f" {letter}", "logprob": logprob} for letter, logprob in odds.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}], "usage": USAGE}


def asks_letter(body: dict[str, Any]) -> bool:
    return 1 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def refused(message: str, status: int = 400) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


def seeded(seed: int) -> Callable[[str], Fault]:
    """Faults at random, each with its share of all requests."""
    dice = random.Random(seed)
    return lambda _: dice.choices(["", *SHARES], [1 - sum(SHARES.values()), *SHARES.values()])[0]


async def main(port: int, seed: str) -> None:
    mock = MockEngine() if seed == "steady" else MockEngine(seeded(int(seed)))
    async with mock.serving(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
