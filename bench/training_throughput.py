"""Throughput of fine-tuning and preference optimization against TRL's example scripts.

    .venv-training/bin/python -m bench.training_throughput [--rows N] [--repeats N]

The same fresh model of mini's shape, the same rows of the synthetic world, the same batch, one epoch,
one after the other in one run, on the cores this process may use. "Plain" is what TRL's examples do:
SFTTrainer or DPOTrainer with their defaults on conversational rows; "tuned" is the same without
activation checkpointing, which TRL switches on by default and a small model does not need. A figure
is tokens of the rows, padding not counted, by the seconds of everything after the model is loaded:
tokenising, the reference's log-probabilities, training. Medians over the repeats.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_caching, disable_progress_bars
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error
from trl import DPOConfig as PlainDpo
from trl import DPOTrainer, SFTTrainer
from trl import SFTConfig as PlainSft

from bench.result import Row
from services.core.prompts import chat_prompt
from training.checkpoint import save
from training.config import load
from training.corpus.rows import World, alignx, inference, selection
from training.data.formats import AlignXRow, SftRow
from training.dpo import DpoConfig, dpo
from training.pairs import AlignXEncoder, evidence
from training.sft import SftConfig, sft
from training.tokenizer import Shape, fixed_texts, fresh_model, train
from training.tokens import LENGTH, SftEncoder

RESULT = Path(__file__).with_name("results") / "training.json"
WORLD = World(split="train")
SHAPE = Shape(hidden=256, layers=5, heads=8, kv_heads=4, head_dim=32, intermediate=768)
VOCABULARY = 1536
MAX_LENGTH = 4096
BATCH = {"sft": 32, "dpo": 16}
CONFIG = """
stage = "{stage}"
[model]
path = "{folder}/model"
[data]
train = ["{folder}/{stage}.jsonl"]
[{stage}]
{mode}
max_length = 4096
cache = "{folder}/tokens-{name}"
[optim]
learning_rate = 1e-4
schedule = "linear"
batch = {batch}
micro_batch = {batch}
[run]
output = "{folder}/{name}"
resume = false
tensorboard = false
save_every = 1000
"""


def sft_row(number: int) -> dict[str, Any]:
    """As in mini's last phase: long summaries, short selections."""
    rng = random.Random(number)
    if number % 2:
        return inference(rng, WORLD, rng.randint(1, 10), past=number % 4 == 1)
    return selection(rng, WORLD, length=rng.randint(1, 6), extra=None, most_items=8)


def alignx_row(number: int) -> dict[str, Any]:
    rng = random.Random(number)
    return alignx(rng, WORLD, rng.randint(1, 8))


def prepare(folder: Path, rows: int) -> dict[str, int]:
    """Writes model and rows; returns the tokens of each stage's rows."""
    sfts, pairs = [sft_row(number) for number in range(rows)], [alignx_row(number) for number in range(rows)]
    for name, made in (("sft", sfts), ("dpo", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in made), encoding="utf-8")
    texts = (message["content"] for row in sfts for message in (*row["prompt"], *row["completion"]))
    tokenizer = train(texts, VOCABULARY, MAX_LENGTH, fixed=fixed_texts())
    save(fresh_model(tokenizer, SHAPE, 1), tokenizer, folder / "model", card="", dtype="float32")
    encoder = SftEncoder(tokenizer, max_length=MAX_LENGTH, completion_only=True)
    tokens = sum(row[LENGTH] for row in encoder.encode([SftRow.model_validate(row) for row in sfts]))
    asker = AlignXEncoder(
        tokenizer, max_length=MAX_LENGTH, mode="ica", shown="comparisons", max_history=16, history_tokens=6144
    )
    made = asker.encode([AlignXRow.model_validate(row) for row in pairs])
    return {"sft": tokens, "dpo": sum(row[LENGTH] + len(row["prompt_ids"]) for row in made)}


# --- the plain scripts ---------------------------------------------------------------------------


