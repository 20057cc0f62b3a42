"""Which item would the user choose? By one of two protocols.

*letters*: the model is asked for a letter. It favours positions as well as items, so the items are shown in several
orders, each rotated by an equal step, and every item's probability is averaged over its positions; with two items that
is both orders. The remaining bias is reported.

*likelihood*: log p(item | query, summary) - log p(item | query), the item as the assistant's answer to the query. A
small model cannot answer with a letter, but what the user prefers becomes likelier under the summary. The same
difference between the user's chosen and rejected answers as earlier turns is the *contrast*.

choice/fusion.py combines the result with the fast profile's.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

from alignx.schemas.interactions import Interaction, Pair
from alignx.schemas.items import Item, item_text
from services.errors import EngineError, EngineUnavailable
from services.profile.scoring import softmax
from services.prompts.build import LETTERS, ChatMessage, cap_tokens, estimate_tokens
from services.prompts.control_tokens import neutralise
from services.prompts.plain import likelihood_prompt
from services.prompts.profiles import OWN, PromptProfile

_INSTRUCTION_TOKENS = 256
"""Estimated tokens of a selection prompt without its data."""


Value = TypeVar("Value")

CONTRAST_PAIRS: Final = 4
"""The most earlier choices that a contrast reads."""
_CONTEXT_TOKENS, _ITEM_TOKENS = 1_200, 250
"""Longest context and item of a likelihood; of a context the end counts, of an item the beginning."""

ChoiceProtocol = Literal["letters", "likelihood"]
"""How an engine is asked which item a user would choose."""


class LetterEngine(Protocol):
    """The part of the engine client that judging needs."""

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        """Log-probabilities of each letter as the next token."""
        ...


class Likelihood(NamedTuple):
    """Of one reply: the sum of its tokens' natural log-probabilities, and their number."""

    logprob: float
    tokens: int


@runtime_checkable
class LikelihoodEngine(LetterEngine, Protocol):
    """An engine that can be judged with by either protocol."""

    @property
    def protocol(self) -> ChoiceProtocol: ...

    def likelihood(
        self, messages: Sequence[ChatMessage], reply: str, *, tenant: str, priority: int = 0
    ) -> Coroutine[Any, Any, Likelihood]:
        """Of `reply` after the messages, both cut as `fit_tokens` says."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """One number for each item, in the order given."""

    probabilities: tuple[float, ...]
    """By the text of the summary; they add up to 1."""
    position_bias: float
    """Mean absolute distance between an item's probability in one order and its average; 0 when
    positions do not matter, and always by likelihood."""
    contrast: tuple[float, ...] | None = None
    """Log-odds of each item after the user's chosen answers against after the rejected ones, in the unit of
    `log_odds`; None without such a history, by letters, and where it was left out."""
    protocol: ChoiceProtocol = "letters"


@dataclass(frozen=True, slots=True)
class RecentChoices:
    """A user's recent choices, oldest first, for the contrast; without any there is none."""

    pairs: Sequence[Pair] = ()
    deadline: float = math.inf
    """By the event loop's clock. With one, a contrast that is late or fails is left out where the text was judged."""


