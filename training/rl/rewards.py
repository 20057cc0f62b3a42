"""Rewards of reinforcement learning, and the same scores for evaluation: pure functions of replies.

A reply is scored by what serving would keep of it. So every reward reads the summary as
`services.prompts.replies.parse_summary.parse_summary` returns it (without links, commands, hidden characters and
beyond its length limit), and uses the prompts and the judge of services/. The judge is a `LetterEngine`,
the response model a `TokenScorer`; training/speed/local_engine.py has both.

- R_jud (AlignXplore): 1 where the judge picks what the user chose, given the summary.
- R_gen (AlignXplore): 1 where the summary raises the likelihood ratio of what the user chose, or, smooth and with
  `gain = "log-odds"`, the probability by which serving chooses by likelihood.
- The streaming reward (AlignXplore+): the judge's probability, coupled over two stages by `couple`.

Each lies between 0 and 1 before coupling, and is 0 for a reply that is not well formed.
"""

import asyncio
import inspect
import math
import statistics
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from alignx.schemas.interactions import Pair
from alignx.schemas.items import item_text
from services.engine.judge import LetterEngine, Likelihood, judge, log_odds
from services.errors import EngineError
from services.prompts.build import ChatMessage
from services.prompts.plain import likelihood_prompt
from services.prompts.profiles import OWN, PromptProfile
from services.prompts.replies.parse_summary import parse_summary
from services.prompts.replies.summary_checks import Evidence

SUMMARY_CHARS: Final = 8_000
"""Longest summary, as in serving's default."""
TENANT: Final = "training"
"""The tenant of all requests to the engine."""

GainForm = Literal["probability-sum", "log-odds"]
"""The likelihood of a response: the sum of its tokens' probabilities, as published (it grows with length,
and probable tokens outweigh informative ones), or the score of serving, `services.engine.judge.log_odds`."""


@dataclass(frozen=True, slots=True)
class GainRule:
    """How R_gen measures the gain of a summary and turns it into a reward."""

    form: GainForm = "probability-sum"
    margin: float = 0.03
    """By how much the likelihood ratio must rise; a share: .03 is 3 %."""
    smooth: bool = False
    """The logistic of the gain instead of 0 or 1: .5 at the margin, near 1 far above it."""


ScoredReply = tuple[Sequence[ChatMessage], str]
"""A prompt and the reply to it whose tokens are scored."""
TokenLogprobs = Sequence[Sequence[float]]
"""For each row the natural log-probability of each token of its reply."""


class TokenScorer(Protocol):
    """The response model of R_gen; may be a coroutine function."""

    def __call__(self, rows: Sequence[ScoredReply], /) -> TokenLogprobs | Awaitable[TokenLogprobs]: ...


@dataclass(frozen=True, slots=True)
class Reward:
    """One reply's reward and its parts, for the log. A part that a reply does not have, such as the
    probability of one that is not well formed, is left out."""

    total: float
    parts: Mapping[str, float]


def part_means(rewards: Sequence[Reward]) -> dict[str, float]:
    """The mean of each part over the replies that have it."""
    names = dict.fromkeys(name for reward in rewards for name in reward.parts)
    return {name: statistics.fmean(reward.parts[name] for reward in rewards if name in reward.parts) for name in names}


# --- the reply -----------------------------------------------------------------------------------


def well_formed(reply: str, *, opened: bool = False) -> bool:
    """Whether `reply` is exactly one <think>…</think> with text in it, then text.

    `opened` says that the chat template has written <think> already, as that of R1 does.
    """
    reply = (f"<think>{reply}" if opened else reply).strip()
    head, end, answer = reply.partition("</think>")
    before, start, thought = head.partition("<think>")
    stray = any(tag in part for part in (thought, answer) for tag in ("<think>", "</think>"))
    return bool(end and start and not before and thought.strip() and answer.strip()) and not stray


def answer_of(reply: str, *, max_chars: int = SUMMARY_CHARS, evidence: Evidence | None = None) -> str:
    """The summary in `reply` as serving would keep it; empty where it would keep none. A reward on the
    raw text would pay for words that no later prompt shows. The rewards have no `evidence`: their rows hold prompts."""
    try:
        return parse_summary(reply, max_chars=max_chars, evidence=evidence).text
    except EngineError:
        return ""


def scored_answer(reply: str, *, opened: bool = False) -> str:
    """`answer_of` a well-formed reply, else empty: the text that earns a reward."""
    return answer_of(reply) if well_formed(reply, opened=opened) else ""


# --- the judge -----------------------------------------------------------------------------------


async def judge_choice(
    engine: LetterEngine, summary: str | None, target: Pair, *, tenant: str = TENANT, prompts: PromptProfile = OWN
) -> float:
    """The judge's probability of what the user chose, over both orders of the two items.
    `summary=None` is the control without one."""
    items = (target.chosen, target.rejected)
    judgement = await judge(engine, target.query, items, summary, tenant=tenant, prompts=prompts)
    return judgement.probabilities[0]


