"""Two processes on the CPU, joined by gloo, train as one does: DDP, DeepSpeed ZeRO-3, FSDP2."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.small_runs import DPO, SFT, losses, write_config
from training.config import load
from training.dpo import DpoConfig, dpo
from training.sft import SftConfig, sft

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about their own futures

ROOT = Path(__file__).resolve().parents[3]
ZERO3 = "run.deepspeed=training/configs/deepspeed/zero3_cpu.json"
ALONE = "optim.micro_batch=8"
"""What two processes take at once with micro_batch 4, so that the batches are the same."""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def by_two(stage: str, config: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command += ["-m", f"training.{stage}", str(config), *overrides]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(
        torch.norm(first[name] - second[name]) < 1e-3 * torch.norm(first[name]) for name in first
    )


@pytest.mark.parametrize("way", [(), (ZERO3,), ("run.fsdp=true",)], ids=["ddp", "zero3", "fsdp2"])
def test_two_processes_fine_tune_as_one_does(tmp_path: Path, base: Path, sft_rows: Path, way: tuple[str, ...]):
    alone = load(write_config(tmp_path / "one", SFT, model=base, data=sft_rows), SftConfig, [ALONE])
    sft(alone)
    by_two("sft", write_config(tmp_path / "two", SFT, model=base, data=sft_rows), *way)
    assert losses(tmp_path / "two" / "out") == pytest.approx(losses(alone.run.output), abs=1e-4)
    assert same_weights(tmp_path / "two" / "out", alone.run.output)


def test_two_processes_under_zero_3_optimize_preferences_as_one_does(tmp_path: Path, base: Path, alignx_rows: Path):
    alone = load(write_config(tmp_path / "one", DPO, model=base, data=alignx_rows), DpoConfig, [ALONE])
    dpo(alone)
    by_two("dpo", write_config(tmp_path / "two", DPO, model=base, data=alignx_rows), ZERO3)
    assert losses(tmp_path / "two" / "out") == pytest.approx(losses(alone.run.output), abs=1e-4)
    assert same_weights(tmp_path / "two" / "out", alone.run.output)


def test_two_processes_under_zero_3_resume_to_the_same_loss(tmp_path: Path, base: Path, sft_rows: Path):
    alone = load(write_config(tmp_path / "one", SFT, model=base, data=sft_rows), SftConfig, [ALONE])
    sft(alone)
    config = write_config(tmp_path / "two", SFT, model=base, data=sft_rows)
    script = tmp_path / "dying.py"
    script.write_text(DYING, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    dead = subprocess.run(
        [*command, str(script), str(config), ZERO3], cwd=ROOT, env=environment, capture_output=True, timeout=400
    )
    assert dead.returncode != 0
    assert (tmp_path / "two" / "out.run" / "checkpoint-3" / "whole").exists()
    assert not (tmp_path / "two" / "out").exists()
    by_two("sft", config, ZERO3)
    assert losses(tmp_path / "two" / "out") == pytest.approx(losses(alone.run.output), abs=1e-4)


DYING = """
import os, signal
from training import sft
from training.progress import Progress

def die(self, args, state, *rest, **more):
    if state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)

Progress.on_step_end = die
sft.main()
"""
