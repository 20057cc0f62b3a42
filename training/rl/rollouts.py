"""What is rolled out together: single-stage rows, their rewards, and the order of prompts.

AlignXplore's two rewards ask for one summary of a history and score it on one choice; the two stages
of AlignXplore+ are in training/rl/two_stage.py. A rollout is the prompts that are answered before the
model changes, each as often as there are generations.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypedDict

import numpy as np
import torch

from alignx.schemas.interactions import Pair
from services.engine.judge import LetterEngine
from services.prompts.build import ChatMessage, estimate_tokens, fit_interactions, update_prompt
from training.data.formats import AlignXploreRow, Triple
from training.rl.rewards import GainForm, Reward, TokenScorer, generation_rewards, part_means, selection_rewards
from training.rl.two_stage import Choice
from training.speed.local_engine import opens_thinking

_FRAME_TOKENS: Final = 64
"""Allowance for the tags around the parts of a prompt and what a chat template puts around messages."""

RewardFunction = Callable[..., Awaitable[list[float]]]
"""As TRL calls it: named columns of the rollout's rows in, one reward a row out."""


# --- rows ----------------------------------------------------------------------------------------


class SingleRow(TypedDict):
    """A row of the dataset: the prompt for a summary of a whole history, and the choice after it."""

    prompt: list[ChatMessage]
    target: Choice


def single_rows(users: Iterable[AlignXploreRow], prompt_tokens: int) -> Iterator[SingleRow]:
    """One row for each user; the oldest choices that `prompt_tokens` (estimated) has no room for are
    left out."""
    frame = update_prompt(None, (), past_tokens=1).messages
    room = max(prompt_tokens - sum(estimate_tokens(turn["content"]) for turn in frame) - _FRAME_TOKENS, 1)
    for user in users:
        prompt = update_prompt(None, fit_interactions(user.comparisons(), room), past_tokens=1)
        yield SingleRow(prompt=prompt.messages, target=_choice(user.target()))


def _choice(target: Triple) -> Choice:
    return Choice(query=target.query, chosen=target.chosen, rejected=target.rejected)


# --- rewards -------------------------------------------------------------------------------------


def judgement_reward(engine: LetterEngine, tokenizer: Any) -> RewardFunction:
    """R_jud for TRL; logs the share of well-formed replies, the judge's accuracy and probability."""
    opened = opens_thinking(tokenizer)

    async def judgement(
        *, completion_ids: Sequence[Sequence[int]], target: Sequence[Choice], log_metric: Any = None, **_: Any
    ) -> list[float]:
        replies = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        rewards = await selection_rewards(engine, replies, _pairs(target), binary=True, opened=opened)
        return _told(rewards, log_metric)

    return judgement


def likelihood_reward(
    scorer: TokenScorer, tokenizer: Any, *, form: GainForm, margin: float, smooth: bool
) -> RewardFunction:
    """R_gen for TRL; logs the share of well-formed replies and the gain."""
    opened = opens_thinking(tokenizer)

    async def likelihood(
        *, completion_ids: Sequence[Sequence[int]], target: Sequence[Choice], log_metric: Any = None, **_: Any
    ) -> list[float]:
        replies = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        rewards = await generation_rewards(
            scorer, replies, _pairs(target), form=form, margin=margin, smooth=smooth, opened=opened
        )
        return _told(rewards, log_metric)

    return likelihood


def _pairs(targets: Sequence[Choice]) -> list[Pair]:
    return [Pair(one["query"], one["chosen"], one["rejected"]) for one in targets]


def _told(rewards: Sequence[Reward], log_metric: Callable[[str, float], None] | None) -> list[float]:
    if log_metric is not None:
        for name, mean in part_means(rewards).items():
            log_metric(f"judge/{name}", mean)
    return [reward.total for reward in rewards]


# --- order ---------------------------------------------------------------------------------------


class Rollouts(torch.utils.data.Sampler[int]):  # type: ignore[misc]  # torch is untyped here
    """Rows in the order TRL reads them: those of a rollout, each `generations` times, and that again
    for each of its `reads`. Units of `together` neighbouring rows (the stages of a user) stay in
    order while the units are shuffled, by seed and epoch alone; what fills no rollout is left out."""

    def __init__(self, rows: int, *, together: int, units: int, generations: int, reads: int, seed: int) -> None:
        """`units` make a rollout, over all devices."""
        self.whole = rows // together
        self.together = together
        self.units = units
        self.generations = generations
        self.reads = reads
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.whole // self.units * self.units * self.together * self.generations * self.reads

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.whole)
        for start in range(0, self.whole - self.units + 1, self.units):
            rollout = [
                int(unit) * self.together + place
                for unit in order[start : start + self.units]
                for place in range(self.together)
                for _ in range(self.generations)
            ]
            for _ in range(self.reads):
                yield from rollout
