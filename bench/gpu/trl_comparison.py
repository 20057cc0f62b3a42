"""Throughput of the training stages against TRL's example scripts.

    .venv-training/bin/python -m bench.gpu.trl_comparison [--rows N] [--repeats N]

The same fresh model of three million parameters, the same rows of the made-up world, the same batch, one epoch,
one after the other in one run, on the cores this process may use. "Plain" is what TRL's examples do:
SFTTrainer, DPOTrainer or GRPOTrainer with their defaults on conversational rows; "tuned" is the same
without activation checkpointing, which TRL switches on by default and a small model does not need.
The plain GRPOTrainer gets our rollout and reward of two stages, or there would be nothing to compare.
A figure is tokens of the rows, padding not counted, by the seconds of everything after the model is
loaded: tokenising, the reference's log-probabilities, writing replies, training. Of reinforcement
learning it is replies, each as long as allowed, since a fresh model never ends one. Medians over the
repeats.
"""

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
from io import StringIO
from pathlib import Path
from typing import Any

import typer
from datasets import Dataset, disable_caching, disable_progress_bars
from transformers import AttentionInterface, AutoTokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils.logging import disable_progress_bar, set_verbosity_error
from trl import DPOConfig as PlainDpo
from trl import DPOTrainer, GRPOTrainer, SFTTrainer
from trl import SFTConfig as PlainSft

from bench.page import Row, save_results
from services.prompts.build import chat_prompt
from training.checkpoint import save
from training.config import Stage, load
from training.corpus.lexicon import Pen
from training.corpus.world_rows import World, alignx, inference, selection, streaming
from training.data.formats import AlignXRow, SftRow
from training.data.preference_pairs import AlignXEncoder, select_history
from training.data.tokens import LENGTH, SftEncoder
from training.dpo import DpoConfig, dpo
from training.grpo import GrpoConfig, grpo, grpo_arguments, load_rows, reward_function
from training.judges import open_judge
from training.rl.rollouts import make_rollout
from training.sft import SftConfig, sft
from training.tokenizer import Shape, fixed_texts, fresh_model, train

