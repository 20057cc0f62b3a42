"""Which item would the user choose? The engine's letter probabilities, freed of position bias.

A model that is asked for a letter favours positions as well as items. So the items are shown in several orders,
each rotated by an equal step, and every item's probability is averaged over its positions; with two items that is
both orders. The remaining bias is reported. `fuse` combines the result with the fast profile's.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Item, item_text
from services.profile.scoring import softmax
from services.prompts.build import LETTERS, ChatMessage, cap_tokens, estimate_tokens
from services.prompts.profiles import OWN, PromptProfile

_INSTRUCTION_TOKENS = 256
"""Estimated tokens of a selection prompt without its data."""
_FLOOR = 1e-9
"""Smallest probability whose logarithm is taken."""


class LetterEngine(Protocol):
    """The part of the engine client that judging needs."""

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        """Log-probabilities of each letter as the next token."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """`probabilities` add up to 1, one for each item in the order given."""

    probabilities: tuple[float, ...]
    position_bias: float
    """Mean absolute distance between an item's probability in one order and its average; 0 when
    positions do not matter."""


async def judge(
    engine: LetterEngine,
    query: str,
    items: Sequence[Item],
    summary: str | None,
    *,
    tenant: str,
    history: Sequence[Interaction] = (),
    orders: int = 2,
    priority: int = 0,
    prompts: PromptProfile = OWN,
) -> Judgement:
    """Asks the engine in `orders` rotations, at least 2 and at most one for each item, all at once.
    A `history` is read in place of the summary.

    Raises what the engine raises: EngineUnavailable, EngineRejected, EngineError.
    """
    count = len(items)
    rotations = max(2, min(orders, count))
    shifts = [round(step * count / rotations) for step in range(rotations)]

    async def ask(shift: int) -> list[float]:
        order = [items[(position + shift) % count] for position in range(count)]
        prompt = prompts.selection_prompt(query, order, summary, history)
        logprobs = await engine.choose(prompt.messages, LETTERS[:count], tenant=tenant, priority=priority)
        by_position = softmax(logprobs)
        return [by_position[(index - shift) % count] for index in range(count)]

    # A failure ends no other: one of the calls may be the only one that an open circuit breaker lets through.
    rows: list[list[float]] = []
    for answer in await asyncio.gather(*map(ask, shifts), return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer
        rows.append(answer)
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    gaps = [abs(row[index] - means[index]) for row in rows for index in range(count)]
    return Judgement(tuple(means), sum(gaps) / len(gaps))


def fit_choice(query: str, items: Sequence[Item], summary: str, window: int) -> tuple[str, list[Item], str]:
    """Query, items and summary, shortened where they would not fit an engine's window of so many tokens."""
    room = window - _INSTRUCTION_TOKENS
    texts = list(map(item_text, items))
    if sum(map(estimate_tokens, (query, *texts, summary))) <= room:
        return query, list(items), summary
    summary = cap_tokens(summary, room // 4)
    share = (room * 3 // 4) // (len(items) + 1)
    return cap_tokens(query, share), [cap_tokens(text, share) for text in texts], summary


def fuse(first: Sequence[float], second: Sequence[float], weight: float) -> list[float]:
    """The normalised geometric mean of two distributions, `weight` on the first: their log-odds
    averaged, each as one expert's opinion."""
    return softmax(
        [
            weight * math.log(max(p, _FLOOR)) + (1 - weight) * math.log(max(q, _FLOOR))
            for p, q in zip(first, second, strict=True)
        ]
    )
