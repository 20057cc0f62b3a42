"""Checkpoints are whole or not there: killed savers, a full disk, another configuration."""

import errno
import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.training.nano import tiny_qwen
from tests.unit.training.small_runs import DPO, SFT, losses, sft_row, write_config, write_rows
from training import checkpoint, trainer
from training.checkpoint import MARKER, SAVING, latest_checkpoint, run_dir, save
from training.config import load
from training.dpo import DpoConfig, dpo
from training.exceptions import CheckpointError
from training.progress import Progress
from training.sft import SftConfig, sft
from training.trainer import StageTrainer

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about their own futures


STAGES: dict[str, tuple[Any, Any, str, str]] = {
    "sft": (SftConfig, sft, SFT, "sft_rows"),
    "dpo": (DpoConfig, dpo, DPO, "alignx_rows"),
}


def in_child(act: Callable[[], object]) -> int:
    """Runs `act` in a copy of this process, that may die; its wait status."""
    torch.set_num_threads(1)
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def filled(value: float) -> Any:
    """A model whose weights are all `value`."""
    model = tiny_qwen(vocab_size=512, num_hidden_layers=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(value)
    return model


@pytest.mark.parametrize("moment", [1, 4, 6, 7, 8, 9])
def test_a_save_killed_at_any_moment_leaves_the_earlier_checkpoint_or_the_new_one(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, moment: int
):
    tokenizer, out = AutoTokenizer.from_pretrained(base), tmp_path / "out"
    save(filled(1.0), tokenizer, out, card="one", dtype="float32")
    calls = []

    def dying(path: Path) -> None:
        calls.append(path)
        if len(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(checkpoint, "_sync", dying)
    status = in_child(lambda: save(filled(2.0), tokenizer, out, card="two", dtype="float32"))
    monkeypatch.undo()
    assert os.WIFSIGNALED(status) == (moment < 9), "a save reaches the disk eight times"
    weights = load_file(out / "model.safetensors")
    values = {float(weight.min()) for weight in weights.values()}
    assert values == ({1.0} if moment < 8 else {2.0}), "the eighth time is when it is in place"
    cards = [path.read_text() for path in out.glob("README.md")]
    assert cards == {8: [], 9: ["two"]}.get(moment, ["one"]), "the card follows the weights"
    AutoModelForCausalLM.from_pretrained(out)
    save(filled(3.0), tokenizer, out, card="three", dtype="float32")
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "what the kill left is cleared"


def test_a_full_disk_leaves_the_earlier_checkpoint_and_says_so(tmp_path: Path, base: Path):
    tokenizer, out = AutoTokenizer.from_pretrained(base), tmp_path / "out"
    save(filled(1.0), tokenizer, out, card="one", dtype="float32")

    def onto_a_full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(CheckpointError, match=r"could not be written: .*(too large|os error 27)"):
            save(filled(2.0), tokenizer, out, card="two", dtype="float32")

    assert in_child(onto_a_full_disk) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert float(load_file(out / "model.safetensors")["model.norm.weight"].min()) == 1.0


def test_tied_weights_are_written_once_and_in_the_wanted_type(tmp_path: Path, base: Path):
    model = AutoModelForCausalLM.from_pretrained(base)
    save(model, AutoTokenizer.from_pretrained(base), tmp_path / "out", card="", dtype="bfloat16")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert "lm_head.weight" not in weights
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="float32")
    ids = torch.arange(20)[None]
    assert torch.allclose(model(ids).logits, again(ids).logits, atol=0.02)


def test_only_marked_checkpoints_count_and_the_others_go(tmp_path: Path):
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-12", f"{SAVING}/checkpoint-14", "checkpoint-notes"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("checkpoint-2", "checkpoint-10"):
        (tmp_path / name / MARKER).touch()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-10", "checkpoint-notes"}
    assert latest_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("stage", "error"), [("sft", KeyboardInterrupt()), ("dpo", OSError(errno.ENOSPC, "No space left on device"))]
)
def test_a_run_that_breaks_off_resumes_to_the_same_losses(
    tmp_path: Path,
    base: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    error: BaseException,
):
    kind, train, text, rows = STAGES[stage]
    data = request.getfixturevalue(rows)
    straight, broken = (
        load(write_config(tmp_path / name, text, model=base, data=data), kind) for name in ("straight", "broken")
    )
    whole = train(straight)

    def breaking(self: Progress, args: object, state: Any, *rest: object, **more: object) -> None:
        if state.global_step == 4:
            raise error

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "on_step_end", breaking)
        with pytest.raises(type(error)):
            train(broken)
    assert not broken.run.output.exists()
    assert [path.name for path in run_dir(broken.run.output).glob("checkpoint-*")] == ["checkpoint-3"]
    resumed = train(broken)
    assert losses(broken.run.output) == pytest.approx(losses(straight.run.output), abs=1e-6)
    assert resumed["tokens"] == whole["tokens"]


