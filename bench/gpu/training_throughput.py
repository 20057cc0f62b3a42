"""Tokens/s of SFT, DPO and GRPO on this machine's GPU, the share of its arithmetic that they use, and the memory.

    .venv-training/bin/python -m bench.gpu.training_throughput [--steps N] [--tiny]

Fresh models of the shapes of SmolLM2-135M and -1.7B, all weights and adapters of rank 64, rows of the made-up
world in batches of like length and packed to 2,048 tokens. A figure is the median of the steps after the first
two; tokens are those of the rows, padding not counted: of DPO both texts in full, of GRPO the prompts and replies that
are trained on, by the seconds in which the model also writes them. MFU counts 6 FLOPs a weight and token, 4 with
adapters, by the card's peak in dense bfloat16. `--tiny` runs all of it on a model of one million parameters in some
minutes, on a CPU too, and leaves docs/results alone; a CPU's peak is then what its own product of two matrices reaches.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import is_flash_attn_2_available

from bench.gpu.trl_comparison import (
    CONFIG,
    GRPO_REPLIES,
    KINDS,
    MAX_LENGTH,
    OWN,
    make_rows,
    silence_libraries,
    write_rows,
)
from bench.page import Row, render_table, save_results
from training.checkpoint import save
from training.config import Stage, load
from training.speed.memory_estimate import GB, model_without_data
from training.speed.utilization import device_peak, flops_per_token, mfu

WARM_UP: Final = 2
"""Steps that compile kernels and fill caches."""
TARGETS: Final = '["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]'
STEPWISE: Final = ("optim.epochs=100", "run.save_every=100000", "run.log_every=1", "run.memory=warn")
"""Beside the configuration of trl_comparison, for a number of steps each of which is timed."""


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    shape: dict[str, Any]
    length: int
    batch: int
    """Rows of a micro-batch, of which a step has one; packed, half as many rows of `length` tokens."""


LARGE: Final = (
    Setting(
        "135M",
        {
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "vocab_size": 49152,
        },
        2048,
        32,
    ),
    Setting(
        "1.7B",
        {
            "hidden_size": 2048,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 8192,
            "vocab_size": 49152,
        },
        2048,
        8,
    ),
)
TINY: Final = (
    Setting(
        "1M",
        {
            "hidden_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 384,
            "vocab_size": 4096,
        },
        1024,
        2,
    ),
)
ADAPTERS: Final = ("model.lora.rank=64", f"model.lora.targets={TARGETS}", "model.dtype=bfloat16")
PACKED: Final = "sft.packing=true"
MODES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "all weights": ("sft", ()),
    "all weights, packed": ("sft", (PACKED,)),
    "adapters": ("sft", ADAPTERS),
    "adapters, packed": ("sft", (*ADAPTERS, PACKED)),
    "DPO, all weights": ("dpo", ()),
    "GRPO, all weights": ("grpo", ()),
}


def prepare(folder: Path, setting: Setting, rows: int) -> None:
    """Writes a fresh model and rows."""
    tokenizer = write_rows(folder, make_rows(rows, rows))
    torch.manual_seed(0)
    config = LlamaConfig(
        **setting.shape,
        tie_word_embeddings=True,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    save(LlamaForCausalLM(config), tokenizer, folder / "model", card="", dtype="bfloat16")


def configured(folder: Path, setting: Setting, mode: str, steps: int) -> Stage:
    stage, fields = MODES[mode]
    overrides, packed = [*STEPWISE, f"optim.max_steps={WARM_UP + steps}", *fields], PACKED in fields
    if stage != "grpo":
        overrides.append(f"{stage}.max_length={setting.length}")
    if stage == "dpo":
        overrides.append("dpo.share_prompts=false")  # what is shared would count as computed
    if packed and torch.cuda.is_available():
        overrides.append(f"sft.attention={'flash_attention_2' if is_flash_attn_2_available() else 'flex_attention'}")
    batch = max(setting.batch // 2, 1) if packed else setting.batch
    batch = max(batch, GRPO_REPLIES) if stage == "grpo" else batch
    name = f"run-{random.getrandbits(32)}"
    own = OWN[stage].format(folder=folder, name=name)
    text = CONFIG.format(stage=stage, own=own, folder=folder, name=name, batch=batch)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, KINDS[stage][0], overrides)


def rates(history: list[dict[str, float]]) -> Iterator[float]:
    """Tokens/s of each step after the warm-up."""
    for before, after in pairwise(history[WARM_UP - 1 :]):
        yield (after["tokens"] - before["tokens"]) / (after["seconds"] - before["seconds"])


def reached_peak() -> float:
    """FLOP/s of the product of two matrices in bfloat16 or float32 on this CPU, whichever is more."""
    size, best = 1024, 0.0
    for dtype in (torch.float32, torch.bfloat16):
        one = torch.randn(size, size).to(dtype)
        for _ in range(5):
            started = time.perf_counter()
            one @ one
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def measure(settings: tuple[Setting, ...], steps: int, rows: int) -> list[Row]:
    results: list[Row] = []
    peak = device_peak() or reached_peak()
    for setting in settings:
        with tempfile.TemporaryDirectory() as name, silence_libraries():
            folder = Path(name)
            prepare(folder, setting, rows)
            for mode in MODES:
                results += run(configured(folder, setting, mode, steps), f"{setting.name}, {mode}", peak)
    return results


def run(config: Stage, name: str, peak: float) -> list[Row]:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    rate = statistics.median(rates(KINDS[config.stage][1](config)["history"]))
    share = mfu(flops_per_token(model_without_data(config)), rate, devices=1, peak=peak)
    results = [Row(f"{name}", rate, "tokens/s"), Row(f"{name}: MFU", 100 * share, "%")]
    if torch.cuda.is_available():
        results.append(Row(f"{name}: peak memory", torch.cuda.max_memory_allocated() / GB, "GB"))
    return results


def main(steps: int = 10, tiny: bool = False) -> None:
    if tiny:
        print(render_table(measure(TINY, min(steps, 3), 48)), flush=True)
    elif not torch.cuda.is_available():
        raise SystemExit("needs a GPU; on a CPU, --tiny runs it in miniature")
    else:
        save_results("training_throughput", measure(LARGE, steps, 2048), __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
