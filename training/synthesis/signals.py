"""The predictability of each choice of a user from the choices before it.

An unpredictable choice cannot test a summary: a wrong prediction says nothing about the summary.
`ProfileScorer` takes the fast profile and costs no call; `SequenceScorer` asks the judge, which reads the
recent history.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from services.engine.judge import LetterEngine
from services.profile.fold import fold
from services.profile.statistics import EMPTY
from services.prompts.build import ChatMessage, chat_prompt, fit_interactions
from training.rl.rewards import judge_choice

Value = TypeVar("Value")


class SignalScorer(Protocol):
    async def score(self, history: Sequence[ComparisonInteraction], start: int) -> list[float]:
        """For each interaction from `start` on, oldest first, the probability of what the user chose, by the
        interactions before it; 0.5 is chance."""
        ...


class ProfileScorer:
    """The fast profile of the earlier events, folded event by event."""

    async def score(self, history: Sequence[ComparisonInteraction], start: int) -> list[float]:
        profile, scores = EMPTY, []
        for interaction in history:
            profile, predictions = fold(profile, interaction)
            scores.append(predictions[0])
        return scores[start:]


class SequenceScorer:
    """A sequence model with the recent history in its context, by forced letters in both orders."""

    def __init__(self, engine: LetterEngine, *, recent_tokens: int) -> None:
        self._engine = engine
        self._recent_tokens = recent_tokens

    async def score(self, history: Sequence[ComparisonInteraction], start: int) -> list[float]:
        return await gather_all(self._probability(history[:at], history[at]) for at in range(start, len(history)))

    async def _probability(self, earlier: Sequence[ComparisonInteraction], choice: ComparisonInteraction) -> float:
        reader = _Reader(self._engine, fit_interactions(earlier, self._recent_tokens))
        return await judge_choice(reader, None, choice.pairs()[0])


class _Reader:
    """A LetterEngine that puts a history before each prompt."""

    def __init__(self, engine: LetterEngine, history: Sequence[Interaction]) -> None:
        self._engine = engine
        self._history = history

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        prompt = chat_prompt(messages, mode="direct", summary=None, history=self._history)
        return await self._engine.choose(prompt.messages, letters, tenant=tenant, priority=priority)


async def gather_all(coroutines: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """All results, in order. The first error cancels the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
