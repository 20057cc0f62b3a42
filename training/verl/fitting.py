"""Fits the update prompt into a number of tokens: it drops the oldest interactions.

Truncating a prompt on the left, as trainers do, removes the instruction and keeps the tails of the oldest
events. So the prompt is built again from fewer events until it fits.
"""

from collections.abc import Callable, Sequence
from typing import Final

from alignx.schemas.interactions import Interaction
from services.prompts.build import ChatMessage, estimate_tokens, fit_interactions, update_prompt

Count = Callable[[Sequence[ChatMessage]], int]
"""Tokens of messages with the chat template around them."""

LEAST_TOKENS: Final = 64
"""Below this the latest event is not shortened further."""
_TEMPLATE_TOKENS: Final = 8
"""Of a message's frame in a chat template, an upper estimate."""


def estimate(messages: Sequence[ChatMessage]) -> int:
    """An upper estimate of the tokens of messages, without a tokenizer."""
    return sum(estimate_tokens(message["content"]) + _TEMPLATE_TOKENS for message in messages) + _TEMPLATE_TOKENS


def fit_prompt(
    past: str | None, history: Sequence[Interaction], *, past_tokens: int, limit: int, count: Count
) -> tuple[list[ChatMessage], Sequence[Interaction]]:
    """Messages of at most `limit` tokens by `count`, and the interactions they show.

    Raises ValueError when the instruction and the past summary alone take the limit.
    """
    events, budget = history, limit
    while True:
        messages = update_prompt(past, events, past_tokens=past_tokens).messages
        if count(messages) <= limit:
            return messages, events
        if budget < LEAST_TOKENS:
            raise ValueError(f"a prompt of {limit} tokens holds the instruction and the past summary, but no event")
        events, budget = fit_interactions(events, budget), budget * 4 // 5
