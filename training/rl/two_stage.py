"""Two-stage streaming GRPO of AlignXplore+ on TRL's own trainer, without a subclass.

A user is two consecutive rows. Stage 1 infers a summary from the first part of the history; one of
its replies becomes the past summary of stage 2, which reads the later part. A judge scores each
reply on the choice that follows its part, and stage 1 is also paid for what stage 2 made of it.

    stages = TwoStage(generations=4)
    GRPOTrainer(
        model,
        reward_funcs=make_reward(stages, engine, tokenizer),
        rollout_func=make_rollout(stages),
        train_dataset=Dataset.from_list(list(paired_rows(users, stages))),  # users shuffled before
        args=GRPOConfig(shuffle_dataset=False, num_generations=4, ...),
    )

`per_device_train_batch_size * steps_per_generation` must be a multiple of 2 * `generations`, so that
the rows of a user meet in one rollout. Every prompt is made by services/prompts/build.py.
"""

import json
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from alignx.schemas.interactions import ComparisonInteraction, Pair
from alignx.schemas.items import item_text
from services.engine.judge import LetterEngine
from services.prompts.build import ChatMessage, estimate_tokens, fit_interactions, update_prompt
from training.data.formats import RlRow, Triple
from training.rl.rewards import SUMMARY_CHARS, couple, part_means, scored_answer, selection_rewards
from training.speed.local_engine import opens_thinking

HISTORY_ROLE: Final = "history"
"""Role of the one message of a stage-2 row. It is no prompt: TRL hands a rollout the prompts alone,
so the events travel in it, and the rollout makes the prompt once the past summary is known."""

_FRAME_TOKENS: Final = 64
"""Allowance for the tags around the parts of a prompt and what a chat template puts around messages."""


@dataclass(frozen=True, slots=True)
class TwoStage:
    """What rows, rollout and reward must agree on; the defaults are those of AlignXplore+."""

    generations: int = 4
    """Replies to each prompt, in training and in evaluation."""
    prompt_tokens: int = 8_192
    """Estimated tokens of a prompt; the oldest events of a longer one are left out."""
    past_tokens: int = 1_024
    """Estimated tokens of the past summary, as in serving."""
    summary_chars: int = SUMMARY_CHARS
    """Longest summary kept of a reply, as in serving."""
    weight: float = 0.9
    """Share of the mean reward of stage 2 that goes to the reply it was built on."""
    unpicked: float | Literal["batch-mean"] = 0.45
    """What the other replies of stage 1 get in its place; see `training.rl.rewards.couple`."""
    pick: Literal["any", "usable"] = "any"
    """Whether a reply without a summary can become the past; stage 2 then starts without one."""
    seed: int = 0


class Choice(TypedDict):
    """A choice as it stands in a dataset's row."""

    query: str
    chosen: str
    rejected: str


class StageRow(TypedDict):
    """A row of the dataset: stage 1 and stage 2 of a user stand next to each other."""

    prompt: list[ChatMessage]
    target: Choice
    stage: int


# --- rows ----------------------------------------------------------------------------------------


def paired_rows(users: Iterable[RlRow], stages: TwoStage) -> Iterator[StageRow]:
    """Two rows for each user: the first part of the history and the choice after it, then the later
    part and the last choice. The oldest events that `prompt_tokens` has no room for are left out."""
    for user in users:
        first = update_prompt(None, _fitted(user.first, stages, past=0), past_tokens=stages.past_tokens)
        later = [_choice(event) for event in _fitted(user.second, stages, past=stages.past_tokens)]
        carried = ChatMessage(role=HISTORY_ROLE, content=json.dumps(later))
        yield StageRow(prompt=first.messages, target=_choice(user.first_target.comparison()), stage=1)
        yield StageRow(prompt=[carried], target=_choice(user.target().comparison()), stage=2)


def _fitted(triples: Sequence[Triple], stages: TwoStage, *, past: int) -> list[ComparisonInteraction]:
    frame = update_prompt(None, (), past_tokens=1).messages
    fixed = sum(estimate_tokens(message["content"]) for message in frame) + _FRAME_TOKENS
    room = max(stages.prompt_tokens - fixed - past, 1)
    kept = fit_interactions([triple.comparison() for triple in triples], room)
    return [event for event in kept if isinstance(event, ComparisonInteraction)]


def _choice(event: ComparisonInteraction) -> Choice:
    return Choice(query=event.query or "", chosen=item_text(event.chosen), rejected=item_text(event.rejected))


# --- rollout -------------------------------------------------------------------------------------


