"""GPUs, memory and hours of the stages of training/runs/family.sh, as the table of docs/how-to/family.md has them.

    .venv-training/bin/python -m training.runs.stage_costs

Nothing here is measured. Memory is estimated as at the start of a stage (training/speed/memory_estimate.py), with the
slack of a CPU's allocator; reinforcement learning has vLLM's share of an 80 GB card and a judge in bfloat16 beside it.
Hours are for 10,000 rows and follow from the arithmetic and the assumptions below: the tokens of rows and replies, the
share of the card's arithmetic that training uses, and how fast vLLM writes.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from training.config import load
from training.dpo import DpoConfig
from training.grpo import GrpoConfig
from training.sft import SftConfig
from training.speed.memory_estimate import GB, estimate_memory, model_without_data
from training.speed.utilization import flops_per_token

CONFIGS: Final = Path("training/configs/full")
GPUS: Final = 8
PEAK: Final = 989e12
"""FLOP/s of an H100 in dense bfloat16, by its maker."""
UTILIZATION: Final = 0.4
"""Assumed share of it in training, without what checkpointing computes anew."""
WRITTEN: Final = 2_000.0
"""Tokens of replies that vLLM writes a second on one GPU, assumed."""
ROWS: Final = 10_000
CARD: Final = 80e9
"""Bytes of a GPU."""

LLAMA: Final = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14_336, "vocab_size": 128_256,
}  # fmt: skip
R1: Final = {
    "model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "intermediate_size": 18_944, "vocab_size": 152_064,
}  # fmt: skip
QWEN: Final = {
    "model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "head_dim": 128,
    "num_key_value_heads": 8, "intermediate_size": 12_288, "vocab_size": 151_936,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """One command of the chain, and the assumed tokens of a row."""

    name: str
    kind: type[SftConfig] | type[DpoConfig] | type[GrpoConfig]
    config: str
    shape: dict[str, Any]
    prompt: int
    reply: int
    """Of each reply: DPO has two, reinforcement learning `generations` at each stage."""
    fields: tuple[str, ...] = ()


STAGES: Final = (
    Stage("AlignXpert ICA", DpoConfig, "alignxpert_ica", LLAMA, 2_000, 300),
    Stage("AlignXpert PBA", DpoConfig, "alignxpert_pba", LLAMA, 300, 300),
    Stage("AlignXplore cold start", SftConfig, "alignxplore_cold_start", R1, 3_000, 1_000),
    Stage("AlignXplore RL, R_jud", GrpoConfig, "alignxplore_rl_jud", R1, 3_000, 1_000),
    Stage("AlignXplore RL, R_gen", GrpoConfig, "alignxplore_rl_gen", R1, 3_000, 1_000),
    Stage("AlignXplore streaming RL", GrpoConfig, "alignxplore_rl_jud", R1, 3_000, 1_000, ("grpo.reward=streaming",)),
    Stage("AlignXplore+ SFT", SftConfig, "alignxplus_sft", QWEN, 4_000, 1_500),
    Stage("AlignXplore+ two-stage GRPO", GrpoConfig, "alignxplus_rl", QWEN, 4_000, 1_500),
)
APART: Final = ("grpo.vllm=server", "grpo.vllm_url=http://vllm")
"""Leaves vLLM's share of the card out of the estimate, which would take it of this machine's memory."""


def costs(stage: Stage, folder: Path) -> tuple[float, float]:
    """Bytes on one GPU, and hours for ROWS rows, all epochs."""
    (folder / "config.json").write_text(json.dumps(stage.shape | {"tie_word_embeddings": False}), encoding="utf-8")
    fields = [f"model.path={folder}", *stage.fields, *(APART if stage.kind is GrpoConfig else ())]
    config = load(CONFIGS / f"{stage.config}.toml", stage.kind, fields)
    model = model_without_data(config)
    row, written, beside = stage.prompt + stage.reply, 0, 0.0
    if isinstance(config, GrpoConfig):
        replies = config.grpo.generations * config.grpo.stages
        batch, written = replace(config.largest_batch(), frozen_copies=0), replies * stage.reply
        beside = config.grpo.vllm_memory * CARD + 2.0 * sum(weight.numel() for weight in model.parameters())
        trained = replies * (row + stage.reply / 3)  # the judge reads a summary forward alone
    elif isinstance(config, DpoConfig):
        batch, trained = config.largest_batch(config.dpo.max_length), 2 * row * 4 / 3  # so does the reference
    else:
        batch, trained = config.largest_batch(config.sft.max_length), float(row)
    flops = flops_per_token(model) * trained
    seconds = flops / (GPUS * PEAK * UTILIZATION) + written / (GPUS * WRITTEN)
    memory = estimate_memory(config, batch)
    assert memory is not None, "these models have fixed shapes"
    return memory.total + beside, ROWS * config.optim.epochs * seconds / 3600


def table() -> Iterator[str]:
    os.environ["WORLD_SIZE"] = str(GPUS)
    yield "| stage | GPUs | GB on each, estimated | hours for 10,000 rows, assumed |"
    yield "|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for stage in STAGES:
            memory, hours = costs(stage, Path(folder))
            yield f"| {stage.name} | {GPUS} | {memory / GB:.0f} | {hours:.1f} |"


if __name__ == "__main__":
    print(*table(), sep="\n")
