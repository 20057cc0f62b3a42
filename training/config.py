"""Typed configurations of all training scripts: one TOML file a run, checked before anything loads.

    python -m training.sft training/configs/nano/sft.toml optim.max_steps=10

A script takes a file and, after it, overrides of single fields (`section.field=value`, the value as TOML or
plain text). A mistake is a `ConfigError` that names the file, the field and what is allowed there. Paths
in a file are relative to the working directory.
"""

import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.prompts.build import whole_prompt
from services.prompts.profiles import load_profile
from training.exceptions import ConfigError, PartEnded, TrainingError

SMALLEST_BFLOAT16_RATE: Final = 1e-4
"""AdamW moves a weight by about the learning rate. Bfloat16 weights of .02 are 1.2e-4 apart, and half of that is
rounded away."""


class Section(BaseModel):
    """A table of a configuration: refuses unknown fields, and is immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]


def _check_prompts(name: str) -> str:
    if whole_prompt(load_profile(name).update_prompt(None, (), past_tokens=0).messages):
        raise ValueError(f"{name} is for raw completion, which serving alone asks for")
    return name


Prompts = Annotated[str, AfterValidator(_check_prompts)]
"""A prompt profile as of ALIGNX_SUMMARY__PROMPTS: own, alignxplore-plus, or a profile file."""


class Lora(Section):
    """Trains low-rank adapters instead of all weights."""

    rank: PositiveInt = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Fraction = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the linear layers that get an adapter."""
    start: Path | None = None
    """An adapter of the same rank, alpha and targets to go on from, such as models/alignx-small; default: a fresh
    one."""


class Model(Section):
    path: str
    """A checkpoint folder, or a model's name that the local cache holds."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. Trained ones in bfloat16 lose small updates; float32 ones under `run.precision` bf16 take the
    memory of bfloat16 ones with float32 masters, 16 bytes a parameter. Under adapters the base may be bfloat16."""
    lora: Lora | None = None


class Data(Section):
    train: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Files or folders of rows: .jsonl, .json, .parquet."""
    limit: PositiveInt | None = None
    """Reads at most this many rows."""
    malformed: Literal["skip", "fatal"] = "skip"
    """Whether a malformed row is counted and left out, or ends the run."""


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
    """Ends the run after these steps, before the epochs do."""
    batch: PositiveInt
    """Rows of one optimizer step, over all devices."""
    micro_batch: PositiveInt
    """Rows of a forward on one device; `batch` is a multiple of it times the devices."""

    @model_validator(mode="after")
    def _check_micro_batch(self) -> Self:
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is no multiple of micro_batch {self.micro_batch}")
        return self

    def accumulation(self, devices: int) -> int:
        """Micro-batches of one device before an optimizer step. Raises ConfigError."""
        steps, rest = divmod(self.batch, self.micro_batch * devices)
        if rest or not steps:
            rows = self.micro_batch * devices
            raise ConfigError(f"optim.batch {self.batch} is no multiple of micro_batch times devices, {rows}")
        return steps


class Run(Section):
    output: Path
    """The folder of the finished checkpoint; the work in progress is in `<output>.run`."""
    seed: Annotated[int, Field(ge=0)] = 0
    resume: bool = True
    """Continues from the newest complete checkpoint of an interrupted run of the same configuration on as many
    processes."""
    save_every: PositiveInt = 200
    """Optimizer steps between checkpoints to resume from."""
    keep: PositiveInt = 2
    """How many of those stay on disk."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """Ends this part of the run at the first such checkpoint after these hours, with status 75; the same command goes
    on from it. Torchrun makes the status 1, training.runs.torchrun keeps it."""
    log_every: PositiveInt = 10
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of the arithmetic (autocast); weights have `model.dtype`."""
    gradient_checkpointing: bool = False
    """Uses less memory, for about a third more arithmetic."""
    memory: Literal["refuse", "warn"] = "refuse"
    """What follows when the run would take more memory than its device has, by estimate."""
    deepspeed: Path | None = None
    """A DeepSpeed JSON, for runs under torchrun."""
    fsdp: bool = False
    """Shards the model with PyTorch's FSDP2, for runs under torchrun."""
    tensorboard: bool = True
    final_weights: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the weights in `output`."""

    @model_validator(mode="after")
    def _check_sharding(self) -> Self:
        if self.deepspeed and self.fsdp:
            raise ValueError("deepspeed and fsdp exclude each other")
        return self


class Stage(Section):
    """The tables of every stage; each adds its own."""

    stage: str
    model: Model
    data: Data
    optim: Optim
    run: Run

    @model_validator(mode="after")
    def _check_precision(self) -> Self:
        rounds = self.model.dtype == "bfloat16" and self.model.lora is None and not self.run.deepspeed
        if rounds and self.optim.learning_rate < SMALLEST_BFLOAT16_RATE:
            raise ValueError(
                "model.dtype must be float32: in bfloat16 a learning rate below "
                f"{SMALLEST_BFLOAT16_RATE:g} leaves most weights as they are"
            )
        return self


PART_ENDED: Final = 75
"""Status of a script that ended after `run.hours` and is to be called again: EX_TEMPFAIL of sysexits.h."""

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
        raise ConfigError("\n".join(f"{path}: {_mistake(kind, mistake)}" for mistake in error.errors())) from error


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
    """`section.field: what is wrong`, with the allowed names for an unknown one."""
    names = [str(part) for part in error["loc"]]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        table = _table(kind, names[:-1])
        allowed = ", ".join(table.model_fields) if table else "other names"
        message = f"unknown field; allowed here: {allowed}"
    elif error["type"] != "missing" and not isinstance(error["input"], dict):
        message += f" (it is {error['input']!r})"
    return f"{'.'.join(names) or 'the file'}: {message}"


def _table(kind: type[BaseModel], names: Sequence[str]) -> type[BaseModel] | None:
    """The table at `names` within `kind`."""
    for name in names:
        field = kind.model_fields.get(name)
        if field is None:
            return None
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        tables = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not tables:
            return None
        kind = tables[0]
    return kind


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of nested tables, named `section.field`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def devices() -> int:
    """Processes of this run: torchrun's WORLD_SIZE, or 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def run_script(
    kind: type[StageType], stage: Callable[[StageType], object], arguments: Sequence[str] | None = None
) -> None:
    """The command line of every script with a configuration: a TOML file, then `section.field=value`.

    Prints one sentence and exits with status 2 when the configuration or the data are wrong, and with 75 after a part.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0].startswith("-"):
        about = (stage.__doc__ or "").strip().split("\n")[0]
        print(f"{about}\n\nArguments: CONFIG [section.field=value ...]\nCONFIG is a TOML file, see training/configs/")
        raise SystemExit(0 if words and words[0] in ("-h", "--help") else 2)
    try:
        stage(load(Path(words[0]), kind, words[1:]))
    except PartEnded as ended:
        print(ended)
        leave_group()
        raise SystemExit(PART_ENDED) from None
    except TrainingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    leave_group()


def leave_group() -> None:
    """All processes of a run leave their group together: where Python ends before, gloo's threads abort it."""
    if devices() == 1:
        return
    from torch import distributed  # most scripts with a configuration need no torch

    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
