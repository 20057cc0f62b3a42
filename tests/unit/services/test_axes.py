"""The grid of axis adapters."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.axes import GRID_FILE, SERVED_FILE, AxisGrid, GridPoint, ServedMerge

GRID = AxisGrid(
    rank=64,
    points=(
        GridPoint(name="axes-100-0-0", weights=(1, 0, 0)),
        GridPoint(name="axes-0-100-0", weights=(0, 1, 0)),
        GridPoint(name="axes-50-50-0", weights=(0.5, 0.5, 0)),
    ),
)


def test_the_nearest_point_and_its_distance() -> None:
    point, distance = GRID.nearest((0.5, 0.3, 0.2))
    assert point.name == "axes-50-50-0"
    assert distance == pytest.approx(math.sqrt(0.08))
    assert GRID.nearest((1, 0, 0)) == (GRID.points[0], 0)
    assert GRID.nearest((1, 0, 0), GRID.points[1:])[0].name == "axes-50-50-0"


def test_a_slot_stays_empty_and_the_head_takes_no_adapter() -> None:
    options = GRID.vllm_options(Path("served"))
    value = dict(pairwise(options))
    assert value["--max-loras"] == value["--max-cpu-loras"] == "4"
    assert value["--max-lora-rank"] == "64"
    named = options[options.index("--lora-target-modules") + 1 : options.index("--lora-modules")]
    assert named == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert options[-3:] == [f"{point.name}=served/{point.name}" for point in GRID.points]


def test_a_folder_without_a_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no grid\.json"):
        AxisGrid.read(tmp_path)
    (tmp_path / GRID_FILE).write_text(GRID.model_dump_json(), encoding="utf-8")
    assert AxisGrid.read(tmp_path) == GRID


def test_a_rank_that_vllm_does_not_load_is_refused() -> None:
    with pytest.raises(ValidationError, match="adapters of rank 1, 8, 16, 32, 64"):
        AxisGrid(rank=48, points=GRID.points)


@pytest.mark.parametrize(
    ("text", "why"), [("{}", "holds no served.json"), ('{"static": "a", "routed": false}', "no point")]
)
def test_a_folder_that_does_not_say_what_is_served_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"holds no served\.json"):
        ServedMerge.read(tmp_path, GRID)
    (tmp_path / SERVED_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=why):
        ServedMerge.read(tmp_path, GRID)
