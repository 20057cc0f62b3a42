"""Reinforcement learning: a model learns to write summaries from which a judge predicts choices.

    python -m training.grpo training/configs/nano/grpo_streaming.toml [section.field=value …]
    torchrun --nproc-per-node 8 -m training.grpo training/configs/full/alignxplus_rl.toml

For AlignXplore's two rewards (`jud`, `gen`: rows with a history and one target) and AlignXplore+'s
two-stage `streaming`, with TRL's GRPOTrainer. One rollout, and the optimizer steps made of it:

1. rl/rows.py      The sampler gives the rows of the rollout's users, each row `generations` times.
2. rl/policy.py    The model writes a reply to each; one computation of a prompt serves all its replies.
   rl/rollouts.py  Streaming: writes stage 1, picks one reply of each user as the past summary, writes stage 2.
3. rl/rewards.py   The judge (judges.py) scores the summary in each reply on the user's next choice.
4. TRL             The advantage of a reply is its reward against the other replies to its prompt.
5. rl/policy.py    TRL's clipped loss on micro-batches of like length; `updates` optimizer steps.

Rows are counted as replies: `optim.batch` replies make an optimizer step, so a rollout holds
batch * updates / generations prompts, and with `streaming` half as many users.
"""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, Literal, Self

import training.libraries  # noqa: F401  # checks the versions of TRL and transformers before their import

# isort: split
from accelerate import PartialState
from datasets import Dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils.logging import disable_progress_bar
from pydantic import model_validator
from trl import GRPOConfig as Arguments

from services.prompts.profiles import load_profile
from training.checkpoint import resume_point, run_dir
from training.config import Stage, devices, run_script
from training.data.formats import AlignXploreRow, RlRow
from training.data.reading import ReadReport, read
from training.exceptions import ConfigError, DatasetError
from training.finish import finish
from training.judges import Judge, close_judge, open_judge
from training.rl.policy import Trainer
from training.rl.rewards import GainRule
from training.rl.rollouts import (
    RewardFunction,
    judgement_reward,
    likelihood_reward,
    make_rollout,
    streaming_reward_function,
)
from training.rl.rows import Grpo, paired_rows, single_rows
from training.speed.memory_estimate import MicroBatch, available_memory, check_memory
from training.trl_arguments import load_tokenizer, on_cpu, shared_arguments

PROMPTS: Final = "prompts"
"""Folder of the run with its rows as an Arrow file, written anew at each start."""


class GrpoConfig(Stage):
    stage: Literal["grpo"]
    grpo: Grpo
    judge: Judge = Judge()

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        rows, group = self.optim.batch * self.grpo.updates, self.grpo.stages * self.grpo.generations
        if rows % group:
            raise ValueError(
                f"optim.batch {self.optim.batch} times grpo.updates {self.grpo.updates} is no multiple of {group}, "
                f"the replies to one user ({self.grpo.stages} stages times grpo.generations {self.grpo.generations})"
            )
        if self.run.save_every % self.grpo.updates:
            raise ValueError(
                f"run.save_every {self.run.save_every} is no multiple of grpo.updates {self.grpo.updates}: "
                "a run resumes where a rollout begins"
            )
        if self.grpo.reward == "gen" and self.judge.engine:
            raise ValueError("judge.engine gives no likelihoods; grpo.reward gen needs a model in process, judge.path")
        return self

    def users(self) -> int:
        """Users of a rollout, over all devices. Raises ConfigError where a device would get part of one."""
        rows, group = self.optim.batch * self.grpo.updates, self.grpo.stages * self.grpo.generations
        if rows % (group * devices()):
            raise ConfigError(
                f"optim.batch {self.optim.batch} times grpo.updates {self.grpo.updates} is no multiple of "
                f"{group * devices()}, the {group} replies to one user on each of {devices()} devices"
            )
        return rows // group

    def largest_batch(self) -> MicroBatch:
        """Of a policy step, or of writing the replies. A judge in this process stays in memory, on a GPU in bf16."""
        grpo, rows = self.grpo, self.optim.micro_batch
        is_half = self.judge.precision == "bf16" and self.model.dtype == "float32" and not on_cpu()
        judge = 0.0 if self.judge.engine else 0.5 if is_half else 1.0
        copies = judge + int(grpo.beta > 0 and self.model.lora is None)
        cached = grpo.write_tokens if grpo.vllm == "off" else 0
        row = grpo.prompt_tokens + grpo.new_tokens
        whole = self.optim.batch * grpo.updates // devices() * row
        if grpo.share_prompts and rows >= grpo.generations:
            rows, row = rows // grpo.generations, grpo.prompt_tokens + grpo.generations * grpo.new_tokens
        return MicroBatch(
            rows,
            row,
            "grpo.prompt_tokens or grpo.new_tokens",
            is_masked=grpo.share_prompts,
            cached_tokens=min(cached, whole),
            frozen_copies=copies,
            other_bytes=grpo.vllm_memory * available_memory() if grpo.vllm == "colocate" else 0.0,
        )


