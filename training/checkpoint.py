"""Checkpoints that are whole or not there: the finished model, and those an interrupted run resumes from.

A run has two places. `output` is the finished checkpoint: it is written beside its place and renamed,
so that a full disk or a kill leaves either the earlier one or none. `<output>.run` is the work in
progress: `checkpoint-N` folders with optimizer and random states, the fingerprint of the
configuration, TensorBoard's events, metrics. A trainer writes `checkpoint-N` inside `saving/`; when
every byte has reached the disk, a marker is put in and the folder moves to its place.

    class Trainer(WholeCheckpoints, SFTTrainer): ...
    trainer.train(resume_from_checkpoint=resume_point(config))
    trainer.finish(config)
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

from training.config import Stage
from training.exceptions import CheckpointError, warn_on_failure
from training.rehearsal import Rehearsal

MARKER: Final = "whole"
"""Empty file, written last: a `checkpoint-N` without it is the trace of a save that was cut off."""
FINGERPRINT: Final = "fingerprint.json"
SAVING: Final = "saving"
LEAVES_THE_LOSS: Final = frozenset(
    {"output", "resume", "save_every", "keep", "log_every", "tensorboard", "final_weights"}
)
"""Fields of [run] that may change between an interruption and the resumption."""
HASHED_BYTES: Final = 64 << 20
"""Of larger files of a base model only the size is compared."""
CANNOT_WRITE: Final = (OSError, RuntimeError, SafetensorError)
"""torch's and safetensors' writers tell of a full disk by error types of their own."""


def run_dir(output: Path) -> Path:
    """The folder of the work in progress of a run that will end in `output`."""
    return output.with_name(f"{output.name}.run")


def output_of(run: Path) -> Path:
    """The folder that the run whose work in progress is in `run` will end in."""
    return run.with_name(run.name.removesuffix(".run"))


def folders_of(output: Path, *, lora: bool) -> tuple[Path, ...]:
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
    merge: bool = True,
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes a checkpoint to `out`, in place of an earlier one, whole or not at all.

    A model with LoRA adapters is merged into its base, and the adapter alone stands in
    `<out>.adapter`; with `merge=False`, `out` is the adapter. `state` are the weights where they
    were gathered from several processes. Raises CheckpointError when the disk does not take it; a
    card that cannot be written then is a warning.
    """
    folders = folders_of(out, lora=is_lora(model) and merge)
    if not is_lora(model):
        _save_whole(model, tokenizer, out, dtype, state)
    else:
        with _placed(folders[-1]) as folder:
            model.save_pretrained(folder, state_dict=None if state is None else dict(state))
            tokenizer.save_pretrained(folder)
        if merge:
            if state is not None:
                model.load_state_dict(state, strict=False)
            _save_whole(model.merge_and_unload(), tokenizer, out, dtype, None)
    if card:
        with warn_on_failure("writing the model card", f"the weights are in {out}"):
            write_card(card, folders)


def _save_whole(model: Any, tokenizer: Any, out: Path, dtype: str, state: Mapping[str, torch.Tensor] | None) -> None:
    with _placed(out) as folder:
        model.save_pretrained(folder, state_dict=_cast(state or model.state_dict(), getattr(torch, dtype)))
        config = folder / "config.json"
        values = json.loads(config.read_text(encoding="utf-8")) | {"dtype": dtype}
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        tokenizer.save_pretrained(folder)


def write_card(card: str, folders: Iterable[Path]) -> None:
    """Puts a model card into folders of a checkpoint that stands."""
    for folder in folders:
        (folder / "README.md").write_text(card, encoding="utf-8")


def is_lora(model: Any) -> bool:
    return hasattr(model, "merge_and_unload")


