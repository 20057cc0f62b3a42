"""Typed configurations of the training stages: one TOML file a run, read and checked before anything loads.

    python -m training.sft training/configs/nano/sft.toml optim.max_steps=10

A stage's script is given a file and, after it, single fields to set otherwise (`section.field=value`,
the value as TOML or plain text). A mistake is a `ConfigError` that names the file, the field and what
is allowed there. Paths in a file are relative to the folder the script is started in.
"""

import argparse
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.exceptions import ConfigError, TrainingError


class Section(BaseModel):
    """A table of a configuration: unknown fields are mistakes, and nothing changes after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]


class Lora(Section):
    """Trains low-rank adapters in place of all weights."""

    rank: PositiveInt = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Fraction = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the linear layers that get an adapter."""


class Model(Section):
    path: str
    """A checkpoint folder, or a model's name that the local cache holds."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the trained weights. At a learning rate of 1e-6, bfloat16 rounds updates away."""
    lora: Lora | None = None


class Data(Section):
    train: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Files or folders of rows: .jsonl, .json, .parquet."""
    limit: PositiveInt | None = None
    """Reads at most this many rows."""
    malformed: Literal["skip", "fatal"] = "skip"
    """Whether a row that cannot be read is counted and left out, or ends the run."""


class Optim(Section):
    """AdamW and its schedule."""

    learning_rate: Annotated[float, Field(gt=0, le=1)]
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    min_rate: Fraction = 0.0
    """Where the cosine ends, as a share of the learning rate."""
    warmup: Annotated[float, Field(ge=0)] = 0.0
    """Below 1 a share of the run, else a number of steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: PositiveInt | None = None
    """Ends the run here, whatever the epochs say."""
    batch: PositiveInt
    """Rows of one optimizer step, over all devices."""
    micro_batch: PositiveInt
    """Rows that one device takes at once; `batch` is a multiple of it times the devices."""

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Self:
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is no multiple of micro_batch {self.micro_batch}")
        return self

    def accumulation(self, devices: int) -> int:
        """Micro-batches of one device before an optimizer step. Raises ConfigError."""
        steps, rest = divmod(self.batch, self.micro_batch * devices)
        if rest or not steps:
            at_once = self.micro_batch * devices
            raise ConfigError(f"optim.batch {self.batch} is no multiple of micro_batch times devices, {at_once}")
        return steps


class Run(Section):
    output: Path
    """The folder of the finished checkpoint; work in progress stands beside it, in `<output>.run`."""
    seed: Annotated[int, Field(ge=0)] = 0
    resume: bool = True
    """Continues from the newest whole checkpoint of an interrupted run of the same configuration."""
    save_every: PositiveInt = 200
    """Optimizer steps between checkpoints one can resume from."""
    keep: PositiveInt = 2
    """How many of those are kept."""
    log_every: PositiveInt = 10
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of the arithmetic (autocast); weights are kept in `model.dtype`."""
    gradient_checkpointing: bool = False
    """Saves memory for about a third more arithmetic."""
    deepspeed: Path | None = None
    """A DeepSpeed JSON, for runs under torchrun."""
    fsdp: bool = False
    """Shards the model with PyTorch's FSDP2, for runs under torchrun."""
    tensorboard: bool = True
    final_weights: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the weights in `output`."""

    @model_validator(mode="after")
    def _one_way_to_shard(self) -> Self:
        if self.deepspeed and self.fsdp:
            raise ValueError("deepspeed and fsdp exclude each other")
        return self


class Stage(Section):
    """What every stage has; the stages add their own tables."""

    stage: str
    model: Model
    data: Data
    optim: Optim
    run: Run


StageType = TypeVar("StageType", bound=Section)


def load(path: Path, kind: type[StageType], overrides: Sequence[str] = ()) -> StageType:
    """The configuration in `path` as `kind`, with `overrides` such as `optim.max_steps=10` applied.

    Raises ConfigError, which lists every mistake with file, field and allowed values.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    for override in overrides:
        _set(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_mistake(kind, each)}" for each in error.errors())) from error


def _set(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    *sections, field = name.strip().split(".")
    if not equals or not field:
        raise ConfigError(f"{override!r} is not of the form section.field=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{override!r}: {section} is a value, not a section")
    values[field] = value


def _mistake(kind: type[BaseModel], error: Any) -> str:
    """`section.field: what is wrong`, with the names that would have been right."""
    place = [str(part) for part in error["loc"]]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        table = _table(kind, place[:-1])
        names = ", ".join(table.model_fields) if table else "other names"
        message = f"unknown field; allowed here: {names}"
    elif error["type"] != "missing" and not isinstance(error["input"], dict):
        message += f" (it is {error['input']!r})"
    return f"{'.'.join(place) or 'the file'}: {message}"


def _table(kind: type[BaseModel], place: Sequence[str]) -> type[BaseModel] | None:
    for name in place:
        field = kind.model_fields.get(name)
        if field is None:
            return None
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        tables = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not tables:
            return None
        kind = tables[0]
    return kind


def devices() -> int:
    """Processes of this run: torchrun's WORLD_SIZE, or 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def run_script(kind: type[StageType], stage: Callable[[StageType], object], arguments: Sequence[str] | None) -> None:
    """The command line of a stage: reads its configuration, runs it, and ends with a clear sentence
    and status 2 when the configuration or the data are wrong."""
    parser = argparse.ArgumentParser(description=(stage.__doc__ or "").strip().split("\n")[0])
    parser.add_argument("config", type=Path, help="a TOML file, see training/configs/")
    parser.add_argument("overrides", nargs="*", metavar="section.field=value", help="set a field otherwise")
    given = parser.parse_args(arguments)
    try:
        stage(load(given.config, kind, given.overrides))
    except TrainingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