async def judge(
    engine: LetterEngine,
    query: str,
    items: Sequence[Item],
    summary: str | None,
    *,
    tenant: str,
    history: Sequence[Interaction] = (),
    recent: RecentChoices = RecentChoices(),
    orders: int = 2,
    priority: int = 0,
    prompts: PromptProfile = OWN,
) -> Judgement:
    """By the engine's own protocol; by letters where it has none, and for a `history`, which is read in place of the
    summary. By letters it is asked in `orders` rotations, at least 2 and at most one for each item, all at once.

    Raises what the engine raises (EngineUnavailable, EngineRejected, EngineError), and TimeoutError where all that was
    asked for is a contrast, which is late.
    """
    if isinstance(engine, LikelihoodEngine) and engine.protocol == "likelihood" and not history:
        texts = [neutralise(item_text(item)) for item in items]
        measure = partial(engine.likelihood, tenant=tenant, priority=priority)
        return await _judge_by_likelihood(measure, query, texts, summary, recent)
    count = len(items)
    rotations = max(2, min(orders, count))
    shifts = [round(step * count / rotations) for step in range(rotations)]

    async def ask(shift: int) -> list[float]:
        order = [items[(position + shift) % count] for position in range(count)]
        prompt = prompts.selection_prompt(query, order, summary, history)
        logprobs = await engine.choose(prompt.messages, LETTERS[:count], tenant=tenant, priority=priority)
        by_position = softmax(logprobs)
        return [by_position[(index - shift) % count] for index in range(count)]

    rows = await _gather(map(ask, shifts))
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    gaps = [abs(row[index] - means[index]) for row in rows for index in range(count)]
    return Judgement(tuple(means), sum(gaps) / len(gaps))


async def _judge_by_likelihood(
    measure: Callable[[list[ChatMessage], str], Coroutine[Any, Any, Likelihood]],
    query: str,
    texts: Sequence[str],
    summary: str | None,
    recent: RecentChoices,
) -> Judgement:
    async def compare(after: list[ChatMessage], before: list[ChatMessage]) -> list[float]:
        likelihoods = await _gather(measure(chat, text) for chat in (after, before) for text in texts)
        return log_odds(likelihoods[: len(texts)], likelihoods[len(texts) :])

    values, contrast = [0.0] * len(texts), None
    if summary:
        values = await compare(likelihood_prompt(query, summary), likelihood_prompt(query))
    if pairs := recent.pairs[-CONTRAST_PAIRS:]:
        chosen = likelihood_prompt(query, turns=[(pair.query, item_text(pair.chosen)) for pair in pairs])
        rejected = likelihood_prompt(query, turns=[(pair.query, item_text(pair.rejected)) for pair in pairs])
        try:  # after the summary: it must not make that late
            async with asyncio.timeout_at(recent.deadline):
                contrast = tuple(await compare(chosen, rejected))
        except (TimeoutError, EngineUnavailable, EngineError):
            if not summary or recent.deadline == math.inf:
                raise
    return Judgement(tuple(softmax(values)), 0.0, contrast, "likelihood")


def log_odds(after: Sequence[Likelihood], before: Sequence[Likelihood]) -> list[float]:
    """By how much each item became likelier. Sums over tokens, in units of the square root of the items' mean length:
    so far chance alone carries a sum of so many small differences."""
    tokens = sum(likelihood.tokens for likelihood in after) / len(after)
    unit = math.sqrt(max(tokens, 1.0))
    return [(new.logprob - old.logprob) / unit for new, old in zip(after, before, strict=True)]


def fit_tokens(context: Sequence[int], item: Sequence[int], window: int) -> tuple[list[int], list[int]]:
    """Context and item of a likelihood, cut: of the context the end stays, of the item the beginning."""
    item = list(item[: min(_ITEM_TOKENS, window // 2)])
    return list(context[-min(_CONTEXT_TOKENS, window - len(item) - 1) :]), item


async def _gather(calls: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """All at once. A failure ends no other: one of them may be the only one that an open circuit breaker lets pass."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return cast("list[Value]", answers)


def fit_choice(query: str, items: Sequence[Item], summary: str, window: int) -> tuple[str, list[Item], str]:
    """Query, items and summary, shortened where they would not fit an engine's window of so many tokens."""
    room = window - _INSTRUCTION_TOKENS
    texts = list(map(item_text, items))
    if sum(map(estimate_tokens, (query, *texts, summary))) <= room:
        return query, list(items), summary
    summary = cap_tokens(summary, room // 4)
    share = (room * 3 // 4) // (len(items) + 1)
    return cap_tokens(query, share), [cap_tokens(text, share) for text in texts], summary
