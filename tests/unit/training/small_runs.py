"""What tests of the training stages run on: a random model of one layer, rows of the made-up world."""

import json
import random
from pathlib import Path
from typing import Any

from training.corpus.lexicon import Pen
from training.corpus.world_rows import World, alignx, inference

WORLD = World()

SFT = """
stage = "sft"

[model]
path = "{model}"

[data]
train = ["{data}"]

[sft]
max_length = 2048
cache = "{folder}/tokens"

[optim]
learning_rate = 1e-2
schedule = "constant"
max_steps = 6
batch = 8
micro_batch = 4

[run]
output = "{folder}/out"
seed = 3
save_every = 3
log_every = 1
precision = "fp32"
tensorboard = false
final_weights = "float32"
"""
DPO = SFT.replace('stage = "sft"', 'stage = "dpo"').replace("[sft]", '[dpo]\nmode = "ica"')


def sft_row(number: int) -> dict[str, Any]:
    return inference(Pen(random.Random(number), "train"), WORLD, 1 + number % 3, past=number % 2 == 1)


def alignx_row(number: int) -> dict[str, Any]:
    return alignx(Pen(random.Random(number), "train"), WORLD, 1 + number % 3)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def write_config(folder: Path, text: str, *, model: Path, data: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.toml"
    path.write_text(text.format(model=model, data=data, folder=folder), encoding="utf-8")
    return path


def losses(folder: Path) -> list[float]:
    """Of each step, as the run beside `folder` wrote them."""
    found = json.loads((folder.with_name(f"{folder.name}.run") / "metrics.json").read_text(encoding="utf-8"))
    return [entry["loss"] for entry in found["history"]]
