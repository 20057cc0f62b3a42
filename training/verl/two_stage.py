"""Two-stage streaming GRPO (AlignXplore+) as a verl plugin: no trainer is changed.

Of each user the loop samples `n` summaries of the first part of the history, picks one at random,
shows it as the past summary with the second part, and samples `n` more. The judge gives the probability
of the user's next choice by each summary; training/rl/rewards.py couples the two stages and normalizes
each. All 2n replies go back to verl as rows of one update, each with its own advantage.

verl finds three names here once `actor_rollout_ref.model.external_lib=training.verl.two_stage` is set
(training/verl/run.sh does): the agent loop `two_stage`, the advantage estimator `own_score`, and, under
the key `two_stage` of the run's configuration, `Settings`. rollout.n stays 1: the loop samples.
"""

import asyncio
import random
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import uuid4

import torch
from omegaconf import OmegaConf
from pydantic import Field
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.trainer.ppo.core_algos import register_adv_est
from verl.utils.profiler import simple_timer

from alignx.schemas.interactions import Pair
from services.prompts.build import ChatMessage
from training.config import Fraction, PositiveInt, Section
from training.data.formats import Triple
from training.rl.rewards import Reward, couple, group_advantages, scored_answer, selection_rewards
from training.verl.fitting import fit_prompt
from training.verl.letter_choices import letters_at

TRAIN: Final = "train"
"""The split to train on; for any other, one reply a stage is scored without coupling."""
_TAIL: Final = 8
"""Tokens at the end of a prompt, enough for a tag in any spelling."""


class Settings(Section):
    """The key `two_stage` of the run's configuration."""

    judge_url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """An OpenAI-compatible base URL, such as `http://127.0.0.1:8000/v1`."""
    judge_model: str | None = None
    """Model name to ask for; default: the first one the server lists."""
    judge_key_env: str | None = None
    """Name of the environment variable with the judge's key, set on every node."""
    judge_connections: PositiveInt = 64
    """Requests to the judge at once, of one worker process."""
    n: Annotated[int, Field(ge=2)] = 4
    """Replies a stage."""
    weight: Fraction = 0.9
    """Share of the mean reward of stage 2 that the picked reply of stage 1 gains."""
    unpicked: Fraction | Literal["running-mean"] = 0.45
    """What the other replies gain: a constant, or `weight` times the mean reward of stage 2 over the
    users that this worker saw last, so that being picked is worth nothing by itself."""
    divide_by_std: bool = True
    """Divides the advantages of a group by its standard deviation."""
    past_tokens: PositiveInt = 1024
    """Estimated tokens of the past summary in a prompt of stage 2, as in serving."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the picks, together with the row and the step."""


