"""Rows of a GRPO run: their prompts, the targets that score the replies, and the order of a rollout.

AlignXplore's rewards ask for one summary of a history and score it on the choice after it: one row a user.
AlignXplore+ asks twice: stage 1 infers a summary from the first part of the history, stage 2 reads the
later part with that summary as the past. A user is then two consecutive rows. Every prompt is made by
services/prompts, as in serving.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final, Literal, Self, TypedDict

import numpy as np
import torch
from pydantic import Field, model_validator

from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.items import item_text
from services.prompts.build import ChatMessage, estimate_tokens, fit_interactions
from services.prompts.profiles import OWN, PromptProfile, load_profile
from training.config import Fraction, PositiveInt, Prompts, Section
from training.data.formats import AlignXploreRow, RlRow, Triple
from training.rl.rewards import GainForm

HISTORY_ROLE: Final = "history"
"""Role of the only message of a stage-2 row. It is no prompt: TRL hands a rollout the prompts alone, so
the message carries the events, and the rollout makes the prompt once it has the past summary."""

_FRAME_TOKENS: Final = 64
"""Allowance for the tags around the parts of a prompt and what a chat template puts around messages."""


class Grpo(Section):
    """The table [grpo]; the defaults are those of AlignXplore+."""

    generations: Annotated[int, Field(ge=2)] = 4
    """Replies to each prompt."""
    prompts: Prompts = "own"
    """What the trained model reads; serve it with the same ALIGNX_SUMMARY__PROMPTS."""
    selection_prompts: Prompts = "own"
    """What the judge reads."""
    prompt_tokens: PositiveInt = 8_192
    """Estimated tokens of a prompt; a longer one loses its oldest choices."""
    past_tokens: PositiveInt = 1_024
    """Estimated tokens of the past summary in a prompt of stage 2, as in serving."""
    weight: Annotated[float, Field(ge=0)] = 0.9
    """Streaming: share of the mean reward of stage 2 that goes to the reply it was built on."""
    unpicked: Annotated[float, Field(ge=0)] | Literal["batch-mean"] = 0.45
    """Streaming: what the other replies of stage 1 get instead. The published constant assumes a mean of
    .5; "batch-mean" takes `weight` times the mean of the rollout."""
    pick: Literal["any", "usable"] = "any"
    """Streaming: whether a reply without a summary can become the past; stage 2 then starts without one."""
    reward: Literal["streaming", "jud", "gen"]
    """AlignXplore+'s two stages; AlignXplore's choice of a judge; its likelihood under a response model."""
    updates: PositiveInt = 1
    """Optimizer steps made of one rollout; the published AlignXplore+ makes four."""
    new_tokens: PositiveInt = 2_048
    """Longest reply in tokens; a longer one is truncated, and earns nothing unless it is well formed."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Clip range of a token's probability ratio, both ways."""
    delta: Annotated[float, Field(gt=1)] | None = None
    """Dual clip: the largest ratio of a token with a negative advantage; AlignXplore+ has 3.0."""
    loss: Literal["bnpo", "dapo"] = "bnpo"
    """Mean over the tokens of a micro-batch, or over those of all rows of the step."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL divergence from the model the run starts from; above 0 that stays in memory as well."""
    advantage: Literal["group-std", "unscaled-as-published"] = "group-std"
    """Whether rewards less their group's mean are divided by its standard deviation. AlignXplore's
    published code means to, but divides by the truth value of `std > 0`, which is 1."""
    gain: GainForm = "probability-sum"
    """Gen: the likelihood of a response."""
    margin: Fraction = 0.03
    """Gen: by how much the likelihood ratio must rise."""
    smooth: bool = False
    """Gen: the logistic of the gain instead of 0 or 1."""
    share_prompts: bool = True
    """Whether the replies to a prompt share its computation in training. Their mask grows with the square
    of the tokens of prompt and replies together: not for prompts of many thousand tokens."""
    write_tokens: PositiveInt = 131_072
    """Most tokens of prompts and replies in the cache while the model itself writes them."""
    vllm: Literal["off", "colocate", "server"] = "off"
    """What writes the replies: the model itself, vLLM on the same GPUs, or `trl vllm-serve` elsewhere."""
    vllm_url: str | None = None
    """Of that server, such as http://127.0.0.1:8000."""
    vllm_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of each GPU's memory for vLLM on the same GPUs."""

    @property
    def stages(self) -> int:
        return 2 if self.reward == "streaming" else 1

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        if (self.vllm == "server") != (self.vllm_url is not None):
            raise ValueError('vllm = "server" needs vllm_url, and no other value takes it')
        return self


