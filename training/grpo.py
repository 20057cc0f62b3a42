"""Reinforcement learning: a model learns to write summaries by which a judge foresees choices.

    python -m training.grpo training/configs/nano/grpo_streaming.toml [section.field=value …]
    torchrun --nproc-per-node 8 -m training.grpo training/configs/full/alignxplus_rl.toml

For AlignXplore's two rewards (`jud`, `gen`: rows with a history and one target) and AlignXplore+'s
two-stage `streaming`. TRL's GRPOTrainer; what is ours is the order of the rows, the rewards, the judge,
and that the replies to one prompt share its computation (training/speed/generate.py, training/speed/prefix_sharing.py).

Rows are counted as replies: `optim.batch` replies make an optimizer step, `grpo.updates` such steps
are made of one rollout, so a rollout holds batch * updates / generations prompts, and with `streaming`
half as many users.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Final, Literal, Self

from accelerate import PartialState
from datasets import Dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils.logging import disable_progress_bar
from pydantic import Field, model_validator
from transformers.utils.logging import disable_progress_bar as disable_loading_bar
from trl import GRPOConfig as Arguments

from services.errors import EngineRejected
from training.checkpoint import resume_point, run_dir
from training.config import Fraction, PositiveInt, Section, Stage, devices, run_script
from training.data.formats import AlignXploreRow, RlRow
from training.data.reading import ReadReport, read
from training.exceptions import ConfigError, DatasetError, warn_on_failure
from training.finish import end
from training.judges import Judge, RemoteJudge, judge_of
from training.progress import Progress
from training.rl.policy import Plan, Trainer
from training.rl.rewards import GainForm
from training.rl.rollouts import RewardFunction, judgement_reward, likelihood_reward, single_rows
from training.rl.two_stage import TwoStage, make_reward, make_rollout, paired_rows
from training.trl_arguments import adapter, base_tokenizer, on_cpu, shared

PROMPTS: Final = "prompts"
"""Folder of the run that holds its rows as an Arrow file, made anew at each start."""


class Grpo(Section):
    reward: Literal["streaming", "jud", "gen"]
    """AlignXplore+'s two stages; AlignXplore's choice of a judge; its likelihood under a response model."""
    generations: Annotated[int, Field(ge=2)] = 4
    """Replies to each prompt."""
    updates: PositiveInt = 1
    """Optimizer steps made of one rollout; the published AlignXplore+ makes four."""
    prompt_tokens: PositiveInt = 8_192
    """Estimated tokens of a prompt; the oldest choices of a longer one are left out."""
    new_tokens: PositiveInt = 2_048
    """Tokens of a reply; a longer one is cut off, and earns nothing unless its form is whole."""
    past_tokens: PositiveInt = 1_024
    """Estimated tokens of the past summary in a prompt of stage 2."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far a token's probability ratio counts, both ways."""
    delta: Annotated[float, Field(gt=1)] | None = None
    """The dual clip: where the ratio of a token with a negative advantage is cut; AlignXplore+ has 3.0."""
    loss: Literal["bnpo", "dapo"] = "bnpo"
    """Mean over the tokens of a micro-batch, or over those of all rows of the step."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL divergence from the model the run starts from; above 0 that is held as well."""
    advantage: Literal["group-std", "unscaled-as-published"] = "group-std"
    """Whether rewards less their group's mean are divided by its standard deviation. AlignXplore's
    published code means to, but divides by the truth value of `std > 0`, which is 1."""
    weight: Annotated[float, Field(ge=0)] = 0.9
    """Streaming: share of the mean reward of stage 2 that goes to the reply it was built on."""
    unpicked: Annotated[float, Field(ge=0)] | Literal["batch-mean"] = 0.45
    """Streaming: what the other replies of stage 1 get in its place. The published constant supposes a
    mean of .5; "batch-mean" takes `weight` times the mean of the rollout."""
    pick: Literal["any", "usable"] = "any"
    """Streaming: whether a reply without a summary can become the past."""
    gain: GainForm = "probability-sum"
    """Gen: what stands for the likelihood of a response."""
    margin: Fraction = 0.03
    """Gen: by how much the likelihood ratio must rise."""
    smooth: bool = False
    """Gen: the logistic of the gain in place of 0 or 1."""
    share_prompts: bool = True
    """Whether the replies to a prompt share its computation in training. Their mask takes the square of
    the tokens of prompt and replies together: not for prompts of many thousand tokens."""
    write_tokens: PositiveInt = 131_072
    """Tokens of prompts and replies that the model holds at once while it writes them itself."""
    vllm: Literal["off", "colocate", "server"] = "off"
    """Who writes the replies: the model itself, vLLM on the same GPUs, or `trl vllm-serve` elsewhere."""
    vllm_url: str | None = None
    """Of that server, such as http://127.0.0.1:8000."""
    vllm_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of each GPU's memory for vLLM on the same GPUs."""

    @property
    def stages(self) -> int:
        return 2 if self.reward == "streaming" else 1

    @model_validator(mode="after")
    def _server_named(self) -> Self:
        if (self.vllm == "server") != (self.vllm_url is not None):
            raise ValueError('vllm = "server" and vllm_url are given together or not at all')
        return self


