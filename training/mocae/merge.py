"""Task vectors of the experts, and their merges at the points of a grid.

    python -m training.mocae.merge training/configs/nano/mocae.toml

A task vector is τ_k = (α/r) B_k A_k. A merge Σ w_k τ_k is one adapter again: its A is the experts' A one below the
other, its B their w_k (α/r) B_k side by side, so its rank is the sum of theirs and nothing is approximated. Zeros pad
it to a rank that vLLM allows. Halves are float32; (1, 0, 0) is the first expert itself.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file

from services.axes import AXES, GRID_FILE, RANKS, AxisGrid, GridPoint, Weights
from training.checkpoint import load_weights
from training.config import run_script
from training.data.whole_file import replace_file
from training.exceptions import CheckpointError
from training.mocae.stage import Grid, MocaeConfig

SETTINGS = "adapter_config.json"
NOT_PLAIN = ("alpha_pattern", "rank_pattern", "use_dora", "use_rslora", "fan_in_fan_out", "bias")


@dataclass(frozen=True)
class Expert:
    """A LoRA adapter on the disk."""

    settings: dict[str, Any]
    halves: dict[str, torch.Tensor]
    """By layer and half: `<layer>.lora_A.weight` (r, in) and `<layer>.lora_B.weight` (out, r), float32."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises CheckpointError for anything but a plain LoRA adapter."""
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} is no adapter: its {SETTINGS} cannot be read") from error
        if any(settings.get(name) not in (None, False, "none", {}) for name in NOT_PLAIN):
            raise CheckpointError(f"{folder}: only plain LoRA adapters can be merged")
        return cls(settings, {name: half.float() for name, half in load_weights(folder).items()})

    @property
    def scale(self) -> float:
        return float(self.settings["lora_alpha"] / self.settings["r"])

    @property
    def layers(self) -> list[str]:
        return sorted(name.removesuffix(".lora_A.weight") for name in self.halves if name.endswith(".lora_A.weight"))

    def task_vector(self, layer: str) -> torch.Tensor:
        """(out, in), float64."""
        a, b = (self.halves[f"{layer}.lora_{half}.weight"].double() for half in "AB")
        return self.scale * b @ a


def allowed_rank(rank: int) -> int:
    """The smallest rank that vLLM loads and that holds this one. Raises CheckpointError beyond 512."""
    for allowed in RANKS:
        if allowed >= rank:
            return allowed
    raise CheckpointError(
        f"a merge of rank {rank} is beyond the {RANKS[-1]} that vLLM loads; train experts of a lower one"
    )


def merge_experts(experts: Sequence[Expert], weights: Sequence[float]) -> Expert:
    """Σ w_k τ_k as one adapter of scale 1. Raises CheckpointError where the experts adapt different layers."""
    if any(expert.halves.keys() != experts[0].halves.keys() for expert in experts):
        raise CheckpointError("the experts adapt different layers")
    total = sum(int(expert.settings["r"]) for expert in experts)
    rank, halves = allowed_rank(total), dict[str, torch.Tensor]()
    for layer in experts[0].layers:
        a, b = f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"
        scaled = [weight * expert.scale * expert.halves[b] for expert, weight in zip(experts, weights, strict=True)]
        stacked, beside = torch.cat([expert.halves[a] for expert in experts]), torch.cat(scaled, dim=1)
        halves[a] = torch.nn.functional.pad(stacked, (0, 0, 0, rank - total)).contiguous()
        halves[b] = torch.nn.functional.pad(beside, (0, rank - total)).contiguous()
    return Expert(experts[0].settings | {"r": rank, "lora_alpha": rank}, halves)


def relative_error(merged: Expert, experts: Sequence[Expert], weights: Sequence[float]) -> float:
    """The greatest ‖merge − Σ w_k τ_k‖ / ‖Σ w_k τ_k‖ of a layer."""
    worst = 0.0
    for layer in merged.layers:
        parts = [weight * expert.task_vector(layer) for expert, weight in zip(experts, weights, strict=True)]
        exact = torch.stack(parts).sum(0)
        worst = max(worst, float((merged.task_vector(layer) - exact).norm() / exact.norm().clamp(min=1e-30)))
    return worst


def grid_weights(grid: Grid) -> Iterator[Weights]:
    """Corners first, each the weight of one expert alone."""
    steps = grid.steps
    lattice = [(i, j, steps - i - j) for i in range(steps, -1, -1) for j in range(steps - i, -1, -1)]
    for point in sorted(lattice, key=max, reverse=True):
        yield (point[0] / steps, point[1] / steps, point[2] / steps)
    if grid.centre and steps % 3:
        yield (1 / 3, 1 / 3, 1 / 3)


def point_name(weights: Weights) -> str:
    """Such as axes-50-50-0, in hundredths and in the order of the axes."""
    return "-".join(["axes", *(f"{100 * weight:.0f}" for weight in weights)])


def save_adapter(adapter: Expert, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(adapter.halves, folder / "adapter_model.safetensors")
    with replace_file(folder / SETTINGS) as file:
        file.write(json.dumps(adapter.settings, indent=2).encode() + b"\n")


def merge(config: MocaeConfig) -> None:
    """Writes the grid of merged adapters; `grid.json` comes last."""
    experts = [Expert.load(config.expert(axis)) for axis in AXES]
    points, worst, rank = [], 0.0, 0
    for weights in grid_weights(config.grid):
        merged = merge_experts(experts, weights)
        worst, rank = max(worst, relative_error(merged, experts, weights)), merged.settings["r"]
        point = GridPoint(name=point_name(weights), weights=weights)
        save_adapter(merged, config.output / point.name)
        points.append(point)
    targets = sorted({layer.rpartition(".")[2] for layer in experts[0].layers})
    grid = AxisGrid(rank=rank, targets=tuple(targets), points=tuple(points))
    with replace_file(config.output / GRID_FILE) as file:
        file.write(grid.model_dump_json(indent=1).encode())
    print(f"{len(points)} adapters of rank {rank}, greatest relative error of a merge {worst:.1e}")


if __name__ == "__main__":
    run_script(MocaeConfig, merge)
