"""Alignment accuracy: likelihoods as evaluation computes them against one pair at a time.

    .venv-training/bin/python -m bench.gpu.alignment_scoring [--pairs N] [--model DIR]

The pairs are held-out people of the synthetic world in both modes of AlignXpert, with the prompts that
training.dpo makes. "One pair at a time" is the plain way with transformers: chosen and rejected as a batch
of two, logits of all positions, their log-softmax, the reply's tokens picked out. Both work on the same
model in this process with the same threads, by turns on fresh pairs, so that a change of the machine's
speed hits both; a policy and its reference each cost the same, so the ratio is that of the accuracy. On a
CPU a token costs about the same whether it is computed alone or in a batch, and what is saved is the
prompt, which a pair needs once: up to twice, less the replies. Each mode's last row is the largest
distance between two log-probabilities of a reply that both ways found.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import typer
from transformers.utils.logging import disable_progress_bar

from bench.page import Row, save_results
from evaluation.cases.pairs import make_pair
from evaluation.model_sources import checkpoint_source
from evaluation.models import LocalModel, Messages
from evaluation.scoring.alignment import flatten_pairs
from services.engine.judge import Likelihood
from training.corpus import world_rows
from training.corpus.world_rows import World
from training.data.formats import AlignXRow, PairRow
from training.data.preference_pairs import Mode
from training.speed.local_engine import LocalEngine
from training.synthesis.answer_store import AnswerStore

MODEL = Path("models/alignx-mini")
MODES: tuple[Mode, ...] = ("ica", "pba")
ROUNDS = 4
EVENTS = (4, 8)
"""Of a history, as in mini's held-out pairs."""

Rows = Sequence[tuple[Messages, str]]
"""Prompt and reply of chosen and rejected in turn."""
Scorer = Callable[[Rows], list[Likelihood]]


def make_rows(mode: Mode, count: int) -> Rows:
    """The prompts and replies of `count` pairs."""
    pairs: list[PairRow] = []
    number, world = 0, World("heldout")
    while len(pairs) < count:
        rng = random.Random(f"alignment-{number}")
        row = AlignXRow.model_validate(world_rows.alignx(rng, world, rng.randint(*EVENTS)))
        number += 1
        if pair := make_pair(row, mode):
            pairs.append(pair)
    return flatten_pairs(pairs)


def score_singly(engine: LocalEngine) -> Scorer:
    model, tokenizer = engine.model, engine.tokenizer

    def score_pair(prompt: Messages, replies: Sequence[str]) -> list[Likelihood]:
        encoded: Any = tokenizer.apply_chat_template(
            list(prompt), tokenize=True, return_dict=True, add_generation_prompt=True, enable_thinking=False
        )
        head = list(encoded["input_ids"])
        tails = [tokenizer.encode(reply, add_special_tokens=False) for reply in replies]
        width = max(map(len, tails))
        ids = torch.tensor([head + tail + [engine.tokenizer.eos_token_id] * (width - len(tail)) for tail in tails])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits.float().log_softmax(-1)
        ends = [range(len(head) - 1, len(head) - 1 + len(tail)) for tail in tails]
        return [
            Likelihood(float(logprobs[index, list(end), tail].sum()), len(tail))
            for index, (end, tail) in enumerate(zip(ends, tails, strict=True))
        ]

    def score(rows: Rows) -> list[Likelihood]:
        results: list[Likelihood] = []
        for start in range(0, len(rows), 2):
            (prompt, chosen), (_, rejected) = rows[start : start + 2]
            results += score_pair(prompt, (chosen, rejected))
        return results

    return score


def measure(model: Path = MODEL, pairs: int = 128) -> list[Row]:
    disable_progress_bar()
    engine = LocalEngine.load(model)
    with AnswerStore.open(Path(":memory:")) as store:
        local = LocalModel(engine, checkpoint_source(model), store)
        ours: Scorer = lambda rows: local.likelihoods(rows, tick=lambda _: None)  # noqa: E731
        return [row for mode in MODES for row in compare(mode, ours, score_singly(engine), pairs)]


def compare(mode: Mode, ours: Scorer, plain: Scorer, pairs: int) -> list[Row]:
    rows = make_rows(mode, (ROUNDS + 1) * pairs)
    warm, fresh = rows[: 2 * pairs], rows[2 * pairs :]
    distance = max(abs(first.logprob - second.logprob) for first, second in zip(ours(warm), plain(warm), strict=True))
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    for start in range(0, len(fresh), 2 * pairs):
        part = fresh[start : start + 2 * pairs]
        for name, scorer in (("ours", ours), ("plain", plain)):
            began = time.perf_counter()
            scorer(part)
            speeds[name].append(pairs / (time.perf_counter() - began))
    ratio = statistics.median(first / second for first, second in zip(speeds["ours"], speeds["plain"], strict=True))
    return [
        Row(f"{mode}: as evaluation does", statistics.median(speeds["ours"]), "pairs/s"),
        Row(f"{mode}: one pair at a time", statistics.median(speeds["plain"]), "pairs/s"),
        Row(f"{mode}: the first by the second", ratio, "×", "≥ 3"),
        Row(f"{mode}: largest distance of a log-probability", distance, "nats", "≤ 0.001"),
    ]


def main(pairs: int = 128, model: Path = MODEL) -> None:
    """`pairs` of a round; `model` is a checkpoint folder."""
    save_results("alignment", measure(model, pairs), __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