def test_a_run_killed_while_it_saves_resumes_from_the_checkpoint_before(
    tmp_path: Path, base: Path, sft_rows: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_config(tmp_path / "straight", SFT, model=base, data=sft_rows)
    straight = load(path, SftConfig, ["run.save_every=2"])
    sft(straight)
    config = load(write_config(tmp_path / "killed", SFT, model=base, data=sft_rows), SftConfig, ["run.save_every=2"])
    commit = trainer.commit

    def dying(fresh: Path, path: Path) -> None:
        if path.name == "checkpoint-4":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(fresh, path)

    monkeypatch.setattr(trainer, "commit", dying)
    assert os.WTERMSIG(in_child(lambda: sft(config))) == signal.SIGKILL
    monkeypatch.undo()
    folder = run_dir(config.run.output)
    assert (folder / SAVING / "checkpoint-4").exists()
    assert not config.run.output.exists()
    assert latest_checkpoint(folder) == folder / "checkpoint-2"
    sft(config)
    assert losses(config.run.output) == pytest.approx(losses(straight.run.output), abs=1e-6)


def test_a_full_disk_ends_a_run_with_a_clear_sentence_and_the_last_whole_checkpoint(sft_config: Path):
    config = load(sft_config, SftConfig, ["run.save_every=2"])
    folder = run_dir(config.run.output)

    def onto_a_full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        save_checkpoint = StageTrainer._save_checkpoint

        def saving(self: Any, model: Any, trial: Any) -> None:
            if self.state.global_step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            save_checkpoint(self, model, trial)

        StageTrainer._save_checkpoint = saving
        with pytest.raises(CheckpointError, match="checkpoint-4: the checkpoint could not be written"):
            sft(config)

    assert in_child(onto_a_full_disk) == 0
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2"]
    assert latest_checkpoint(folder) == folder / "checkpoint-2"
    assert not config.run.output.exists()


def test_resuming_under_another_configuration_is_refused_with_the_fields(
    sft_config: Path, sft_rows: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(StageTrainer, "save_finished", lambda *_, **__: None)
    sft(load(sft_config, SftConfig, ["optim.max_steps=3", "run.save_every=2"]))
    with pytest.raises(CheckpointError, match=r"these differ: optim.batch, optim.max_steps"):
        sft(load(sft_config, SftConfig, ["optim.batch=4"]))
    write_rows(sft_rows.with_name("other.jsonl"), [sft_row(1)] * 9)
    with pytest.raises(CheckpointError, match=r"data.train"):
        sft(load(sft_config, SftConfig, ["optim.max_steps=3", f"data.train=['{sft_rows.with_name('other.jsonl')}']"]))
    what_may_change = ["optim.max_steps=3", "run.log_every=2", "run.save_every=1"]
    assert sft(load(sft_config, SftConfig, what_may_change))["steps"] == 3
    assert sft(load(sft_config, SftConfig, ["optim.batch=4", "optim.max_steps=1", "run.resume=false"]))["steps"] == 1


def test_resuming_on_another_number_of_processes_is_refused(sft_config: Path, monkeypatch: pytest.MonkeyPatch):
    config = load(sft_config, SftConfig)
    assert checkpoint.resume_point(config) is None
    newest = run_dir(config.run.output) / "checkpoint-3"
    newest.mkdir()
    (newest / MARKER).touch()
    monkeypatch.setattr(checkpoint, "devices", lambda: 2)
    with pytest.raises(CheckpointError, match=r"these differ: number of processes\. "):
        checkpoint.resume_point(config)
    monkeypatch.undo()
    assert checkpoint.resume_point(config) == newest


def test_a_checkpoint_from_before_processes_were_counted_is_resumed(sft_config: Path):
    config = load(sft_config, SftConfig)
    checkpoint.resume_point(config)
    newest, path = run_dir(config.run.output) / "checkpoint-3", run_dir(config.run.output) / checkpoint.FINGERPRINT
    newest.mkdir()
    (newest / MARKER).touch()
    counted = path.read_text()
    path.write_text(json.dumps({name: value for name, value in json.loads(counted).items() if "number" not in name}))
    assert checkpoint.resume_point(config) == newest
    assert path.read_text() == counted
