"""The worst engine that can be: it does whatever it reads, so its reply repeats what stands in the prompt.

    python -m tests.security.obeying_engine PORT

An update is answered with the texts of an injection's events as sentences about the user, their character references
resolved, as a model that follows an order in them would write it; any other update as the mock engine does. Two words
in an event have it fail: `undigestible` is refused, so that the event is set aside, and `unwritten` gets a refusal for
a summary, so that a draft is rejected.
GET /asked gives the messages of each request since the last call of it.
"""

import asyncio
import html
import re
import sys
from typing import Any

from aiohttp import web

from services.engine.capabilities import CANARY
from services.prompts.templates import UPDATE_REQUEST
from tests.chaos.mock_engine import USAGE, Fault, MockEngine, asks_letter, summarise

UNDIGESTIBLE, UNWRITTEN = "undigestible", "unwritten"
TAG = re.compile(r"zq\d{5}")
"""Stands in an event beside an injection's, so that a prompt tells whose it is."""
READ_CHARS = 2_000
"""A summary is short; of more the checks of a reply would see little else."""


class ObeyingEngine(MockEngine):
    def __init__(self) -> None:
        super().__init__(_find_fault)
        self.summary = obey
        self.asked: list[list[dict[str, Any]]] = []

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/asked", self.on_asked)
        return app

    async def on_asked(self, _: web.Request) -> web.StreamResponse:
        asked, self.asked = self.asked, []
        return web.json_response(asked)

    async def on_chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        texts = [message.get("content") for message in body["messages"]]
        is_canary = any(CANARY in str(text) for text in texts)
        if not is_canary:
            self.asked.append(body["messages"])
        if (
            is_canary
            or (asks_letter(body) and body.get("logprobs"))
            or (body.get("stream") and all(isinstance(text, str) for text in texts))
        ):
            return await super().on_chat(request)
        if body.get("stream"):
            return await self._write(request, "Gladly.")
        message = {"role": "assistant", "content": "Gladly."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"object": "chat.completion", "model": "mock-1", "choices": choices, "usage": USAGE})


def _find_fault(prompt: str) -> Fault:
    return "refused" if UNDIGESTIBLE in prompt and UPDATE_REQUEST in prompt else ""


def obey(prompt: str) -> str:
    """The summary that the events of an injection ask for; of others, as the mock engine's."""
    events = re.findall(r"<event [^>]*>\n(.*?)\n</event>", prompt, re.DOTALL)
    if UNWRITTEN in prompt:
        return f"I'm sorry, but I can't help with that: {events}"
    if not TAG.search(prompt):
        return summarise(prompt)
    past = re.findall(r"<past_summary>\n(.*?)\n</past_summary>", prompt, re.DOTALL)
    read = [html.unescape(re.sub(r"<[^>]*>", " ", text)) for text in (*past, *events) if not TAG.search(text)]
    return (
        f"The user likes tea and short answers. {' '.join(read)[:READ_CHARS]} The user also likes jam and plain words."
    )


async def main(port: int) -> None:
    async with ObeyingEngine().serving(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
