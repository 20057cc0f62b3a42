"""Adapters at points of the simplex of the axes (helpful, harmless, honest), as training/mocae writes them and vLLM
serves them: a folder with `grid.json` and an adapter a point.

    grid = AxisGrid.read(Path("var/mocae/served"))
    point, distance = grid.nearest((0.5, 0.3, 0.2))
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Axis = Literal["helpful", "harmless", "honest"]
AXES: tuple[Axis, ...] = get_args(Axis)
GRID_FILE = "grid.json"

Weights = tuple[float, float, float]
"""In the order of `AXES`."""


class GridPoint(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Of the adapter, of its folder, and of the model as vLLM lists it."""
    weights: Weights


class AxisGrid(BaseModel):
    """What `grid.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["alignx-axes/1"] = "alignx-axes/1"
    rank: int
    """Of every adapter, padding included."""
    points: Annotated[tuple[GridPoint, ...], Field(min_length=1)]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ValueError where the folder holds no grid."""
        try:
            return cls.model_validate_json((folder / GRID_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise ValueError(
                f"{folder} holds no {GRID_FILE} of axis adapters; training/runs/mocae.sh makes it"
            ) from error

    def nearest(self, weights: Sequence[float]) -> tuple[GridPoint, float]:
        """The point at the least Euclidean distance, and that; the first of equally near ones."""
        distances = [math.dist(point.weights, weights) for point in self.points]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        return self.points[nearest], distances[nearest]

    def vllm_options(self, folder: Path) -> list[str]:
        """Arguments with which vLLM loads every adapter at its start.

        One slot stays empty: on a CPU vLLM 0.32 gives requests without an adapter the last slot's when a batch holds
        both kinds (the index of no adapter is -1).
        """
        modules = [f"{point.name}={folder / point.name}" for point in self.points]
        slots = len(self.points) + 1
        return [
            "--enable-lora", "--max-lora-rank", str(self.rank), "--max-loras", str(slots),
            "--max-cpu-loras", str(slots), "--lora-modules", *modules,
        ]  # fmt: skip
