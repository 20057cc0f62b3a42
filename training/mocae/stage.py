"""The configuration of MoCaE, which every script of it reads: rows, experts, grid of merges, router.

An expert is a LoRA adapter that training.sft or training.dpo makes of the rows of one axis; training/runs/mocae.sh
runs all of it.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from training.config import PositiveInt, Section

FOLDS = 5


class AxisData(Section):
    """Published files, and how many of their rows are used."""

    alpaca: Path
    """A JSON file of instruction, input, output."""
    beavertails: Annotated[tuple[Path, ...], Field(min_length=1)]
    """JSON Lines of prompt, response and is_safe as published, or CSV files with prompts alone; to those without a safe
    answer the rows give a refusal of training/mocae/axis_rows.py."""
    truthfulqa: Path
    """TruthfulQA.csv."""
    helpful_rows: PositiveInt = 20_000
    harmless_rows: PositiveInt = 30_000
    honest_epochs: PositiveInt = 1
    """How often a TruthfulQA question stands in the rows: it has 790, Alpaca 52,000."""
    router_rows: PositiveInt = 800
    """Prompts of an axis that the router is trained, calibrated and tested on, at most."""
    fold: Annotated[int, Field(ge=0, lt=FOLDS)] = 0
    """The fifth of all questions that nothing is trained on; the router calibrates on the next."""


class Grid(Section):
    """Points of the simplex that become adapters."""

    steps: PositiveInt = 2
    """Weights are multiples of 1/steps: 2 makes corners and edges, 4 the fifteen points of quarters."""
    centre: bool = True
    """Adds the uniform merge."""


class Router(Section):
    width: PositiveInt = 256
    """Rows of P."""
    max_tokens: PositiveInt = 512
    """Of a prompt."""
    steps: PositiveInt = 300
    """Of Adam, each over all prompts."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    weight_decay: Annotated[float, Field(ge=0)] = 10.0
    """Of Adam; far from the .01 of the experts, since the head has more weights than there are prompts."""
    balance: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the load balance in the loss."""
    radius: Annotated[float, Field(gt=0)] = 0.05
    """Cosine distance within which training prompts count in the density."""


class MocaeConfig(Section):
    stage: Literal["mocae"]
    base: Path
    """The checkpoint that every expert adapts."""
    data: AxisData
    work: Path
    """Folder of rows, experts and routers."""
    output: Path
    """Folder of the grid of adapters, which vLLM and the response service read."""
    grid: Grid = Grid()
    router: Router = Router()
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def prompts(self) -> Path:
        """Prompts of all axes, which training.mocae.axis_rows writes."""
        return self.work / "prompts.jsonl"

    def expert(self, axis: str) -> Path:
        """The folder of the adapter."""
        return self.work / f"{axis}.adapter"
