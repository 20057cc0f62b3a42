"""An engine that accepts requests and never answers: the profile selects, and a streamed chat keeps its connection.

pytest tests/live/test_hung_engine.py -s        # prints how long callers waited
"""

import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from services.storage.key_names import weights_key
from tests.live.suite import Suite
from tests.unit.services.engine.fake_engine import FakeEngine, silent
from tests.unit.services.response.conftest import EARNED

pytestmark = [pytest.mark.live, pytest.mark.anyio]

SELECTIONS, APART_S = 100, 0.25
LIMIT_S = 10.0
"""Far above what is printed: a busy machine fails no test."""
EVENT = {"type": "comparison", "query": "q", "chosen": "Yes.", "rejected": "Great question! Let us dive deep."}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "user": "ada", "stream": True}


async def select(client: httpx.AsyncClient, after_s: float) -> tuple[float, str, str]:
    await asyncio.sleep(after_s)
    started = time.monotonic()
    answer = await client.post("/v1/users/ada/select", json={"query": "q", "items": ["Yes.", "Well, it depends."]})
    body = answer.raise_for_status().json()
    return time.monotonic() - started, body["method"], body["fallback"]


async def chat(client: httpx.AsyncClient) -> tuple[float, bytes, bytes]:
    """Seconds to the first bytes, these bytes, and all that follows."""
    started = time.monotonic()
    async with client.stream("POST", "/v1/chat/completions", json=CHAT) as answer:
        pieces = answer.aiter_raw()
        first = await anext(pieces)
        return time.monotonic() - started, first, b"".join([piece async for piece in pieces])


async def test_callers_do_not_wait_for_a_hung_engine(tmp_path: Path) -> None:
    fake = FakeEngine()
    fake.chat = silent
    async with fake.serving() as url:
        suite = Suite(tmp_path, {"ALIGNX_ENGINE__URL": url, "ALIGNX_ENGINE__FIRST_TOKEN_TIMEOUT_S": "4"})
        try:
            await asyncio.to_thread(suite.up)
            async with Redis.from_url(suite.redis_url) as redis:  # else a selection does without the engine
                await redis.hset(weights_key("acme"), mapping=dict(EARNED))
            headers = {"Authorization": f"Bearer {await asyncio.to_thread(suite.new_key, 'acme')}"}
            async with httpx.AsyncClient(base_url=suite.url, headers=headers, timeout=60) as client:
                (await client.post("/v1/users/ada/events", json={"events": [EVENT]})).raise_for_status()
                selections = [select(client, number * APART_S) for number in range(SELECTIONS)]
                (first_s, first, rest), *answers = await asyncio.gather(chat(client), *selections)
        finally:
            await asyncio.to_thread(suite.down)
    seconds = sorted(answer[0] for answer in answers)
    counts = Counter(answer[1:] for answer in answers)
    print(f"\nselect: p50 {seconds[50]:.3f} s, p99 {seconds[98]:.2f} s, longest {seconds[-1]:.2f} s, {dict(counts)}")  # noqa: T201
    print(f"chat: first bytes after {first_s:.2f} s")  # noqa: T201
    assert {method for method, _ in counts} == {"profile"}
    assert {reason for _, reason in counts} == {"engine_timeout", "engine_unavailable"}
    assert seconds[98] < LIMIT_S
    assert first == b": keep-alive\n\n"
    assert b'"engine_unavailable"' in rest
    assert b"[DONE]" not in rest
