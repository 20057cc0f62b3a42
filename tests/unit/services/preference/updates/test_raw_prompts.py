"""An update with AlignXplore's prompts: the worker asks for a raw completion and keeps its answer."""

import re

import orjson
import pytest
from aiohttp import web

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.profiles import load_profile
from services.storage.users import encode_interaction
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.rig import TENANT, USER
from tests.unit.services.preference.working import benched

pytestmark = pytest.mark.anyio
GOOD = "The user likes short answers. The user tends to choose sport over culture."
THOUGHT = "Both chosen items are short."


class RawEngine(MockEngine):
    """Completes prompts as AlignXplore's checkpoints do, and ends before the stop."""

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1/completions", self.on_completion)
        return app

    async def on_completion(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in re.findall(r"\s*\S{1,8}", f" {THOUGHT}\n</think> <answer>{GOOD}"):
            await response.write(event(piece, None))
        await response.write(event("", "stop") + b"data: [DONE]\n\n")
        return response


def event(text: str, finish: str | None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + orjson.dumps({"model": "raw-1", "choices": [choice]}) + b"\n\n"


async def test_the_answer_of_a_raw_completion_becomes_the_summary(redis_url: str) -> None:
    profile, window = load_profile("alignxplore"), {"context_tokens": 16_384}
    async with benched(redis_url, RawEngine(), summary={"prompts": "alignxplore"}, engine=window) as bench:
        events = [
            ComparisonInteraction(query="which?", chosen=f"good u1n{number}", rejected="bad") for number in (1, 2)
        ]
        for interaction in events:
            await bench.add(encode_interaction(interaction))
            assert await bench.update() == "committed"
        second = await bench.store.version(TENANT, USER, 2)
        assert (second.text, second.reasoning, second.source) == (GOOD, THOUGHT, "llm:raw-1")
        prompts = (
            profile.update_prompt(None, events[:1], past_tokens=1_024),
            profile.update_prompt(GOOD, events[1:], past_tokens=1_024),
        )
        assert second.template == prompts[1].template
        assert [body["prompt"] for body in bench.mock.bodies] == [prompt.messages[0]["content"] for prompt in prompts]
        shown = [orjson.loads(fields["d"]) for _, fields in await bench.redis.xrange(bench.keys().live, "-", "+")]
        assert not any(THOUGHT in str(told) for told in shown), "no reader sees the thought"
