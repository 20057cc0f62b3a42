"""Judging with an engine made by hand: places never decide, whatever the engine prefers."""

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.judge import Judgement, judge
from services.prompts.build import LETTERS, ChatMessage

Prefer = Callable[[Sequence[str]], Sequence[float]]
"""Items in the order shown -> log-probability of each place's letter."""


class LetterFake:
    """Knows the items it is shown, and keeps the orders in which it saw them."""

    def __init__(self, prefer: Prefer) -> None:
        self.prefer = prefer
        self.orders: list[list[str]] = []
        self.calls: list[tuple[Sequence[str], str, int]] = []

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        shown = re.findall(r'<item letter="[A-Z]">\n(.*?)\n</item>', messages[1]["content"])
        assert len(shown) == len(letters)
        self.orders.append(shown)
        self.calls.append((letters, tenant, priority))
        return list(self.prefer(shown))


def always_first(shown: Sequence[str]) -> list[float]:
    return [0.0] + [-3.0] * (len(shown) - 1)


def names(count: int) -> list[str]:
    return [f"item {place}" for place in range(count)]


def judged(engine: LetterFake, items: Sequence[str], orders: int = 2) -> Judgement:
    return asyncio.run(judge(engine, "q", items, "s", tenant="acme", orders=orders))


@settings(deadline=None)
@given(st.integers(2, 26))
def test_a_pure_position_bias_cancels_and_is_reported(count: int) -> None:
    judgement = judged(LetterFake(always_first), names(count), orders=26)
    assert judgement.probabilities == pytest.approx([1 / count] * count)
    assert judgement.position_bias > 0


def test_two_items_are_shown_in_both_orders_even_if_one_is_asked_for() -> None:
    engine = LetterFake(lambda _: [math.log(0.9), math.log(0.1)])
    judgement = judged(engine, ["a", "b"], orders=1)
    assert engine.orders == [["a", "b"], ["b", "a"]]
    assert judgement.probabilities == pytest.approx([0.5, 0.5])
    assert judgement.position_bias == pytest.approx(0.4)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_what_is_preferred_wins_wherever_it_stands(place: int) -> None:
    items = names(4)
    engine = LetterFake(lambda shown: [math.log(0.7 if item == items[place] else 0.1) for item in shown])
    judgement = judged(engine, items, orders=3)
    assert judgement.probabilities == pytest.approx([0.7 if index == place else 0.1 for index in range(4)])
    assert judgement.position_bias == pytest.approx(0)


@settings(deadline=None)
@given(st.integers(2, 26), st.integers(-1, 40), st.randoms(use_true_random=False))
def test_a_judgement_is_a_distribution_whatever_the_engine_says(count: int, orders: int, random: Random) -> None:
    engine = LetterFake(lambda shown: [random.uniform(-50, 0) for _ in shown])
    judgement = judged(engine, names(count), orders)
    assert len(judgement.probabilities) == count
    assert sum(judgement.probabilities) == pytest.approx(1)
    assert all(0 <= probability <= 1 for probability in judgement.probabilities)
    assert 0 <= judgement.position_bias <= 1


@settings(deadline=None)
@given(st.integers(2, 26), st.integers(-1, 40))
def test_every_item_visits_another_place_in_each_order(count: int, orders: int) -> None:
    engine = LetterFake(always_first)
    judged(engine, names(count), orders)
    assert len(engine.orders) == max(2, min(orders, count))
    places = defaultdict(set)
    for shown in engine.orders:
        assert sorted(shown) == sorted(names(count))
        for position, item in enumerate(shown):
            places[item].add(position)
    assert all(len(visited) == len(engine.orders) for visited in places.values())


@pytest.mark.anyio
async def test_the_engine_hears_the_letters_the_tenant_and_the_priority_of_all_orders_at_once() -> None:
    together = asyncio.Barrier(3)

    class Patient(LetterFake):
        async def choose(
            self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
        ) -> list[float]:
            await together.wait()
            return await super().choose(messages, letters, tenant=tenant, priority=priority)

    engine = Patient(always_first)
    async with asyncio.timeout(5):
        await judge(engine, "q", names(3), None, tenant="acme", orders=3, priority=7)
    assert engine.calls == [(LETTERS[:3], "acme", 7)] * 3