class Choice(TypedDict):
    """A choice as a column of the dataset."""

    query: str
    chosen: str
    rejected: str


class SingleRow(TypedDict):
    prompt: list[ChatMessage]
    target: Choice


class StageRow(SingleRow):
    stage: int


def single_rows(
    users: Iterable[AlignXploreRow], prompt_tokens: int, prompts: PromptProfile = OWN
) -> Iterator[SingleRow]:
    """One row for each user: the prompt for a summary of the history, and the choice after it."""
    for user in users:
        events = _fit(user.triples(), prompt_tokens, prompts)
        prompt = prompts.update_prompt(None, events, past_tokens=1, whole_history=True)
        yield SingleRow(prompt=prompt.messages, target=_choice(user.target()))


def paired_rows(users: Iterable[RlRow], settings: Grpo) -> Iterator[StageRow]:
    """Two rows for each user: the first part of the history and the choice after it, then the later
    part and the last choice."""
    prompts, past_tokens = load_profile(settings.prompts), settings.past_tokens
    for user in users:
        first = prompts.update_prompt(None, _fit(user.first, settings.prompt_tokens, prompts), past_tokens=past_tokens)
        later = _fit(user.second, settings.prompt_tokens - past_tokens, prompts)
        carrier = ChatMessage(role=HISTORY_ROLE, content=json.dumps([_choice(event) for event in later]))
        yield StageRow(prompt=first.messages, target=_choice(user.first_target), stage=1)
        yield StageRow(prompt=[carrier], target=_choice(user.target()), stage=2)


def stage2_prompt(
    carrier: Sequence[ChatMessage], past: str, past_tokens: int, prompts: PromptProfile = OWN
) -> list[ChatMessage]:
    """The prompt that serving makes of the events of a stage-2 row and the summary before them; an empty
    `past` stands for none."""
    if [message["role"] for message in carrier] != [HISTORY_ROLE]:
        raise ValueError("the second row of a pair is no stage-2 row; give GRPOConfig shuffle_dataset=False")
    events = [ComparisonInteraction(**choice) for choice in json.loads(carrier[0]["content"])]
    return prompts.update_prompt(past or None, events, past_tokens=past_tokens).messages


def _fit(triples: Sequence[Triple], tokens: int, prompts: PromptProfile) -> list[ComparisonInteraction]:
    """The latest choices with which a prompt has at most `tokens`, by estimate."""
    frame = prompts.update_prompt(None, (), past_tokens=1).messages
    budget = tokens - sum(estimate_tokens(message["content"]) for message in frame) - _FRAME_TOKENS
    events = fit_interactions([triple.comparison() for triple in triples], max(budget, 1), prompts.interaction_tokens)
    return [event for event in events if isinstance(event, ComparisonInteraction)]


def _choice(event: Triple | ComparisonInteraction) -> Choice:
    return Choice(query=event.query or "", chosen=item_text(event.chosen), rejected=item_text(event.rejected))


class RolloutSampler(torch.utils.data.Sampler[int]):  # type: ignore[misc]  # torch is untyped here
    """Rows in the order TRL reads them: those of a rollout, each `generations` times, and the whole again
    for each of its `reads`. Users are shuffled by seed and epoch alone, each with its `stages`
    consecutive rows in order; users that fill no rollout are left out."""

    def __init__(self, rows: int, *, stages: int, users: int, generations: int, reads: int, seed: int) -> None:
        """`users` make a rollout, over all devices."""
        self.all_users = rows // stages
        self.stages = stages
        self.users = users
        self.generations = generations
        self.reads = reads
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.all_users // self.users * self.users * self.stages * self.generations * self.reads

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.all_users)
        for start in range(0, self.all_users - self.users + 1, self.users):
            rollout = [
                int(user) * self.stages + stage
                for user in order[start : start + self.users]
                for stage in range(self.stages)
                for _ in range(self.generations)
            ]
            for _ in range(self.reads):
                yield from rollout