def _cast(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights in `dtype`; tied ones stay one tensor, so that they are written once."""
    seen: dict[int, torch.Tensor] = {}
    for weight in state.values():
        if weight.data_ptr() not in seen:
            seen[weight.data_ptr()] = weight.detach().to("cpu", dtype if weight.is_floating_point() else None)
    return {name: seen[weight.data_ptr()] for name, weight in state.items()}


@contextmanager
def _placed(out: Path) -> Iterator[Path]:
    """A folder to write into; it is at `out` after the block, unless the block failed."""
    prefix = f".{out.name}.partial-"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=prefix, ignore_cleanup_errors=True) as outer:
            fresh = Path(outer) / "fresh"
            fresh.mkdir()
            yield fresh
            for path in fresh.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)  # an engine may run as another user
            _reach_disk(fresh)
            if out.exists():
                out.rename(Path(outer) / "earlier")
            fresh.rename(out)
            _sync(out.parent)
    except CANNOT_WRITE as error:
        if not _is_of_the_disk(error):
            raise
        raise CheckpointError(f"{out}: the checkpoint could not be written: {_said(error)}") from error


# --- checkpoints to resume from ------------------------------------------------------------------


def last_whole(folder: Path) -> Path | None:
    """The newest complete `checkpoint-N` in a run's folder; what a cut-off save left is removed."""
    shutil.rmtree(folder / SAVING, ignore_errors=True)
    for path in _numbered(folder):
        if not (path / MARKER).exists():
            shutil.rmtree(path)
    return max(_numbered(folder), key=_step, default=None)


def _numbered(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]


def _remove(path: Path) -> None:
    """The marker goes first, so that a checkpoint removed in part does not count."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def resume_point(config: Stage) -> Path | None:
    """The checkpoint that this run goes on from, or None for a start from the beginning.

    The first process of a run calls it before the others. Raises CheckpointError when the folder
    holds a checkpoint of a run under another configuration.
    """
    folder = run_dir(config.run.output)
    folder.mkdir(parents=True, exist_ok=True)
    newest = last_whole(folder)
    if not config.run.resume:
        for path in _numbered(folder):
            _remove(path)
        newest = None
    path, mine = folder / FINGERPRINT, fingerprint(config)
    theirs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if newest:
        differing = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        if differing:
            raise CheckpointError(
                f"{newest} is of a run under another configuration; these differ: {', '.join(differing)}. "
                "Set them back, choose another run.output, or start anew with run.resume=false"
            )
    if mine != theirs:
        fresh = path.with_suffix(".fresh")
        fresh.write_text(json.dumps(mine, indent=1, sort_keys=True), encoding="utf-8")
        fresh.replace(path)
    return newest


def fingerprint(config: Stage) -> dict[str, Any]:
    """All that changes the course of the loss, flat: fields by name, data by size, the base by content."""
    values = config.model_dump(mode="json")
    values["run"] = {name: value for name, value in values["run"].items() if name not in LEAVES_THE_LOSS}
    flat = dict(_flat(values, ""))
    flat["data.train (contents)"] = [_sizes(path) for path in config.data.train]
    flat["model.path (contents)"] = _contents(Path(config.model.path))
    return flat


def _flat(values: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


def _sizes(path: Path) -> dict[str, int]:
    files = [path] if path.is_file() else [each for each in sorted(path.glob("*")) if each.is_file()]
    return {each.name: each.stat().st_size for each in files}


def _contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        if path.stat().st_size <= HASHED_BYTES
        else str(path.stat().st_size)
        for path in sorted(folder.glob("*"))
        if path.suffix in (".json", ".safetensors", ".jinja")
    }


class WholeCheckpoints:
    """Before a transformers Trainer in a class's bases: its checkpoints become whole-or-nothing."""

    args: Any
    accelerator: Any
    state: Any
    model: Any
    processing_class: Any
    _saving = False

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains to the last step. A failure after it, such as TensorBoard's, leaves the weights to be written."""
        self.add_callback(Rehearsal)  # type: ignore[attr-defined]
        if is_lora(self.model):
            self.model.create_or_update_model_card = self.create_model_card  # peft's comes before the weights
        safe = f"all steps are done, and the weights go to {output_of(Path(self.args.output_dir))}"
        with warn_on_failure("ending the training", safe, when=self._has_trained):
            return super().train(*args, **kwargs)  # type: ignore[misc]

    def _has_trained(self) -> bool:
        return bool(0 < self.state.max_steps <= self.state.global_step)

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(self.args.output_dir)
        return str(folder / SAVING if self._saving else folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            return  # the finished checkpoint follows; and resumed here, transformers would train one step too many
        folder = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]  # of the Trainer that follows
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                _complete(folder / SAVING / name, folder / name)
                for old in sorted(_numbered(folder), key=_step)[: -self.args.save_total_limit]:
                    with warn_on_failure(f"removing {old}", f"the weights are in {folder / name}"):
                        _remove(old)
            self.accelerator.wait_for_everyone()
        except CANNOT_WRITE as error:
            if not _is_of_the_disk(error):
                raise
            shutil.rmtree(folder / SAVING, ignore_errors=True)
            raise CheckpointError(f"{folder / name}: the checkpoint could not be written: {_said(error)}") from error
        finally:
            self._saving = False

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The card follows the finished checkpoint (training/finish.py); half-way there is nothing to say."""

    def finish(self, config: Stage) -> None:
        """Writes the finished checkpoint and clears the ones to resume from; every process calls it."""
        state = None
        if self.accelerator.num_processes > 1:
            state = self.accelerator.get_state_dict(self.model_wrapped)  # type: ignore[attr-defined]
        if self.accelerator.is_main_process:
            whole, output = self.accelerator.unwrap_model(self.model), config.run.output
            save(whole, self.processing_class, output, dtype=config.run.final_weights, state=state)
            for path in _numbered(Path(self.args.output_dir)):
                with warn_on_failure(f"removing {path}", f"the weights are in {output}"):
                    _remove(path)


def _complete(fresh: Path, place: Path) -> None:
    """Makes a written checkpoint count, once its bytes are on the disk."""
    _reach_disk(fresh)
    with (fresh / MARKER).open("wb") as marker:
        os.fsync(marker.fileno())
    _sync(fresh)
    if place.exists():
        shutil.rmtree(place)
    fresh.rename(place)
    _sync(place.parent)


# --- the disk ------------------------------------------------------------------------------------


def _is_of_the_disk(error: Exception) -> bool:
    if isinstance(error, CheckpointError):
        return False
    told = ("No space left", "File too large", "os error 28", "os error 27", "Disk quota", "PytorchStreamWriter")
    return isinstance(error, OSError) or any(each in str(error) for each in told)


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split("\n")[0]


def _reach_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
