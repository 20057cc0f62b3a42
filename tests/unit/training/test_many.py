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
EPOCHS = "data.limit=16"
"""Two steps an epoch, so that the checkpoint after three of six is in the middle of one."""
ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def by_two(program: str, config: Path, *overrides: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command += [*program.split(), str(config), *overrides]
    compiled = config.with_name("compiled")
    environment = os.environ | ENVIRONMENT | {"TORCH_EXTENSIONS_DIR": str(compiled)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert not compiled.exists(), "deepspeed compiled an operator: read build_shm_op in deepspeed/comm/torch.py again"
    assert done.returncode == 0, done.stderr[-4000:]


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(
        torch.norm(first[name] - second[name]) < 1e-3 * torch.norm(first[name]) for name in first
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, base: Path, sft_rows: Path) -> Path:
    """The output of one process."""
    folder = tmp_path_factory.mktemp("alone")
    config = load(write_config(folder, SFT, model=base, data=sft_rows), SftConfig, [ALONE, EPOCHS])
    sft(config)
    return config.run.output


@pytest.mark.parametrize("way", [(), ("run.fsdp=true",)], ids=["ddp", "fsdp2"])
def test_two_processes_fine_tune_as_one_does(tmp_path: Path, sft_config: Path, alone: Path, way: tuple[str, ...]):
    by_two("-m training.sft", sft_config, EPOCHS, *way)
    assert losses(tmp_path / "out") == pytest.approx(losses(alone), abs=1e-4)
    assert same_weights(tmp_path / "out", alone)


def test_two_processes_under_zero_3_optimize_preferences_as_one_does(tmp_path: Path, base: Path, alignx_rows: Path):
    alone = load(write_config(tmp_path / "one", DPO, model=base, data=alignx_rows), DpoConfig, [ALONE])
    dpo(alone)
    by_two("-m training.dpo", write_config(tmp_path / "two", DPO, model=base, data=alignx_rows), ZERO3)
    assert losses(tmp_path / "two" / "out") == pytest.approx(losses(alone.run.output), abs=1e-4)
    assert same_weights(tmp_path / "two" / "out", alone.run.output)


def test_two_processes_under_zero_3_that_are_killed_and_resume_fine_tune_as_one_does(
    tmp_path: Path, sft_config: Path, alone: Path
):
    script = tmp_path / "dying.py"
    script.write_text(DYING, encoding="utf-8")
    with pytest.raises(AssertionError, match="SIGKILL"):
        by_two(str(script), sft_config, EPOCHS, ZERO3)
    assert (tmp_path / "out.run" / "checkpoint-3" / "whole").exists()
    assert not (tmp_path / "out").exists()
    by_two("-m training.sft", sft_config, EPOCHS, ZERO3)
    assert losses(tmp_path / "out") == pytest.approx(losses(alone), abs=1e-4)
    assert same_weights(tmp_path / "out", alone)


DYING = """
import os, signal
from training.config import run_script
from training.progress import Progress
from training.sft import SftConfig, sft

def die(self, args, state, *rest, **more):
    if state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)

Progress.on_step_end = die
run_script(SftConfig, sft)
"""