@register_adv_est("own_score")  # type: ignore[untyped-decorator]
def own_score_advantages(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns, rows by tokens: each row's only reward, at every token of its reply."""
    advantages = token_level_rewards.sum(dim=-1, keepdim=True) * response_mask
    return advantages, advantages


class Row(AgentLoopOutput):  # type: ignore[misc]  # verl has no types here
    """One reply with a score of its own.

    verl takes the rows of one loop for the turns of one conversation and writes the last one's score
    and score details over those of the others. What is kept here outlives that.
    """

    own_score: float
    own_details: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        stored: dict[str, Any] = super().as_dict()
        del stored["own_score"], stored["own_details"]
        stored["rm_scores"] = torch.zeros(len(self.response_mask), dtype=torch.float32)
        stored["rm_scores"][-1] = self.own_score
        stored["extra_fields"] = {**stored["extra_fields"], "reward_extra_info": self.own_details}
        return stored


@dataclass(frozen=True, slots=True)
class Stage:
    """One prompt and the replies to it."""

    prompt_ids: list[int]
    outputs: Sequence[Any]
    """verl's TokenOutput, one a reply."""
    replies: list[str]
    rewards: list[Reward]
    """Before coupling."""
    seconds: float
    opened: bool
    """The chat template has written <think> already."""

    def summary(self, index: int) -> str:
        """What serving would keep of a reply; empty for one without the form."""
        return scored_answer(self.replies[index], opened=self.opened)

    @property
    def totals(self) -> list[float]:
        return [reward.total for reward in self.rewards]


@register("two_stage")
class TwoStage(AgentLoopBase):  # type: ignore[misc]  # verl has no types here
    """Runs both stages of one user; verl makes an object for each."""

    recent: ClassVar[deque[float]] = deque([0.5], maxlen=1024)
    """Mean rewards of stage 2 of the users that this process saw last; at first the published
    assumption. verl gives objects that live for one user no other place to keep it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = Settings.model_validate(OmegaConf.to_container(self.config.two_stage, resolve=True))
        options = self.settings
        self.judge = letters_at(
            options.judge_url, options.judge_model, options.judge_key_env, options.judge_connections
        )

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[Row]:
        """The rows of one user: stage 1, then stage 2. Outside of training, one reply a stage."""
        info = row["extra_info"]
        learning = info["split"] == TRAIN
        n = self.settings.n if learning else 1
        sample = partial(self._stage, sampling_params=sampling_params, n=n)
        first = await sample(list(row["raw_prompt"]), target=info["target1"])
        pick = self._pick(n, info["index"], row.get("global_steps", 0))
        messages = await self._second_prompt(first.summary(pick), info["later"])
        second = await sample(messages, target=info["target2"])
        coupled = self._couple(first, second, pick) if learning else first.totals
        rows = []
        for number, stage, totals in ((1, first, coupled), (2, second, second.totals)):
            scores = group_advantages(totals, divide_by_std=self.settings.divide_by_std) if learning else totals
            rows += [self._row(stage, index, scores[index], number, totals[index]) for index in range(n)]
        return rows

    def _pick(self, n: int, *position: Any) -> int:
        return random.Random(f"{self.settings.seed}/{position}").randrange(n)

    def _couple(self, first: Stage, second: Stage, pick: int) -> list[float]:
        unpicked, weight = self.settings.unpicked, self.settings.weight
        if unpicked == "running-mean":
            unpicked = weight * statistics.fmean(self.recent)
            self.recent.append(statistics.fmean(second.totals))
        return couple([first.totals], [second.totals], [pick], weight=weight, unpicked=unpicked)[0]

    async def _second_prompt(self, past: str, later: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
        """The prompt of stage 2, within verl's prompt length by the policy's own tokenizer."""

        def count(messages: Sequence[ChatMessage]) -> int:
            return len(self.continuous_token_builder.build_initial_tokens(list(messages), tools=None))

        def fit() -> list[ChatMessage]:
            limit, past_tokens = int(self.rollout_config.prompt_length), self.settings.past_tokens
            history = [Triple.model_validate(triple).comparison() for triple in later]
            return fit_prompt(past or None, history, past_tokens=past_tokens, limit=limit, count=count)[0]

        return await asyncio.to_thread(fit)

    async def _stage(
        self, messages: list[ChatMessage], *, target: Mapping[str, Any], sampling_params: dict[str, Any], n: int
    ) -> Stage:
        prompt_ids = await self.ct_build_initial_tokens(messages)
        # One name for all n keeps them on one server, which then reads their prompt once.
        name = uuid4().hex
        timing: dict[str, float] = {}
        with simple_timer("generate", timing):
            outputs = await asyncio.gather(
                *(
                    self.server_manager.generate(
                        request_id=name, prompt_ids=prompt_ids, sampling_params=dict(sampling_params)
                    )
                    for _ in range(n)
                )
            )
        replies = [self.tokenizer.decode(self._response_tokens(output), skip_special_tokens=True) for output in outputs]
        pair = Pair(target["query"] or "", target["chosen"], target["rejected"])
        opened = self.tokenizer.decode(prompt_ids[-_TAIL:]).rstrip().endswith("<think>")
        rewards = await selection_rewards(self.judge, replies, [pair] * n, opened=opened)
        return Stage(prompt_ids, outputs, replies, rewards, timing["generate"], opened)

    def _response_tokens(self, output: Any) -> list[int]:
        tokens: list[int] = output.token_ids[: self.rollout_config.response_length]
        if not tokens:
            raise ValueError("the rollout server answered without a token")
        return tokens

    def _row(self, stage: Stage, index: int, score: float, number: int, coupled: float) -> Row:
        output = stage.outputs[index]
        tokens = self._response_tokens(output)
        reward = stage.rewards[index]
        # "reward" is verl's own name for the score of a validation row, so none is called so here.
        details = {"stage": float(number), "coupled": coupled, "judged": reward.total}
        details |= {"format": reward.parts["format"], "accuracy": reward.parts.get("accuracy", 0.0)}
        preempted = -1 if output.num_preempted is None else output.num_preempted
        return Row(
            prompt_ids=stage.prompt_ids,
            response_ids=tokens,
            response_mask=[1] * len(tokens),
            response_logprobs=output.log_probs[: len(tokens)] if output.log_probs else None,
            num_turns=2,
            metrics=AgentLoopMetrics(generate_sequences=stage.seconds, num_preempted=preempted),
            reward_score=score,  # set, so that verl asks no reward worker
            own_score=score,
            own_details=details,
            # The weights' versions are among the server's extra fields; verl's metrics need them.
            extra_fields={**output.extra_fields, "reward_extra_info": details, "turn_scores": [], "tool_rewards": []},
        )