async def selection_rewards(
    engine: LetterEngine,
    replies: Sequence[str],
    targets: Sequence[Pair],
    *,
    opened: bool = False,
    prompts: PromptProfile = OWN,
) -> list[Reward]:
    """The streaming reward before coupling: the judge's probability of the choice. Parts: format,
    probability, and accuracy, which is R_jud: 1 where the probability is above .5, else 0."""

    async def score(reply: str, target: Pair) -> Reward:
        summary = scored_answer(reply, opened=opened)
        if not summary:
            return Reward(0.0, {"format": 0.0})
        probability = await judge_choice(engine, summary, target, prompts=prompts)
        parts = {"format": 1.0, "accuracy": float(probability > 0.5), "probability": probability}
        return Reward(probability, parts)

    pairs = list(zip(replies, targets, strict=True))
    return list(await asyncio.gather(*(score(*pair) for pair in pairs)))  # at once, for an engine that batches


# --- the response model --------------------------------------------------------------------------


async def generation_rewards(
    scorer: TokenScorer,
    replies: Sequence[str],
    targets: Sequence[Pair],
    rule: GainRule,
    *,
    opened: bool = False,
) -> list[Reward]:
    """R_gen: 1 where the summary raises the likelihood ratio of chosen to rejected under the
    response model by more than the rule's margin, else 0.

    Parts: format, gain (natural logarithm of the ratio of the two ratios). The response model reads
    `likelihood_prompt` with the summary and without; equal rows are scored once, so that the
    replies of one group share the two rows without a summary.
    """
    summaries = [scored_answer(reply, opened=opened) for reply in replies]
    rows: dict[tuple[str | None, str, str], ScoredReply] = {}
    for summary, target in zip(summaries, targets, strict=True):
        for known in (summary, None) if summary else ():
            for text in (item_text(target.chosen), item_text(target.rejected)):
                rows[known, target.query, text] = (likelihood_prompt(target.query, known), text)
    scores = scorer(list(rows.values())) if rows else []
    logprobs = dict(zip(rows, await scores if inspect.isawaitable(scores) else scores, strict=True))

    def score(summary: str, target: Pair) -> Reward:
        if not summary:
            return Reward(0.0, {"format": 0.0})
        texts = (item_text(target.chosen), item_text(target.rejected))
        gain = likelihood_gain(
            [logprobs[known, target.query, text] for known in (summary, None) for text in texts], rule.form
        )
        threshold = math.log1p(rule.margin)
        total = _logistic(gain - threshold) if rule.smooth else float(gain > threshold)
        return Reward(total, {"format": 1.0, "gain": gain})

    return list(map(score, summaries, targets))


def likelihood_gain(logprobs: TokenLogprobs, form: GainForm) -> float:
    """Natural logarithm of (ratio of chosen to rejected with the summary) over (the same without).

    `logprobs` are those of chosen with, rejected with, chosen without, rejected without the summary.
    """
    if not all(logprobs):
        raise ValueError("a chosen or rejected response has no tokens, so it has no likelihood")
    if form == "log-odds":
        likelihoods = [Likelihood(sum(row), len(row)) for row in logprobs]
        chosen, rejected = log_odds(likelihoods[:2], likelihoods[2:])
        return chosen - rejected
    chosen, rejected, chosen_alone, rejected_alone = map(_log_of_probability_sum, logprobs)
    return (chosen - rejected) - (chosen_alone - rejected_alone)


def _log_of_probability_sum(logprobs: Sequence[float]) -> float:
    top = max(logprobs)  # keeps very unlikely tokens from vanishing
    return top + math.log(math.fsum(math.exp(logprob - top) for logprob in logprobs))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


# --- two stages and groups -----------------------------------------------------------------------


def couple(
    stage1: Sequence[Sequence[float]],
    stage2: Sequence[Sequence[float]],
    picked: Sequence[int],
    *,
    weight: float = 0.9,
    unpicked: float | Literal["batch-mean"] = 0.45,
) -> list[list[float]]:
    """Rewards of stage 1 with what they led to in stage 2, users by replies (AlignXplore+).

    The reply of each user that became the past summary, at index `picked`, gains `weight` times the
    user's mean reward in stage 2; the others gain `unpicked`. The published constant is .9 times an
    assumed mean of .5: where the true mean differs, it favours or punishes being picked. With
    "batch-mean" the others gain `weight` times the mean of stage 2 over all users given.
    """
    means = [statistics.fmean(rewards) for rewards in stage2]
    others = weight * statistics.fmean(means) if unpicked == "batch-mean" else unpicked
    return [
        [reward + (weight * mean if index == pick else others) for index, reward in enumerate(rewards)]
        for rewards, mean, pick in zip(stage1, means, picked, strict=True)
    ]


def group_advantages(rewards: Sequence[float], *, divide_by_std: bool = True) -> list[float]:
    """(r - mean) / (std + 1e-6) over the replies to one prompt; all 0 where the rewards are equal.

    The std is that of a sample (n - 1), as in TRL and verl. `divide_by_std=False` is what
    AlignXplore's published code does: there `std := np.std(…) > 0` is 1 wherever rewards differ.
    """
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    mean = statistics.fmean(rewards)
    scale = statistics.stdev(rewards) + 1e-6 if divide_by_std else 1.0
    return [(reward - mean) / scale for reward in rewards]