def grpo_arguments(config: GrpoConfig) -> Arguments:
    """TRL's arguments. Raises ConfigError."""
    grpo = config.grpo
    general = shared_arguments(config)
    vllm: dict[str, Any] = {"use_vllm": grpo.vllm != "off"}
    if grpo.vllm == "colocate":
        vllm |= {"vllm_mode": "colocate", "vllm_gpu_memory_utilization": grpo.vllm_memory}
        vllm |= {"vllm_max_model_length": grpo.prompt_tokens + grpo.new_tokens}
    elif grpo.vllm == "server":
        vllm |= {"vllm_mode": "server", "vllm_server_base_url": grpo.vllm_url}
    return Arguments(
        **general,
        **vllm,
        num_generations=grpo.generations,
        steps_per_generation=general["gradient_accumulation_steps"] * grpo.updates,
        max_completion_length=grpo.new_tokens,
        temperature=grpo.temperature,
        beta=grpo.beta,
        epsilon=grpo.epsilon,
        delta=grpo.delta,
        loss_type=grpo.loss,
        scale_rewards="group" if grpo.advantage == "group-std" else "none",
        shuffle_dataset=False,
        log_completions=False,
    )


def load_rows(config: GrpoConfig) -> Dataset:
    """The rows of the run, from a file that all processes map. Raises DatasetError."""
    folder = run_dir(config.run.output) / PROMPTS
    if PartialState().is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    disable_progress_bar()
    with PartialState().main_process_first():
        try:
            rows = Dataset.from_generator(lambda: _rows(config), cache_dir=str(folder), fingerprint=PROMPTS)
        except DatasetGenerationError as error:  # wraps the reader's error
            raise error.__cause__ or error from None
    users, needed = len(rows) // config.grpo.stages, config.users()
    if users < needed:
        raise DatasetError(
            f"{config.data.train[0]}: {users} users are fewer than the {needed} of one rollout "
            "(optim.batch * grpo.updates / grpo.generations, and half of that with two stages)"
        )
    return rows


def _rows(config: GrpoConfig) -> Iterator[Any]:
    data, report = config.data, ReadReport()
    kind = RlRow if config.grpo.reward == "streaming" else AlignXploreRow
    read_rows = (row for file in data.train for row in read(file, kind, malformed=data.malformed, report=report))
    users: Iterator[Any] = islice(read_rows, data.limit)
    if config.grpo.reward == "streaming":
        yield from paired_rows(users, config.grpo)
    else:
        yield from single_rows(users, config.grpo.prompt_tokens, load_profile(config.grpo.prompts))
    if report.left_out:
        print(f"{report.rows:,} rows, {report.left_out:,} malformed left out")


def reward_function(config: GrpoConfig, judge: Any, tokenizer: Any) -> RewardFunction:
    grpo = config.grpo
    match grpo.reward:
        case "streaming":
            return streaming_reward_function(grpo, judge, tokenizer)
        case "jud":
            return judgement_reward(grpo, judge, tokenizer)
        case "gen":
            scorer = partial(judge.token_logprobs, fit=True)
            return likelihood_reward(scorer, tokenizer, GainRule(grpo.gain, grpo.margin, grpo.smooth))


def grpo(config: GrpoConfig) -> dict[str, Any]:
    """Runs a reinforcement learning and writes its checkpoint; returns its metrics."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # of rollout_func; its version is pinned
    settings = config.grpo
    arguments = grpo_arguments(config)
    tokenizer = load_tokenizer(config)
    checkpoint = resume_point(config)
    rows = load_rows(config)
    check_memory(config, config.largest_batch())
    judge = open_judge(config.judge, config, arguments.device)
    trainer = Trainer(
        config=config,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        reward_funcs=reward_function(config, judge, tokenizer),
        rollout_func=make_rollout(settings, config.run.seed) if settings.reward == "streaming" else None,
        settings=settings,
        users=config.users(),
    )
    with close_judge(judge, trainer.async_loop, config.run.output):
        trainer.train(checkpoint)
        return finish(trainer, config, len(rows) // settings.stages)


if __name__ == "__main__":
    run_script(GrpoConfig, grpo)