class GrpoConfig(Stage):
    stage: Literal["grpo"]
    grpo: Grpo
    judge: Judge = Judge()

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
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

    def plan(self) -> Plan:
        """Raises ConfigError."""
        run, grpo = self.run, self.grpo
        return Plan(
            seed=run.seed,
            together=grpo.stages,
            users=self.users(),
            updates=grpo.updates,
            share_prompts=grpo.share_prompts,
            writes=grpo.vllm == "off" and not run.deepspeed and not run.fsdp,
            write_tokens=grpo.write_tokens,
            autocast_writing=run.precision == "bf16" and not on_cpu(),
        )

    def two_stages(self) -> TwoStage:
        names = ("generations", "prompt_tokens", "past_tokens", "weight", "unpicked", "pick")
        return TwoStage(**{name: getattr(self.grpo, name) for name in names}, seed=self.run.seed)


def arguments_of(config: GrpoConfig) -> Arguments:
    """TRL's arguments. Raises ConfigError."""
    grpo = config.grpo
    general = shared(config)
    vllm: dict[str, Any] = {"use_vllm": grpo.vllm != "off"}
    if grpo.vllm == "colocate":
        window = grpo.prompt_tokens + grpo.new_tokens
        vllm |= {"vllm_mode": "colocate", "vllm_gpu_memory_utilization": grpo.vllm_memory}
        vllm |= {"vllm_max_model_length": window}
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


def prompts(config: GrpoConfig) -> Dataset:
    """The rows of the run, as a file that the processes map. Raises DatasetError."""
    folder = run_dir(config.run.output) / PROMPTS
    if PartialState().is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    disable_progress_bar()
    with PartialState().main_process_first():
        try:
            found = Dataset.from_generator(lambda: _rows(config), cache_dir=str(folder), fingerprint=PROMPTS)
        except DatasetGenerationError as error:  # around whatever the reading raised
            raise error.__cause__ or error from None
    users, wanted = len(found) // config.grpo.stages, config.users()
    if users < wanted:
        raise DatasetError(
            f"{config.data.train[0]}: {users} users are fewer than the {wanted} of one rollout "
            "(optim.batch * grpo.updates / grpo.generations, and half of that with two stages)"
        )
    return found


def _rows(config: GrpoConfig) -> Iterator[Any]:
    data, report = config.data, ReadReport()
    kind = RlRow if config.grpo.reward == "streaming" else AlignXploreRow
    read_rows = (row for file in data.train for row in read(file, kind, malformed=data.malformed, report=report))
    users: Iterator[Any] = islice(read_rows, data.limit)
    if config.grpo.reward == "streaming":
        yield from paired_rows(users, config.two_stages())
    else:
        yield from single_rows(users, config.grpo.prompt_tokens)
    if report.left_out:
        print(f"{report.rows:,} rows, {report.left_out:,} malformed left out")


def reward_of(config: GrpoConfig, judge: Any, tokenizer: Any) -> RewardFunction:
    grpo = config.grpo
    match grpo.reward:
        case "streaming":
            return make_reward(config.two_stages(), judge, tokenizer)
        case "jud":
            return judgement_reward(judge, tokenizer)
        case "gen":
            scorer = judge.token_logprobs
            return likelihood_reward(scorer, tokenizer, form=grpo.gain, margin=grpo.margin, smooth=grpo.smooth)


def grpo(config: GrpoConfig) -> dict[str, Any]:
    """Runs a reinforcement learning and writes its checkpoint; returns its metrics."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # of rollout_func; its version is pinned
    disable_loading_bar()
    arguments = arguments_of(config)
    tokenizer = base_tokenizer(config)
    with PartialState().main_process_first():
        newest = resume_point(config)
    rows = prompts(config)
    judge = judge_of(config.judge, config, arguments.device)
    progress = Progress()
    trainer = Trainer(
        config.model.path,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        reward_funcs=reward_of(config, judge, tokenizer),
        rollout_func=make_rollout(config.two_stages()) if config.grpo.reward == "streaming" else None,
        peft_config=adapter(config),
        plan=config.plan(),
        progress=progress,
    )
    found: dict[str, Any] = {}
    try:
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        found = end(trainer, config, progress, len(rows) // config.grpo.stages)
    except EngineRejected as error:
        raise DatasetError(f"the judge cannot read a target with a summary: {error.detail}") from error
    finally:
        if isinstance(judge, RemoteJudge):
            safe = f"the weights are in {config.run.output}"
            with warn_on_failure("closing the judge", safe, when=lambda: bool(found)):
                asyncio.run_coroutine_threadsafe(judge.aclose(), trainer.async_loop).result()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    run_script(GrpoConfig, grpo, arguments)


if __name__ == "__main__":
    main()
