"""Cuts what several stages of training changed to one LoRA adapter: the last step of training/runs/small.sh.

    python -m training.runs.extract_adapter training/configs/small/adapter.toml

Stages that each merge an adapter into the weights add up their ranks. The change of each projection is cut to the
`rank` largest singular values, which is the closest matrix of that rank. Every figure is measured on base and adapter.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from training.checkpoint import load_weights
from training.config import PositiveInt, Section, run_script
from training.exceptions import CheckpointError

SHARDS = 3
"""Files of the adapter: a repository takes several small ones more gladly than a large one."""
PREFIX = "base_model.model."


class AdapterConfig(Section):
    stage: Literal["adapter"]
    base: Path
    model: Path
    """A checkpoint of the same shape."""
    name: str
    """What the adapter calls its base; docker/merge_adapter.py finds it by that."""
    rank: PositiveInt = 64
    output: Path


def extract(config: AdapterConfig) -> None:
    """Writes the adapter, and prints the greatest relative error of a projection. Raises CheckpointError."""
    base, model = load_weights(config.base), load_weights(config.model)
    if base.keys() != model.keys():
        raise CheckpointError(f"{config.model} has other weights than {config.base}")
    halves: dict[str, torch.Tensor] = {}
    layers, worst = set[str](), 0.0
    for name, weight in model.items():
        change = weight.float() - base[name].float()
        if not change.any():
            continue
        if not name.endswith("_proj.weight"):
            raise CheckpointError(f"{name} of {config.model} is no projection, and differs from {config.base}")
        layers.add(name.split(".")[-2])
        a, b = _cut(change, config.rank)
        worst = max(worst, float((b.float() @ a.float() - change).norm() / change.norm()))
        layer = PREFIX + name.removesuffix(".weight")
        halves |= {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}
    _write(config, halves, sorted(layers))
    print(f"{len(halves) // 2} projections at rank {config.rank}, greatest relative error {worst:.3f}")


def _cut(change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (rank, in) and B (out, rank) in bfloat16, each with the root of the singular values."""
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    roots = s[:rank].sqrt()
    return (roots[:, None] * v[:rank]).bfloat16().contiguous(), (u[:, :rank] * roots).bfloat16().contiguous()


def _write(config: AdapterConfig, halves: dict[str, torch.Tensor], layers: Sequence[str]) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    names = list(halves)
    for shard in range(SHARDS):
        part = {name: halves[name] for name in names[shard::SHARDS]}
        save_file(part, config.output / f"adapter-{shard}.safetensors")
    settings = {
        "base_model_name_or_path": config.name,
        "bias": "none",
        "lora_alpha": config.rank,
        "peft_type": "LORA",
        "r": config.rank,
        "target_modules": layers,
        "task_type": "CAUSAL_LM",
    }
    (config.output / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(AdapterConfig, extract)