WORLD = World()
SHAPE = Shape(hidden=256, layers=5, heads=8, kv_heads=4, head_dim=32, intermediate=768)
VOCABULARY = 1536
MAX_LENGTH = 4096
BATCH = {"sft": 32, "dpo": 16, "grpo": 32}
CONFIG = """
stage = "{stage}"
[model]
path = "{folder}/model"
[data]
train = ["{folder}/{stage}.jsonl"]
[{stage}]
{own}
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
LENGTHS = 'max_length = 4096\ncache = "{folder}/tokens-{name}"\n'
OWN = {
    "sft": LENGTHS,
    "dpo": f'mode = "ica"\n{LENGTHS}',
    "grpo": 'reward = "streaming"\ngenerations = 4\nprompt_tokens = 1024\nnew_tokens = 128\npast_tokens = 256\n',
}
KINDS: dict[str, tuple[type[Stage], Callable[[Any], dict[str, Any]]]] = {
    "sft": (SftConfig, sft),
    "dpo": (DpoConfig, dpo),
    "grpo": (GrpoConfig, grpo),
}
GRPO_REPLIES = 8
"""To one user: two stages of four."""
USERS_BY_ROWS = 8
"""Reinforcement learning takes one user where the other stages take so many rows."""


def sft_row(number: int) -> dict[str, Any]:
    """Long summaries, short selections."""
    pen = make_pen(number)
    if number % 2:
        return inference(pen, WORLD, pen.rng.randint(1, 10), past=number % 4 == 1)
    return selection(pen, WORLD, pen.rng.randint(1, 6), most_items=8)


def alignx_row(number: int) -> dict[str, Any]:
    pen = make_pen(number)
    return alignx(pen, WORLD, pen.rng.randint(1, 8))


def make_pen(number: int) -> Pen:
    return Pen(random.Random(number), "train")


def make_rows(rows: int, users: int) -> dict[str, list[dict[str, Any]]]:
    """By stage; `users` are those of reinforcement learning."""
    return {
        "sft": [sft_row(number) for number in range(rows)],
        "dpo": [alignx_row(number) for number in range(rows)],
        "grpo": [streaming(make_pen(number), WORLD, 6, f"u{number}") for number in range(users)],
    }


def write_rows(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> Any:
    """A file for each stage; returns a tokenizer trained on the texts of SFT."""
    for name, own in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in own), encoding="utf-8")
    texts = (message["content"] for row in rows["sft"] for message in (*row["prompt"], *row["completion"]))
    return train(texts, VOCABULARY, MAX_LENGTH, fixed=fixed_texts())


def prepare(folder: Path, count: int) -> dict[str, int]:
    """Writes model and rows; returns the tokens of each stage's rows, and the replies of grpo."""
    rows = make_rows(count, count // USERS_BY_ROWS)
    tokenizer = write_rows(folder, rows)
    save(fresh_model(tokenizer, SHAPE, 1), tokenizer, folder / "model", card="", dtype="float32")
    encoder = SftEncoder(tokenizer, max_length=MAX_LENGTH, completion_only=True)
    tokens = sum(row[LENGTH] for row in encoder.encode([SftRow.model_validate(row) for row in rows["sft"]]))
    asker = AlignXEncoder(
        tokenizer, max_length=MAX_LENGTH, mode="ica", shown="comparisons", max_history=16, history_tokens=6144
    )
    encoded = asker.encode([AlignXRow.model_validate(row) for row in rows["dpo"]])
    pair_tokens = sum(row[LENGTH] + len(row["prompt_ids"]) for row in encoded)
    return {"sft": tokens, "dpo": pair_tokens, "grpo": len(rows["grpo"]) * GRPO_REPLIES}


# --- the plain scripts ---------------------------------------------------------------------------


def plain(stage: str, folder: Path, *, tuned: bool) -> float:
    """Seconds of TRL's example on the rows."""
    AttentionInterface.register("sdpa", sdpa_attention_forward)
    if stage == "grpo":
        return plain_grpo(folder, tuned=tuned)
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


def plain_grpo(folder: Path, *, tuned: bool) -> float:
    config = load(configured("grpo", folder), GrpoConfig)
    arguments = grpo_arguments(config)
    AttentionInterface.register("sdpa", sdpa_attention_forward)  # which our arguments have replaced
    arguments.activation_checkpointing = not tuned
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    judge = open_judge(config.judge, config, arguments.device)
    started = time.perf_counter()
    trainer = GRPOTrainer(
        config.model.path,
        args=arguments,
        train_dataset=load_rows(config),
        processing_class=tokenizer,
        reward_funcs=reward_function(config, judge, tokenizer),
        rollout_func=make_rollout(config.grpo, config.run.seed),
    )
    trainer.train()
    return time.perf_counter() - started


def preference(row: AlignXRow) -> dict[str, Any]:
    request = [{"role": "user", "content": row.prompt}]
    history = select_history(row, shown="comparisons", most=16, tokens=6144)
    return {
        "prompt": chat_prompt(request, mode="ica", summary=None, history=history).messages,  # type: ignore[arg-type]
        "chosen": [{"role": "assistant", "content": row.chosen}],
        "rejected": [{"role": "assistant", "content": row.rejected}],
    }


# --- ours ----------------------------------------------------------------------------------------


def ours(stage: str, folder: Path, *overrides: str) -> float:
    """Seconds of this project's script on the rows, from nothing; its checkpoint is part of it."""
    kind, run = KINDS[stage]
    path = configured(stage, folder)
    started = time.perf_counter()
    run(load(path, kind, overrides))
    return time.perf_counter() - started


def configured(stage: str, folder: Path) -> Path:
    """A configuration of its own for each run, so that none finds another's rows or checkpoint."""
    name = f"{stage}-{time.monotonic_ns()}"
    path = folder / f"{name}.toml"
    own = OWN[stage].format(folder=folder, name=name)
    path.write_text(CONFIG.format(stage=stage, folder=folder, name=name, batch=BATCH[stage], own=own))
    return path


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
    "grpo": {
        "plain": lambda folder: plain("grpo", folder, tuned=False),
        "plain, tuned": lambda folder: plain("grpo", folder, tuned=True),
        "ours": lambda folder: ours("grpo", folder),
        "ours without shared prompts": lambda folder: ours("grpo", folder, "grpo.share_prompts=false"),
    },
}


def measure(rows: int = 512, repeats: int = 3) -> list[Row]:
    seconds: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, silence_libraries():
        folder = Path(name)
        tokens = prepare(folder, rows)
        for _ in range(repeats):  # in turns, so that what else the machine does meets all alike
            for stage, runs in RUNS.items():
                for run, act in runs.items():
                    seconds.setdefault((stage, run), []).append(act(folder))
                    print(f"{stage}, {run}: {seconds[stage, run][-1]:.1f} s", file=sys.stderr, flush=True)
    results = []
    for stage, runs in RUNS.items():
        rates = {run: tokens[stage] / statistics.median(seconds[stage, run]) for run in runs}
        unit = "replies/s" if stage == "grpo" else "tokens/s"
        results += [Row(f"{stage}: {run}", rate, unit) for run, rate in rates.items()]
        results.append(Row(f"{stage}: ours by plain", rates["ours"] / rates["plain"], "×", "≥ 1"))
        results.append(Row(f"{stage}: ours by plain, tuned", rates["ours"] / rates["plain, tuned"], "×", "≥ 1"))
    return results


@contextmanager
def silence_libraries() -> Iterator[None]:
    disable_caching()
    disable_progress_bars()
    disable_progress_bar()
    set_verbosity_error()
    os.environ["TQDM_DISABLE"] = "1"
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield


def main(rows: int = 512, repeats: int = 3) -> None:
    save_results("training", measure(rows, repeats), __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
