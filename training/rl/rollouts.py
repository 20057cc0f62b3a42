"""What TRL calls during a rollout: the two-stage generation of AlignXplore+, and the reward functions.

A rollout is the prompts that are answered before the model changes, each `generations` times. TRL writes
the replies of a single stage itself. With two stages, `make_rollout` writes stage 1, picks one reply of each
user as the past summary, and writes stage 2 on it. Then a reward function scores all replies.
"""

import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from alignx.schemas.interactions import Pair
from services.engine.judge import LetterEngine
from services.prompts.build import ChatMessage
from services.prompts.profiles import load_profile
from training.rl.rewards import (
    GainRule,
    Reward,
    TokenScorer,
    couple,
    generation_rewards,
    part_means,
    scored_answer,
    selection_rewards,
)
from training.rl.rows import Choice, Grpo, stage2_prompt
from training.speed.local_engine import opens_thinking

RewardFunction = Callable[..., Awaitable[list[float]]]
"""As TRL calls it: named columns of the rollout's rows in, one reward a row out."""
LogMetric = Callable[[str, float], None] | None


# --- two-stage generation ------------------------------------------------------------------------


def make_rollout(settings: Grpo, seed: int) -> Callable[[list[list[ChatMessage]], Any], dict[str, Any]]:
    """TRL's `rollout_func`: writes stage 1, picks one reply a user, writes stage 2 on it.

    Adds the column `picked`, true for the stage-1 reply that became the past. The pick depends on seed,
    step and prompt alone, so a resumed run picks the same.
    """
    count, profile = settings.generations, load_profile(settings.prompts)

    def rollout(prompts: list[list[ChatMessage]], trainer: Any) -> dict[str, Any]:
        if len(prompts) % (2 * count):
            raise ValueError(
                f"a device was given {len(prompts)} rows; per_device_train_batch_size * steps_per_generation must be "
                f"a multiple of {2 * count}, twice the generations"
            )
        tokenizer = trainer.processing_class
        opened = opens_thinking(tokenizer)
        firsts, seconds = prompts[:: 2 * count], prompts[count :: 2 * count]
        stage1 = _generate(trainer, firsts, count)
        picks, filled = [], []
        for user, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            replies = tokenizer.batch_decode(stage1[1][user * count : (user + 1) * count], skip_special_tokens=True)
            summaries = [scored_answer(reply, opened=opened) for reply in replies]
            rng = random.Random(f"{seed}/{trainer.state.global_step}/{json.dumps(first)}")
            picks.append(_pick(summaries, settings, rng))
            filled.append(stage2_prompt(second, summaries[picks[-1]], settings.past_tokens, profile))
        stage2 = _generate(trainer, filled, count)
        ids, completions, logprobs = (_interleave(*parts, count) for parts in zip(stage1, stage2, strict=True))
        picked = [stage == 1 and index == pick for pick in picks for stage in (1, 2) for index in range(count)]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": logprobs, "picked": picked}

    return rollout


def _pick(summaries: Sequence[str], settings: Grpo, rng: random.Random) -> int:
    usable = [index for index, summary in enumerate(summaries) if summary] if settings.pick == "usable" else []
    return rng.choice(usable or range(len(summaries)))


def _generate(trainer: Any, prompts: Sequence[list[ChatMessage]], count: int) -> tuple[Any, Any, Any]:
    """(prompt ids, completion ids, log-probabilities or None), `count` rows for each prompt."""
    # TRL has no public generation for rollouts without vLLM: test_private_apis.py holds these two methods.
    ids, images, fields = trainer._tokenize_prompts([prompt for prompt in prompts for _ in range(count)])
    completions, logprobs = trainer._generate_single_turn(ids, images, fields, count)
    return ids, completions, logprobs


def _interleave(first: list[Any] | None, second: list[Any] | None, count: int) -> list[Any] | None:
    """`count` rows of the first, `count` of the second, and so on."""
    if first is None or second is None:
        return None
    starts = range(0, len(first), count)
    return [row for start in starts for part in (first, second) for row in part[start : start + count]]


# --- rewards -------------------------------------------------------------------------------------


def judgement_reward(settings: Grpo, engine: LetterEngine, tokenizer: Any) -> RewardFunction:
    """R_jud; logs the share of well-formed replies, the judge's accuracy and probability."""
    opened, prompts = opens_thinking(tokenizer), load_profile(settings.selection_prompts)

    async def judgement(
        *, completion_ids: Sequence[Sequence[int]], target: Sequence[Choice], log_metric: LogMetric = None, **_: Any
    ) -> list[float]:
        replies = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        rewards = await selection_rewards(engine, replies, _pairs(target), opened=opened, prompts=prompts)
        _log(rewards, "judge", log_metric)
        return [reward.parts.get("accuracy", 0.0) for reward in rewards]

    return judgement


def likelihood_reward(scorer: TokenScorer, tokenizer: Any, rule: GainRule) -> RewardFunction:
    """R_gen; logs the share of well-formed replies and the gain."""
    opened = opens_thinking(tokenizer)

    async def likelihood(
        *, completion_ids: Sequence[Sequence[int]], target: Sequence[Choice], log_metric: LogMetric = None, **_: Any
    ) -> list[float]:
        replies = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        rewards = await generation_rewards(scorer, replies, _pairs(target), rule, opened=opened)
        _log(rewards, "judge", log_metric)
        return [reward.total for reward in rewards]

    return likelihood


def streaming_reward_function(settings: Grpo, engine: LetterEngine, tokenizer: Any) -> RewardFunction:
    """The judge's probability of what the user chose, coupled over the two stages.

    Logs the metrics of `judgement_reward` by stage. With "batch-mean" the mean is over the users of this
    device.
    """
    count, opened = settings.generations, opens_thinking(tokenizer)
    prompts = load_profile(settings.selection_prompts)

    async def streaming_reward(
        *,
        completion_ids: Sequence[Sequence[int]],
        target: Sequence[Choice],
        stage: Sequence[int],
        picked: Sequence[bool],
        log_metric: LogMetric = None,
        **_: Any,
    ) -> list[float]:
        assert list(stage) == ([1] * count + [2] * count) * (len(stage) // (2 * count))
        replies = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        rewards = await selection_rewards(engine, replies, _pairs(target), opened=opened, prompts=prompts)
        groups = [rewards[start : start + count] for start in range(0, len(rewards), count)]
        for number in (1, 2):
            _log([reward for group in groups[number - 1 :: 2] for reward in group], f"stage{number}", log_metric)
        totals = [[reward.total for reward in group] for group in groups]
        picks = [list(picked[start : start + count]).index(True) for start in range(0, len(picked), 2 * count)]
        totals[::2] = couple(totals[::2], totals[1::2], picks, weight=settings.weight, unpicked=settings.unpicked)
        return [total for group in totals for total in group]

    return streaming_reward


def _pairs(targets: Sequence[Choice]) -> list[Pair]:
    return [Pair(target["query"], target["chosen"], target["rejected"]) for target in targets]


def _log(rewards: Sequence[Reward], prefix: str, log_metric: LogMetric) -> None:
    if log_metric is not None:
        for name, mean in part_means(rewards).items():
            log_metric(f"{prefix}/{name}", mean)
