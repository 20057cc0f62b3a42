"""training/runs/family.sh at full size: every command that it would run has a configuration that loads, and a part of a
stage ends on several processes as it does on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.config import Evaluation
from training.config import PART_ENDED, load
from training.dpo import DpoConfig
from training.grpo import GrpoConfig
from training.sft import SftConfig

ROOT = Path(__file__).parents[3]
KINDS = {
    "training.sft": SftConfig,
    "training.dpo": DpoConfig,
    "training.grpo": GrpoConfig,
    "evaluation": Evaluation,
}
RECORDER = """#!/bin/sh
printf '%s\\037' "$@" >>"$RECORD"
echo >>"$RECORD"
"""


def test_each_command_has_a_configuration_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    recorder, record = tmp_path / "python", tmp_path / "record"
    recorder.write_text(RECORDER, encoding="utf-8")
    recorder.chmod(0o755)
    (tmp_path / "mind").mkdir()
    told = {"PYTHON": str(recorder), "RECORD": str(record), "DATA": str(tmp_path), "OUT": str(tmp_path / "out")}
    called = subprocess.run(
        ["training/runs/family.sh"], cwd=ROOT, env=os.environ | told, capture_output=True, text=True, check=True
    )
    assert f"rows-amazon: {tmp_path}/amazon is absent, so it is not measured" in called.stdout
    loaded: dict[str, object] = {}
    for line in record.read_text(encoding="utf-8").splitlines():
        words = line.split("\x1f")[:-1]
        for module in KINDS.keys() & set(words):
            path, *fields = words[words.index(module) + 1 :]
            config = load(ROOT / path, KINDS[module], fields)
            if isinstance(config, Evaluation):
                loaded[f"evaluate {config.stage}"] = config
            else:
                assert words[:2] == ["-m", "training.runs.torchrun"]
                config.optim.accumulation(8)
                loaded[config.run.output.name] = config
    assert [name for name, config in loaded.items() if isinstance(config, GrpoConfig)] == [
        "alignxplore-rl-jud",
        "alignxplore-rl-gen",
        "alignxplore-rl-streaming",
        "alignxplus-rl",
    ]
    evaluated = loaded["evaluate alignxplus-rl"]
    assert isinstance(evaluated, Evaluation)
    assert evaluated.benchmarks is not None
    assert (evaluated.benchmarks.names, evaluated.protocol.choice) == (("mind_upi",), "sampled")
    rl = loaded["alignxplus-rl"]
    assert isinstance(rl, GrpoConfig)
    assert rl.users() == 1024
    assert (rl.model.path, rl.judge.path, rl.grpo.prompts) == (
        "models/alignxplus-sft",
        "models/Qwen3-8B",
        "alignxplore-plus",
    )


PARTING = """
import os

from accelerate import PartialState
from transformers import TrainerControl, TrainerState

from training.config import Section, run_script
from training.exceptions import PartEnded
from training.trainer import PartLimit

def stage(_):
    PartialState(cpu=True)
    control = TrainerControl()
    hours = 1e-9 if os.environ["RANK"] == "0" else 9
    PartLimit(hours).on_save(None, TrainerState(global_step=3, max_steps=6), control)
    assert control.should_training_stop, "this process would wait for the others in its next step"
    raise PartEnded(3, 6)

run_script(Section, stage, ["/dev/null"])
"""


def test_a_step_on_two_processes_ends_with_the_part_of_the_first(tmp_path: Path) -> None:
    script = tmp_path / "parting.py"
    script.write_text(PARTING, encoding="utf-8")
    command = f"{sys.executable} -m training.runs.torchrun --nproc-per-node 2 {script}"
    called = subprocess.run(
        ["bash", "-c", f"source training/runs/steps.sh; out={tmp_path}; step parting {command}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert called.returncode == PART_ENDED, called.stderr
    assert called.stdout == "parting: this part ends at step 3 of 6; the same command goes on\n"
    assert not (tmp_path / "done" / "parting").exists()
