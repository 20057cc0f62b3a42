"""Atomic checkpoints on disk: the finished model, and those that an interrupted run resumes from.

A run has two folders. `output` is the finished checkpoint: it is written to a temporary folder and
renamed, so that a full disk or a kill leaves either the earlier one or none. `<output>.run` is the work
in progress: `checkpoint-N` folders with optimizer and random states, the fingerprint of the
configuration, TensorBoard's events, metrics. A trainer (training/trainer.py) writes `checkpoint-N` inside
`saving/`; when every byte has reached the disk, it gets a marker and moves to `<output>.run`.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from training.config import Stage, devices, flatten
from training.data.whole_file import replace_file
from training.exceptions import CheckpointError, warn_on_failure

MARKER: Final = "whole"
"""Empty file, written last: a `checkpoint-N` without it is incomplete."""
FINGERPRINT: Final = "fingerprint.json"
SAVING: Final = "saving"
NOT_IN_FINGERPRINT: Final = frozenset(
    {"output", "resume", "save_every", "keep", "hours", "log_every", "tensorboard", "final_weights", "memory"}
)
"""Fields of [run] that may change between an interruption and the resumption."""
PROCESSES: Final = "number of processes"
"""In the fingerprint, since the order of the rows depends on it. A run of before that has none, and may go on."""
HASHED_BYTES: Final = 64 << 20
"""Of larger files of a base model only the size is compared."""
DISK_MESSAGES: Final = (
    "No space left", "File too large", "os error 28", "os error 27", "Disk quota", "PytorchStreamWriter"
)  # fmt: skip
"""What torch and safetensors say of a full disk, in errors of their own types."""


def run_dir(output: Path) -> Path:
    """The folder of the work in progress of the run with this output."""
    return output.with_name(f"{output.name}.run")


def checkpoint_folders(output: Path, *, lora: bool) -> tuple[Path, ...]:
    """The folders of a finished checkpoint: its own and, with LoRA, that of the adapter alone."""
    return (output, output.with_name(f"{output.name}.adapter")) if lora else (output,)


# --- the finished checkpoint ---------------------------------------------------------------------


def save(
    model: Any,
    tokenizer: Any,
    out: Path,
    *,
    card: str = "",
    dtype: str,
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes a checkpoint to `out` atomically, in place of an earlier one.

    A model with LoRA adapters is merged into its base, and the adapter alone goes to `<out>.adapter`. `state` are the
    weights if they were gathered from several processes. Raises CheckpointError when the disk does not take it; an
    error of the card is a warning.
    """
    folders = checkpoint_folders(out, lora=is_lora(model))
    if not is_lora(model):
        _save_model(model, tokenizer, out, dtype, state)
    else:
        with _replace_folder(folders[-1]) as folder:
            model.save_pretrained(folder, state_dict=None if state is None else dict(state))
            tokenizer.save_pretrained(folder)
        if state is not None:
            model.load_state_dict(state, strict=False)
        _save_model(model.merge_and_unload(), tokenizer, out, dtype, None)
    if card:
        with warn_on_failure("writing the model card", f"the weights are in {out}"):
            write_card(card, folders)


def _save_model(model: Any, tokenizer: Any, out: Path, dtype: str, state: Mapping[str, torch.Tensor] | None) -> None:
    with _replace_folder(out) as folder:
        model.save_pretrained(folder, state_dict=_cast(state or model.state_dict(), getattr(torch, dtype)))
        config = folder / "config.json"
        values = json.loads(config.read_text(encoding="utf-8")) | {"dtype": dtype}
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        tokenizer.save_pretrained(folder)


def write_card(card: str, folders: Iterable[Path]) -> None:
    """Writes a model card to the folders of a finished checkpoint."""
    for folder in folders:
        (folder / "README.md").write_text(card, encoding="utf-8")


def is_lora(model: Any) -> bool:
    return hasattr(model, "merge_and_unload")


def load_adapter(model: Any, folder: Path) -> None:
    """Sets the adapter of a fresh LoRA model to the one in `folder`, whose weights may lie in several files.

    Raises CheckpointError when it has another shape.
    """
    from peft import set_peft_model_state_dict  # takes a second, and most runs do not use it

    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        weights = load_weights(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"model.lora.start: {folder} is not an adapter: {error}") from error
    own = model.peft_config["default"]
    if (config["r"], config["lora_alpha"]) != (own.r, own.lora_alpha):
        raise CheckpointError(
            f"model.lora.start: {folder} has rank {config['r']} and alpha {config['lora_alpha']}, "
            f"model.lora has {own.r} and {own.lora_alpha:g}"
        )
    names = {name for name, _ in model.named_parameters() if ".lora_" in name}
    if names != {name.replace(".weight", ".default.weight") for name in weights}:
        raise CheckpointError(f"model.lora.start: {folder} adapts other layers than model.lora.targets")
    set_peft_model_state_dict(model, weights)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of all safetensors files in a folder. Raises CheckpointError where there is none."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(f"{folder} holds no safetensors")
    return {name: tensor for path in paths for name, tensor in load_file(path).items()}