def make_rollout(stages: TwoStage) -> Callable[[list[list[ChatMessage]], Any], dict[str, Any]]:
    """TRL's `rollout_func`: writes stage 1, picks one reply a user, writes stage 2 on it.

    Adds the column `picked`, true for the stage-1 reply that became the past. What is picked depends
    on seed, step and prompt alone, so a resumed run picks the same.
    """
    count = stages.generations

    def rollout(prompts: list[list[ChatMessage]], trainer: Any) -> dict[str, Any]:
        if len(prompts) % (2 * count):
            raise ValueError(
                f"a device was given {len(prompts)} rows; per_device_train_batch_size * steps_per_generation must be "
                f"a multiple of {2 * count}, twice the generations"
            )
        tokenizer = trainer.processing_class
        opened = opens_thinking(tokenizer)
        firsts, seconds, picks = prompts[:: 2 * count], prompts[count :: 2 * count], []
        stage1 = _generated(trainer, firsts, count)
        filled = []
        for user, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            replies = tokenizer.batch_decode(stage1[1][user * count : (user + 1) * count], skip_special_tokens=True)
            summaries = [scored_answer(reply, opened=opened, max_chars=stages.summary_chars) for reply in replies]
            draw = random.Random(f"{stages.seed}/{trainer.state.global_step}/{json.dumps(first)}")
            pick = _pick(summaries, stages, draw)
            picks.append(pick)
            filled.append(stage2_prompt(second, summaries[pick], stages))
        stage2 = _generated(trainer, filled, count)
        ids, completions, logprobs = (_woven(*parts, count) for parts in zip(stage1, stage2, strict=True))
        picked = [stage == 1 and index == pick for pick in picks for stage in (1, 2) for index in range(count)]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": logprobs, "picked": picked}

    return rollout


def stage2_prompt(carried: Sequence[ChatMessage], past: str, stages: TwoStage) -> list[ChatMessage]:
    """The prompt that serving makes of the events a stage-2 row carries and the summary before them;
    an empty `past` is none."""
    if [message["role"] for message in carried] != [HISTORY_ROLE]:
        raise ValueError("the second row of a pair is no stage-2 row; give GRPOConfig shuffle_dataset=False")
    events = [ComparisonInteraction(**choice) for choice in json.loads(carried[0]["content"])]
    return update_prompt(past or None, events, past_tokens=stages.past_tokens).messages


def _pick(summaries: Sequence[str], stages: TwoStage, draw: random.Random) -> int:
    usable = [index for index, summary in enumerate(summaries) if summary] if stages.pick == "usable" else []
    return draw.choice(usable or range(len(summaries)))


def _generated(trainer: Any, prompts: Sequence[list[ChatMessage]], count: int) -> tuple[Any, Any, Any]:
    """(prompt ids, completion ids, log-probabilities or None), `count` rows for each prompt."""
    # TRL has no public generation for rollouts without vLLM; these two private methods are why trl==1.16.* is pinned.
    ids, images, fields = trainer._tokenize_prompts([prompt for prompt in prompts for _ in range(count)])
    completions, logprobs = trainer._generate_single_turn(ids, images, fields, count)
    return ids, completions, logprobs


def _woven(first: list[Any] | None, second: list[Any] | None, count: int) -> list[Any] | None:
    """`count` rows of the first, `count` of the second, and so on."""
    if first is None or second is None:
        return None
    starts = range(0, len(first), count)
    return [row for start in starts for part in (first, second) for row in part[start : start + count]]


# --- reward --------------------------------------------------------------------------------------


def make_reward(stages: TwoStage, engine: LetterEngine, tokenizer: Any) -> Callable[..., Awaitable[list[float]]]:
    """TRL's reward function: the judge's probability of what the user chose, coupled over the stages.

    Logs the share of well-formed replies, the judge's accuracy and probability, by stage. With
    "batch-mean" the mean is over the users of this device.
    """
    count, opened = stages.generations, opens_thinking(tokenizer)

    async def streaming_reward(
        *,
        completion_ids: Sequence[Sequence[int]],
        target: Sequence[Choice],
        stage: Sequence[int],
        picked: Sequence[bool],
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float]:
        assert list(stage) == [
            number for _ in range(0, len(stage), 2 * count) for number in (1, 2) for _ in range(count)
        ]
        replies = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        pairs = [Pair(one["query"], one["chosen"], one["rejected"]) for one in target]
        rewards = await selection_rewards(
            engine, replies, pairs, binary=False, opened=opened, max_chars=stages.summary_chars
        )
        groups = [rewards[start : start + count] for start in range(0, len(rewards), count)]
        totals = [[reward.total for reward in group] for group in groups]
        chosen = [list(picked[start : start + count]).index(True) for start in range(0, len(picked), 2 * count)]
        totals[::2] = couple(totals[::2], totals[1::2], chosen, weight=stages.weight, unpicked=stages.unpicked)
        if log_metric is not None:
            for number in (1, 2):
                means = part_means([reward for group in groups[number - 1 :: 2] for reward in group])
                for name, mean in means.items():
                    log_metric(f"stage{number}/{name}", mean)
        return [total for group in totals for total in group]

    return streaming_reward
