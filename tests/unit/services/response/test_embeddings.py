"""Vectors in memory: how long, and how many."""

import asyncio

from services.response.embeddings import Kept


async def emptied(kept: Kept) -> None:
    for _ in range(500):
        if not kept.bytes:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("vectors are held past their time")


def test_a_vector_is_gone_when_its_time_is_over_though_nobody_asks() -> None:
    async def test() -> None:
        kept = Kept(0.01)
        kept.put("a", [1.0, 2.0])
        assert kept.bytes > 0
        kept.put("b", [1.0, 2.0])
        await emptied(kept)
        kept.put("c", [1.0])  # the timer starts again
        await emptied(kept)

    asyncio.run(test())


def test_the_oldest_make_room() -> None:
    async def test() -> None:
        kept = Kept(60, most=10_000)
        for number in range(20):
            kept.put(str(number), [0.5] * 500)
            assert kept.bytes <= 10_000
        assert [text for text in map(str, range(20)) if kept.get(text)] == ["16", "17", "18", "19"]
        kept.put("16", [0.25] * 500)  # the newest again
        kept.put("20", [0.5] * 500)
        assert [text for text in map(str, range(21)) if kept.get(text)] == ["16", "18", "19", "20"]
        kept.clear()
        assert (kept.bytes, kept.get("20")) == (0, None)

    asyncio.run(test())


def test_a_vector_too_large_is_not_kept() -> None:
    async def test() -> None:
        kept = Kept(60, most=1_000)
        assert list(kept.put("a", [0.5] * 500)) == [0.5] * 500
        assert kept.bytes == 0

    asyncio.run(test())
