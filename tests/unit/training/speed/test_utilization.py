"""The arithmetic of MFU: FLOPs of a token, peaks of cards, and where a run shows it."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.unit.training.nano import tiny_qwen
from training import trainer
from training.checkpoint import run_dir
from training.config import load
from training.sft import SftConfig, sft
from training.speed.utilization import device_peak, flops_per_token, mfu

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL, PEFT and transformers about their own futures


def test_a_full_fine_tune_takes_six_flops_a_weight_and_a_token():
    tied, untied = (tiny_qwen(vocab_size=50, tie_word_embeddings=tie) for tie in (True, False))
    assert flops_per_token(tied) == 6 * sum(weight.numel() for weight in tied.parameters())
    assert flops_per_token(untied) == flops_per_token(tied), "an untied input embedding is a look-up"


def test_adapters_take_four_and_their_own_six():
    base = tiny_qwen(vocab_size=50, tie_word_embeddings=True)
    frozen = sum(weight.numel() for weight in base.parameters())
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    added = 2 * 4 * ((32 + 32) + (32 + 16))
    assert flops_per_token(adapted) == 4 * frozen + 6 * added


def test_mfu_is_the_share_of_the_peak_of_all_devices():
    """The published example of a run: 135 million weights, adapters, 47,800 tokens/s on one H100."""
    assert mfu(4 * 134.5e6, 47_800, devices=1, peak=989e12) == pytest.approx(0.026, abs=0.0005)
    assert mfu(6e9, 1e6, devices=8, peak=1e15) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("Some Other Card", None),
    ],
)
def test_the_peak_is_that_of_dense_bfloat16(card: str, peak: float | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: card)
    assert device_peak() == peak


def test_a_run_on_a_known_card_prints_and_keeps_its_mfu(
    sft_config: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(trainer, "device_peak", lambda: 1e12)
    config = load(sft_config, SftConfig, ["optim.max_steps=3"])
    found = sft(config)
    assert re.search(r"3/3 .* tokens/s  MFU \d+\.\d%  0:00 left", capsys.readouterr().out)
    history = json.loads((run_dir(config.run.output) / "metrics.json").read_text())["history"]
    steps = [(then["tokens"] - now["tokens"]) / (then["seconds"] - now["seconds"]) for now, then in pairwise(history)]
    weights = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(base).parameters())
    assert [entry["mfu"] for entry in history[1:]] == pytest.approx(
        [6 * weights * rate / 1e12 for rate in steps], rel=0.1
    )
    assert found["tokens"] == history[-1]["tokens"]
