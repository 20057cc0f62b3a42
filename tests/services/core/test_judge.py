"""Position bias is averaged away, whatever the number of items."""

import asyncio
import math
import re
from collections.abc import Sequence

import pytest

from services.core.judge import judge, softmax
from services.core.prompts import ChatMessage

ITEMS = ("apples", "pears", "plums", "figs", "dates")


class BiasedEngine:
    """Likes items by a table and, whatever stands there, the first letter."""

    def __init__(self, tastes: dict[str, float], bias: float) -> None:
        self.tastes = tastes
        self.bias = bias
        self.orders: list[list[str]] = []

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        shown = re.findall(r'<item letter="\w">\n(.*?)\n</item>', messages[1]["content"])
        assert len(shown) == len(letters)
        assert (tenant, priority) == ("acme", 5)
        self.orders.append(shown)
        return [self.tastes[item] + (self.bias if place == 0 else 0.0) for place, item in enumerate(shown)]


def ask(engine: BiasedEngine, items: Sequence[str], orders: int) -> tuple[tuple[float, ...], float]:
    found = asyncio.run(judge(engine, "fruit?", items, "Likes figs.", tenant="acme", orders=orders, priority=5))
    assert sum(found.probabilities) == pytest.approx(1)
    return found.probabilities, found.position_bias


def test_two_items_are_shown_in_both_orders() -> None:
    engine = BiasedEngine({"apples": 0.0, "pears": 0.0}, bias=3.0)
    probabilities, bias = ask(engine, ITEMS[:2], orders=1)
    assert sorted(engine.orders) == [["apples", "pears"], ["pears", "apples"]]
    assert probabilities == pytest.approx((0.5, 0.5))
    assert bias > 0.4


@pytest.mark.parametrize("count", [3, 5])
def test_a_full_round_of_orders_leaves_taste_alone(count: int) -> None:
    items = ITEMS[:count]
    engine = BiasedEngine(dict.fromkeys(items, 0.0), bias=2.0)
    probabilities, _ = ask(engine, items, orders=count)
    assert probabilities == pytest.approx([1 / count] * count)
    assert {order[0] for order in engine.orders} == set(items)


def test_without_bias_the_answer_is_the_taste() -> None:
    tastes = {item: float(place) for place, item in enumerate(ITEMS)}
    engine = BiasedEngine(tastes, bias=0.0)
    probabilities, bias = ask(engine, ITEMS, orders=4)
    assert probabilities == pytest.approx(softmax([tastes[item] for item in ITEMS]))
    assert bias == pytest.approx(0)
    assert len(engine.orders) == 4
    assert len({order[0] for order in engine.orders}) == 4


def test_softmax_is_stable() -> None:
    assert softmax([1_000.0, 1_000.0]) == [0.5, 0.5]
    assert softmax([-1e9, 0.0]) == [0.0, 1.0]
    assert softmax([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])