def _cast(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights in `dtype`; tied ones stay one tensor, so that they are written once."""
    tensors: dict[int, torch.Tensor] = {}
    for weight in state.values():
        if weight.data_ptr() not in tensors:
            tensors[weight.data_ptr()] = weight.detach().to("cpu", dtype if weight.is_floating_point() else None)
    return {name: tensors[weight.data_ptr()] for name, weight in state.items()}


@contextmanager
def _replace_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which replaces `out` after the block unless that fails."""
    prefix = f".{out.name}.partial-"
    with report_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=prefix, ignore_cleanup_errors=True) as outer:
            fresh = Path(outer) / "fresh"
            fresh.mkdir()
            yield fresh
            for path in fresh.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)  # an engine may run as another user
            _sync_tree(fresh)
            if out.exists():
                out.rename(Path(outer) / "earlier")
            fresh.rename(out)
            _sync(out.parent)


# --- checkpoints to resume from ------------------------------------------------------------------


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete `checkpoint-N` in a run's folder; removes incomplete ones."""
    shutil.rmtree(folder / SAVING, ignore_errors=True)
    for path in list_checkpoints(folder):
        if not (path / MARKER).exists():
            shutil.rmtree(path)
    return next(reversed(list_checkpoints(folder)), None)


def list_checkpoints(folder: Path) -> list[Path]:
    """The folders `checkpoint-N`, lowest step first."""
    paths = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(paths, key=lambda path: int(path.name.rpartition("-")[2]))


def remove(path: Path) -> None:
    """Removes a checkpoint, its marker first: one removed in part is incomplete."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def resume_point(config: Stage) -> Path | None:
    """The checkpoint to resume this run from; None starts from the beginning.

    Raises CheckpointError when the folder holds a checkpoint of a run under another configuration or on another number
    of processes.
    """
    from accelerate import PartialState  # absent where checkpoints are only written, as in .venv-engine

    with PartialState().main_process_first():
        return _resume_point(config)


def _resume_point(config: Stage) -> Path | None:
    folder = run_dir(config.run.output)
    folder.mkdir(parents=True, exist_ok=True)
    newest = latest_checkpoint(folder)
    if not config.run.resume:
        for path in list_checkpoints(folder):
            remove(path)
        newest = None
    path, mine = folder / FINGERPRINT, fingerprint(config)
    theirs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if newest:
        known = {PROCESSES: mine[PROCESSES]} | theirs
        differing = sorted(name for name in mine.keys() | known.keys() if mine.get(name) != known.get(name))
        if differing:
            raise CheckpointError(
                f"{newest} is of a run under another configuration; these differ: {', '.join(differing)}. "
                "Set them back, choose another run.output, or start anew with run.resume=false"
            )
    if mine != theirs:
        with replace_file(path) as file:
            file.write(json.dumps(mine, indent=1, sort_keys=True).encode())
    return newest


def fingerprint(config: Stage) -> dict[str, Any]:
    """All that the loss depends on, flat: fields by name, data by size, the base by content, the processes."""
    values = config.model_dump(mode="json")
    values["run"] = {name: value for name, value in values["run"].items() if name not in NOT_IN_FINGERPRINT}
    flat = dict(flatten(values))
    flat["data.train (contents)"] = [_sizes(path) for path in config.data.train]
    flat["model.path (contents)"] = _contents(Path(config.model.path))
    flat[PROCESSES] = devices()
    return flat


def _sizes(path: Path) -> dict[str, int]:
    files = [path] if path.is_file() else sorted(path.glob("*"))
    return {file.name: file.stat().st_size for file in files if file.is_file()}


def _contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        if path.stat().st_size <= HASHED_BYTES
        else str(path.stat().st_size)
        for path in sorted(folder.glob("*"))
        if path.suffix in (".json", ".safetensors", ".jinja")
    }


def commit(fresh: Path, path: Path) -> None:
    """Marks a written checkpoint as complete and moves it to `path`, once its bytes are on the disk."""
    _sync_tree(fresh)
    with (fresh / MARKER).open("wb") as marker:
        os.fsync(marker.fileno())
    _sync(fresh)
    if path.exists():
        shutil.rmtree(path)
    fresh.rename(path)
    _sync(path.parent)


# --- the disk ------------------------------------------------------------------------------------


@contextmanager
def report_disk_errors(path: Path) -> Iterator[None]:
    """Turns an error of the disk into a CheckpointError that names `path`."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not isinstance(error, OSError) and not any(message in str(error) for message in DISK_MESSAGES):
            raise
        cause = str(getattr(error, "strerror", None) or error).split("\n")[0]
        raise CheckpointError(f"{path}: the checkpoint could not be written: {cause}") from error


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
