"""Merges of experts: exact, and what transformers computes with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from services.axes import AXES, AxisGrid
from training.exceptions import CheckpointError
from training.mocae.merge import (
    Expert,
    allowed_rank,
    grid_weights,
    merge,
    merge_experts,
    point_name,
    relative_error,
    save_adapter,
)
from training.mocae.stage import Grid, MocaeConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft about its own futures

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WEIGHTS = (0.5, 0.3, 0.2)
IDS = torch.arange(40)[None]


@pytest.fixture(scope="module")
def folders(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three random adapters of ranks and scales of their own, such as PEFT writes."""
    folders = []
    for number, (rank, alpha) in enumerate([(4, 8), (4, 4), (8, 32)]):
        torch.manual_seed(number)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, init_lora_weights=False)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        folders.append(tmp_path_factory.mktemp("expert"))
        model.save_pretrained(folders[-1])
    return folders


@pytest.fixture(scope="module")
def experts(folders: list[Path]) -> list[Expert]:
    return [Expert.load(folder) for folder in folders]


def logits(base: Path, adapter: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        return PeftModel.from_pretrained(model, adapter).eval()(input_ids=IDS).logits


def summed_logits(base: Path, experts: Sequence[Expert], weights: Sequence[float]) -> Any:
    """Of the base with Σ w_k τ_k added to its own weights."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    layers = dict(model.named_modules())
    with torch.no_grad():
        for name in experts[0].layers:
            for expert, weight in zip(experts, weights, strict=True):
                layers[name.removeprefix("base_model.model.")].weight += weight * expert.task_vector(name)
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("weights", [WEIGHTS, (1 / 3, 1 / 3, 1 / 3), (0.0, 0.5, 0.5)])
def test_a_merge_is_exact(experts: list[Expert], weights: Sequence[float]) -> None:
    merged = merge_experts(experts, weights)
    assert merged.scale == 1
    assert merged.settings["r"] == 16  # 4 + 4 + 8 needs no padding
    assert relative_error(merged, experts, weights) <= 1e-5
    assert relative_error(merged, experts, weights[::-1]) > 1e-2 or weights == weights[::-1]


def test_the_adapter_of_a_point_computes_the_merge(base: Path, experts: list[Expert], tmp_path: Path) -> None:
    merged = merge_experts([*experts, experts[0]], [*WEIGHTS, 0.0])  # of rank 20, padded to 32
    assert merged.settings["r"] == 32
    save_adapter(merged, tmp_path / "point")
    summed = summed_logits(base, experts, WEIGHTS)
    assert float((logits(base, tmp_path / "point") - summed).abs().max()) <= 1e-4
    assert float((summed - summed_logits(base, experts, (0, 0, 0))).abs().max()) > 1e-2


def test_what_weights_are_served_by_computes_their_merge(
    base: Path, folders: list[Path], experts: list[Expert], tmp_path: Path
) -> None:
    """From the folder that vLLM and the response service read, each point of the grid by its weights."""
    for axis, folder in zip(AXES, folders, strict=True):
        (tmp_path / f"{axis}.adapter").symlink_to(folder)
    data = {"alpaca": "unread.json", "beavertails": ["unread.csv"], "truthfulqa": "unread.csv"}
    fields = {"stage": "mocae", "base": base, "work": tmp_path, "output": tmp_path / "served", "data": data}
    merge(MocaeConfig.model_validate(fields))
    grid = AxisGrid.read(tmp_path / "served")
    assert sorted(grid.targets) == sorted(TARGETS)
    for weights in grid_weights(Grid()):
        point, distance = grid.nearest(weights)
        served = logits(base, tmp_path / "served" / point.name)
        assert distance == 0
        assert float((served - summed_logits(base, experts, weights)).abs().max()) <= 1e-4
    corner, _ = grid.nearest((1, 0, 0))
    assert float((logits(base, tmp_path / "served" / corner.name) - logits(base, folders[0])).abs().max()) <= 1e-5


def test_points_of_a_grid() -> None:
    assert [point_name(weights) for weights in grid_weights(Grid())] == [
        "axes-100-0-0", "axes-0-100-0", "axes-0-0-100", "axes-50-50-0", "axes-50-0-50", "axes-0-50-50", "axes-33-33-33"
    ]  # fmt: skip
    quarters = list(grid_weights(Grid(steps=4, centre=False)))
    assert len(set(quarters)) == 15
    assert all(sum(weights) == 1 for weights in quarters)


def test_ranks_that_vllm_loads() -> None:
    assert [allowed_rank(rank) for rank in (3, 48, 192)] == [8, 64, 256]
    with pytest.raises(CheckpointError, match="beyond the 512"):
        allowed_rank(513)


def test_what_is_no_plain_adapter_is_refused(experts: list[Expert], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no adapter"):
        Expert.load(tmp_path)
    save_adapter(Expert(experts[0].settings | {"use_dora": True}, experts[0].halves), tmp_path)
    with pytest.raises(CheckpointError, match="only plain"):
        Expert.load(tmp_path)
    fewer = Expert(experts[0].settings, dict(list(experts[0].halves.items())[:2]))
    with pytest.raises(CheckpointError, match="different layers"):
        merge_experts([experts[0], fewer], (0.5, 0.5))
