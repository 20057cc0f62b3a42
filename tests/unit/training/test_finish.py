"""The end of a stage: whatever fails after the last step, the weights stand and load."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations import TensorBoardCallback

from training import finish, libraries
from training.checkpoint import MARKER, run_dir, save
from training.config import run_script
from training.sft import SftConfig, sft

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about their own futures

METRICS = ".metrics.json."
SHORT = ("optim.max_steps=2", "run.save_every=100")


@pytest.fixture
def run(sft_config: Path) -> Callable[..., Path]:
    """Runs a stage to its end; the folder of its checkpoint."""

    def runs(*overrides: str) -> Path:
        run_script(SftConfig, sft, [str(sft_config), *overrides])
        return sft_config.with_name("out")

    return runs


def version_without_deepspeed(library: str) -> str:
    if library == "deepspeed":
        raise PackageNotFoundError(library)
    return version(library)


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Makes the disk full for files whose names begin so."""
    opened = Path.open

    def opens(path: Path, *given: Any, **named: Any) -> Any:
        if path.name.startswith(name):
            raise full()
        return opened(path, *given, **named)

    monkeypatch.setattr(Path, "open", opens)


def assert_trained(out: Path, base: Path) -> None:
    """The checkpoint loads, tokenizer and all, and is another than the base."""
    AutoTokenizer.from_pretrained(out)
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (base, out))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def warning(caplog: pytest.LogCaptureFixture) -> str:
    """The only one of ours, a single line."""
    (record,) = [record for record in caplog.records if record.name == "alignx.training"]
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert "\n" not in message
    return message


# --- the card and the metrics ----------------------------------------------------------------------


def test_a_library_without_metadata_is_named_in_the_card(
    run: Callable[..., Path], base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(libraries, "version", version_without_deepspeed)
    out = run(*SHORT)
    assert_trained(out, base)
    told = (out / "README.md").read_text()
    assert "- deepspeed not installed\n" in told
    assert "- trl 1.16" in told
    assert not [record for record in caplog.records if record.name == "alignx.training"]


@pytest.mark.parametrize("error", [full(), KeyError("one line\nand another")], ids=["disk", "bug"])
def test_a_card_that_cannot_be_made_leaves_the_weights(
    run: Callable[..., Path],
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(finish, "_libraries", fails(error))
    out = run(*SHORT)
    assert_trained(out, base)
    assert not (out / "README.md").exists()
    assert json.loads((run_dir(out) / "metrics.json").read_text())["steps"] == 2
    said = warning(caplog)
    assert said.startswith(f"writing the model card failed ({type(error).__name__}: ")
    assert said.endswith(f"; the weights are in {out}")


@pytest.mark.parametrize(("name", "act"), [("README.md", "the model card"), (METRICS, "the metrics")])
def test_a_file_that_the_disk_refuses_leaves_the_weights_and_nothing_of_an_earlier_run(
    run: Callable[..., Path],
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    act: str,
    caplog: pytest.LogCaptureFixture,
):
    run(*SHORT)
    refuse(monkeypatch, name)
    out = run(*SHORT)
    assert_trained(out, base)
    cause = "OSError: [Errno 28] No space left on device"
    assert warning(caplog) == f"writing {act} failed ({cause}); the weights are in {out}"
    assert (out / "README.md").exists() == (name == METRICS)
    assert (run_dir(out) / "metrics.json").exists() == (name != METRICS)


def test_the_card_of_peft_comes_before_no_weights(
    run: Callable[..., Path], base: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its save_pretrained begins with one, in checkpoints to resume from as well."""
    broken = ImportError("Using ModelCard.from_template requires Jinja2 to be installed")
    monkeypatch.setattr(PeftModel, "create_or_update_model_card", fails(broken))
    out = run("model.lora.rank=4", "run.save_every=2", "optim.max_steps=3")
    assert_trained(out, base)
    adapter = out.with_name("out.adapter")
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    assert (adapter / "README.md").read_text() == (out / "README.md").read_text()


# --- what else follows the last step ---------------------------------------------------------------


def test_a_log_that_fails_after_the_last_step_leaves_the_weights(
    run: Callable[..., Path], base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(TensorBoardCallback, "on_train_end", fails(full()))
    out = run(*SHORT, "run.tensorboard=true")
    assert_trained(out, base)
    assert (out / "README.md").exists()
    assert warning(caplog).endswith(f"; all steps are done, and the weights go to {out}")


def test_old_checkpoints_that_cannot_be_removed_end_no_run(
    run: Callable[..., Path], base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    remove = shutil.rmtree

    def removes(path: Any, *given: Any, **named: Any) -> None:
        if Path(path).name in ("checkpoint-1", "checkpoint-3"):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        remove(path, *given, **named)

    monkeypatch.setattr(shutil, "rmtree", removes)
    out = run("run.save_every=1", "run.keep=1", "optim.max_steps=4")
    assert_trained(out, base)
    left = sorted(path.name for path in run_dir(out).glob("checkpoint-*"))
    assert left == ["checkpoint-1", "checkpoint-3"]
    assert not list(run_dir(out).glob(f"checkpoint-*/{MARKER}")), "a run resumes from none of them"
    told = {record.getMessage() for record in caplog.records if record.name == "alignx.training"}
    first, second, third = (run_dir(out) / f"checkpoint-{step}" for step in (1, 2, 3))
    cause = "(OSError: [Errno 39] Directory not empty)"
    assert {
        f"removing {first} failed {cause}; the weights are in {second}",
        f"removing {third} failed {cause}; the weights are in {out}",
    } <= told


def test_an_earlier_checkpoint_that_cannot_be_removed_fails_no_save(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    remove = os.rmdir

    def removes(path: Any, *given: Any, **named: Any) -> None:
        if path == "earlier":
            raise OSError(errno.EBUSY, "Device or resource busy")
        remove(path, *given, **named)

    save(model, tokenizer, tmp_path / "out", card="", dtype="float32")
    monkeypatch.setattr(os, "rmdir", removes)
    save(model, tokenizer, tmp_path / "out", card="", dtype="float32")
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


# --- before the first step -------------------------------------------------------------------------


def test_a_model_that_cannot_be_saved_is_told_before_the_first_step(
    run: Callable[..., Path], tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
):
    """transformers loads such settings, and refuses to save them once the trainer has changed them."""
    odd = shutil.copytree(base, tmp_path / "odd")
    (odd / "generation_config.json").write_text(json.dumps({"do_sample": False, "temperature": 0.6}))
    with pytest.raises(SystemExit) as end:
        run(f"model.path={odd}")
    assert end.value.code == 2
    told = capsys.readouterr()
    assert f"a checkpoint of {odd} cannot be written: GenerationConfig is invalid" in told.err
    assert "1/6" not in told.out
    assert not list(run_dir(tmp_path / "out").glob(".save-check-*"))
