"""The grid of axis adapters."""

import math
from itertools import pairwise
from pathlib import Path

import pytest

from training.mocae.grid import GRID_FILE, AxisGrid, GridPoint

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


def test_a_slot_stays_empty_for_requests_without_an_adapter() -> None:
    options = GRID.vllm_options(Path("served"))
    value = dict(pairwise(options))
    assert value["--max-loras"] == value["--max-cpu-loras"] == "4"
    assert value["--max-lora-rank"] == "64"
    assert options[-3:] == [f"{point.name}=served/{point.name}" for point in GRID.points]


def test_a_folder_without_a_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no grid\.json"):
        AxisGrid.read(tmp_path)
    (tmp_path / GRID_FILE).write_text(GRID.model_dump_json(), encoding="utf-8")
    assert AxisGrid.read(tmp_path) == GRID
