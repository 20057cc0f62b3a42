"""Adapters at points of the simplex of the axes (helpful, harmless, honest), as training/mocae writes them, vLLM loads
them and the response service chooses among them: a folder with an adapter a point and two files, `grid.json` (the
points) and `served.json` (what answers where a chat names no weights).

    grid = AxisGrid.read(Path("var/mocae/served"))
    point, distance = grid.nearest((0.5, 0.3, 0.2))
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Axis = Literal["helpful", "harmless", "honest"]
AXES: tuple[Axis, ...] = get_args(Axis)
RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of adapters that vLLM 0.32 loads."""
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""What the experts of training/configs adapt."""
GRID_FILE: Final = "grid.json"
SERVED_FILE: Final = "served.json"
ROUTER_FILE: Final = "router.npz"

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
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = TARGETS
    """Modules that the adapters adapt, by the last part of their names."""
    points: Annotated[tuple[GridPoint, ...], Field(min_length=1)]

    @field_validator("rank")
    @classmethod
    def _check_rank(cls, rank: int) -> int:
        if rank not in RANKS:
            raise ValueError(f"vLLM loads adapters of rank {', '.join(map(str, RANKS))}")
        return rank

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ValueError where the folder holds no grid."""
        try:
            return cls.model_validate_json((folder / GRID_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise ValueError(
                f"{folder} holds no {GRID_FILE} of axis adapters; training/runs/mocae.sh makes it"
            ) from error

    def nearest(self, weights: Sequence[float], among: Sequence[GridPoint] = ()) -> tuple[GridPoint, float]:
        """The point at the least Euclidean distance, of all or of those named, and that; the first of equally near
        ones."""
        points = among or self.points
        distances = [math.dist(point.weights, weights) for point in points]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        return points[nearest], distances[nearest]

    def vllm_options(self, folder: Path) -> list[str]:
        """Arguments with which vLLM loads every adapter at its start.

        Two faults of vLLM 0.32 on a CPU are kept out. One slot stays empty: requests without an adapter get the last
        slot's when a batch holds both kinds (the index of no adapter is -1). And the targets are named: else the head
        takes adapters as well, and the first request for `prompt_logprobs` ends the engine.
        """
        modules = [f"{point.name}={folder / point.name}" for point in self.points]
        slots = len(self.points) + 1
        return [
            "--enable-lora", "--max-lora-rank", str(self.rank), "--max-loras", str(slots),
            "--max-cpu-loras", str(slots), "--lora-target-modules", *self.targets, "--lora-modules", *modules,
        ]  # fmt: skip


class ServedMerge(BaseModel):
    """What `served.json` holds, as evaluation/suites/mocae.py finds it out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    static: str
    """The point that answers."""
    routed: bool
    """Whether the router chooses one instead, by the prompt."""

    @classmethod
    def read(cls, folder: Path, grid: AxisGrid) -> Self:
        """Raises ValueError where the folder does not say which of the grid's points is served."""
        try:
            served = cls.model_validate_json((folder / SERVED_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise ValueError(
                f"{folder} holds no {SERVED_FILE}; `python -m evaluation.suites.mocae` writes it"
            ) from error
        if served.static not in {point.name for point in grid.points}:
            raise ValueError(f"{folder / SERVED_FILE} names {served.static!r}, which is no point of its grid")
        return served
