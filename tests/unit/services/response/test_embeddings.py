"""Vectors in memory: how long, and how many."""

import asyncio

import pytest

from services.response.embeddings import VectorCache

pytestmark = pytest.mark.anyio


async def wait_until_empty(cache: VectorCache) -> None:
    for _ in range(500):
        if not cache.bytes:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("vectors are held past their time")


async def test_a_vector_is_gone_when_its_time_is_over_though_nobody_asks() -> None:
    cache = VectorCache(0.01)
    cache.put("a", [1.0, 2.0])
    assert cache.bytes > 0
    cache.put("b", [1.0, 2.0])
    await wait_until_empty(cache)
    cache.put("c", [1.0])  # the timer starts again
    await wait_until_empty(cache)


async def test_the_oldest_make_room() -> None:
    cache = VectorCache(60, max_bytes=10_000)
    for number in range(20):
        cache.put(str(number), [0.5] * 500)
        assert cache.bytes <= 10_000
    assert [text for text in map(str, range(20)) if cache.get(text)] == ["16", "17", "18", "19"]
    cache.put("16", [0.25] * 500)  # the newest again
    cache.put("20", [0.5] * 500)
    assert [text for text in map(str, range(21)) if cache.get(text)] == ["16", "18", "19", "20"]
    cache.clear()
    assert (cache.bytes, cache.get("20")) == (0, None)


async def test_a_vector_too_large_is_not_kept() -> None:
    cache = VectorCache(60, max_bytes=1_000)
    assert list(cache.put("a", [0.5] * 500)) == [0.5] * 500
    assert cache.bytes == 0