def plain(stage: str, folder: Path, *, tuned: bool) -> float:
    """Seconds of TRL's example on the rows."""
    arguments: dict[str, Any] = {
        "output_dir": str(folder / "plain"),
        "per_device_train_batch_size": BATCH[stage],
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "max_length": MAX_LENGTH,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    if tuned:
        arguments["activation_checkpointing"] = False
    lines = (folder / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = str(folder / "model")
    started = time.perf_counter()
    if stage == "sft":
        data = Dataset.from_list(rows)
        trainer = SFTTrainer(model, args=PlainSft(**arguments), train_dataset=data, processing_class=tokenizer)
    else:
        data = Dataset.from_list([preference(AlignXRow.model_validate(row)) for row in rows])
        trainer = DPOTrainer(model, args=PlainDpo(**arguments), train_dataset=data, processing_class=tokenizer)
    trainer.train()
    return time.perf_counter() - started


def preference(row: AlignXRow) -> dict[str, Any]:
    request = [{"role": "user", "content": row.prompt}]
    history = evidence(row, shown="comparisons", most=16, tokens=6144)
    return {
        "prompt": chat_prompt(request, mode="ica", summary=None, history=history).messages,  # type: ignore[arg-type]
        "chosen": [{"role": "assistant", "content": row.chosen}],
        "rejected": [{"role": "assistant", "content": row.rejected}],
    }


# --- ours ----------------------------------------------------------------------------------------


def ours(stage: str, folder: Path, *overrides: str) -> float:
    """Seconds of this project's script on the rows, from nothing; its checkpoint is part of it."""
    name = f"{stage}-{time.monotonic_ns()}"
    mode = 'mode = "ica"' if stage == "dpo" else ""
    path = folder / f"{name}.toml"
    path.write_text(CONFIG.format(stage=stage, folder=folder, name=name, batch=BATCH[stage], mode=mode))
    started = time.perf_counter()
    if stage == "sft":
        sft(load(path, SftConfig, overrides))
    else:
        dpo(load(path, DpoConfig, overrides))
    return time.perf_counter() - started


RUNS: dict[str, dict[str, Callable[[Path], float]]] = {
    "sft": {
        "plain": lambda folder: plain("sft", folder, tuned=False),
        "plain, tuned": lambda folder: plain("sft", folder, tuned=True),
        "ours": lambda folder: ours("sft", folder),
        "ours without buckets": lambda folder: ours("sft", folder, "sft.bucket=false"),
    },
    "dpo": {
        "plain": lambda folder: plain("dpo", folder, tuned=False),
        "plain, tuned": lambda folder: plain("dpo", folder, tuned=True),
        "ours": lambda folder: ours("dpo", folder),
        "ours without shared prompts": lambda folder: ours("dpo", folder, "dpo.share_prompts=false"),
        "ours without precomputed reference": lambda folder: ours("dpo", folder, "dpo.precompute_reference=false"),
    },
}


def measure(rows: int = 512, repeats: int = 3) -> list[Row]:
    seconds: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        tokens = prepare(folder, rows)
        for _ in range(repeats):  # in turns, so that what else the machine does meets all alike
            for stage, runs in RUNS.items():
                for run, act in runs.items():
                    seconds.setdefault((stage, run), []).append(act(folder))
                    print(f"{stage}, {run}: {seconds[stage, run][-1]:.1f} s", file=sys.stderr, flush=True)
    found = []
    for stage, runs in RUNS.items():
        rates = {run: tokens[stage] / statistics.median(seconds[stage, run]) for run in runs}
        found += [Row(f"{stage}: {run}", rate, "tokens/s") for run, rate in rates.items()]
        found.append(Row(f"{stage}: ours by plain", rates["ours"] / rates["plain"], "×", "≥ 1"))
        found.append(Row(f"{stage}: ours by plain, tuned", rates["ours"] / rates["plain, tuned"], "×", "≥ 1"))
    return found


@contextmanager
def quiet() -> Iterator[None]:
    disable_caching()
    disable_progress_bars()
    disable_progress_bar()
    set_verbosity_error()
    os.environ["TQDM_DISABLE"] = "1"
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rows = measure(given.rows, given.repeats)
    for row in rows:
        print(f"| {row.figure} | {row.value:,.2f} | {row.unit} | {row.must} |")
    kept = {"measured_at": datetime.now(UTC).date().isoformat(), "rows": [row._asdict() for row in rows]}
    RESULT.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
