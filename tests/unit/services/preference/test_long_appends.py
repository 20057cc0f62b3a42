"""Appends of many events: others are answered in between, and the events are stored as a whole or not at all."""

import asyncio

import pytest

from services import slices
from tests.unit.services.preference.served import EVENTS, Served, serving

pytestmark = pytest.mark.anyio
COUNT = 300


async def turns_during(served: Served, texts: list[str]) -> tuple[int, int]:
    """(the answer's status, turns that the loop had for others)."""
    call = asyncio.create_task(served.put(*texts))
    turns = 0
    while not call.done():
        turns += 1
        await asyncio.sleep(0)
    return call.result().status_code, turns


async def test_the_loop_has_a_turn_after_every_event(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    status, turns = await turns_during(served, [f"I like {number}" for number in range(COUNT)])
    assert status == 202
    assert turns > 2 * COUNT  # at the validation, and at the encoding


async def test_the_loop_has_a_turn_after_every_event_that_is_folded_anew(served: Served) -> None:
    assert (await served.put(*[f"I like {number}" for number in range(COUNT)])).status_code == 202
    folding = asyncio.create_task(served.bench.store.fold_history("acme", "ada"))
    turns = 0
    while not folding.done():
        turns += 1
        await asyncio.sleep(0)
    assert (await folding).events == COUNT
    assert turns > COUNT


async def test_an_event_that_is_too_large_stores_none(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    async with serving(redis_url, limits={"event_bytes": 1_000}) as served:
        texts = [f"I like {number}" for number in range(COUNT)]
        answer = await served.put(*texts[:200], "x" * 1_000, *texts[200:], "y" * 1_000)
        assert answer.status_code == 413
        assert answer.json()["errors"] == [{"field": "events.200", "message": "at most 1000 bytes"}]
        assert (await served.http.get(EVENTS)).status_code == 404


async def test_a_long_append_is_the_same_as_several_short_ones(served: Served) -> None:
    when = {"occurred_at": "2026-01-02T00:00:00Z"}
    events = [{"type": "statement", "text": f"I like blue {number}, not noise."} | when for number in range(COUNT)]
    for user, size in (("long", COUNT), ("short", 50)):
        for start in range(0, COUNT, size):
            body = {"events": events[start : start + size]}
            assert (await served.http.post(f"/v1/users/{user}/events", json=body)).status_code == 202
    long, short = [(await served.bench.store.profile("acme", user))[1] for user in ("long", "short")]
    assert long == short
