"""The update prompt within a number of tokens: the oldest interactions are left out, whole.

Cutting the tokens of a finished prompt at its left, as trainers do, removes the instruction and keeps
the oldest events' tails. So the prompt is made anew from fewer events until it fits.
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
"""Of a message's frame in a chat template, rather too many."""


def estimated(messages: Sequence[ChatMessage]) -> int:
    """Tokens of messages without a tokenizer: rather too many than too few."""
    return sum(estimate_tokens(message["content"]) + _TEMPLATE_TOKENS for message in messages) + _TEMPLATE_TOKENS


def fitted_prompt(
    past: str | None, history: Sequence[Interaction], *, past_tokens: int, limit: int, count: Count
) -> tuple[list[ChatMessage], Sequence[Interaction]]:
    """Messages of at most `limit` tokens by `count`, and the interactions they show.

    Raises ValueError when the instruction and the past summary alone take the limit.
    """
    kept, budget = history, limit
    while True:
        messages = update_prompt(past, kept, past_tokens=past_tokens).messages
        if count(messages) <= limit:
            return messages, kept
        if budget < LEAST_TOKENS:
            raise ValueError(f"a prompt of {limit} tokens holds the instruction and the past summary, but no event")
        kept, budget = fit_interactions(kept, budget), budget * 4 // 5
