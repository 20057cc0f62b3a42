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
from evaluation.cases.pairs import HISTORY_TOKENS, MAX_HISTORY, pair
from evaluation.model_sources import checkpoint
from evaluation.models import Likelihood, LocalModel, Messages
from training.corpus import world_rows
from training.corpus.world_rows import World
from training.data.formats import AlignXRow
from training.data.preference_pairs import Mode
from training.speed.local_engine import LocalEngine
from training.synthesis.answer_store import AnswerStore

MODEL = Path("models/alignx-mini")
MODES: tuple[Mode, ...] = ("ica", "pba")
ROUNDS = 4
EVENTS = (4, 8)
"""Of a history, as in mini's held-out pairs."""

Asked = Sequence[tuple[Messages, str]]
"""Prompt and reply of chosen and rejected in turn."""
Scorer = Callable[[Asked], list[Likelihood]]


def asked(mode: Mode, count: int, first: int = 0) -> list[tuple[Messages, str]]:
    """The prompts and replies of `count` pairs."""
    found: list[tuple[Messages, str]] = []
    number, world = first, World("heldout")
    while len(found) < 2 * count:
        rng = random.Random(f"alignment-{number}")
        row = AlignXRow.model_validate(world_rows.alignx(rng, world, rng.randint(*EVENTS)))
        number += 1
        if made := pair(row, mode, max_history=MAX_HISTORY, history_tokens=HISTORY_TOKENS):
            found += [(made["prompt"], made[name][0]["content"]) for name in ("chosen", "rejected")]
    return found


def one_pair_at_a_time(engine: LocalEngine) -> Scorer:
    model, tokenizer = engine.model, engine.tokenizer

    def scored(prompt: Messages, replies: Sequence[str]) -> list[Likelihood]:
        told: Any = tokenizer.apply_chat_template(
            list(prompt), tokenize=True, return_dict=True, add_generation_prompt=True, enable_thinking=False
        )
        head = list(told["input_ids"])
        tails = [tokenizer.encode(reply, add_special_tokens=False) for reply in replies]
        width = max(map(len, tails))
        ids = torch.tensor([head + tail + [engine.tokenizer.eos_token_id] * (width - len(tail)) for tail in tails])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits.float().log_softmax(-1)
        ends = [range(len(head) - 1, len(head) - 1 + len(tail)) for tail in tails]
        return [
            Likelihood(float(logprobs[place, list(end), tail].sum()), len(tail))
            for place, (end, tail) in enumerate(zip(ends, tails, strict=True))
        ]

    def score(pairs: Asked) -> list[Likelihood]:
        found: list[Likelihood] = []
        for place in range(0, len(pairs), 2):
            (prompt, chosen), (_, rejected) = pairs[place : place + 2]
            found += scored(prompt, (chosen, rejected))
        return found

    return score


def measure(model: Path = MODEL, pairs: int = 128) -> list[Row]:
    disable_progress_bar()
    engine = LocalEngine.load(model)
    with AnswerStore.open(Path(":memory:")) as store:
        local = LocalModel(engine, checkpoint(model), store)
        ours: Scorer = lambda rows: local.likelihoods(rows, tick=lambda _: None)  # noqa: E731
        return [row for mode in MODES for row in compared(mode, ours, one_pair_at_a_time(engine), pairs)]


def compared(mode: Mode, ours: Scorer, plain: Scorer, pairs: int) -> list[Row]:
    fresh = asked(mode, (ROUNDS + 1) * pairs)
    warm, fresh = fresh[: 2 * pairs], fresh[2 * pairs :]
    apart = max(abs(one.logprob - other.logprob) for one, other in zip(ours(warm), plain(warm), strict=True))
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    for start in range(0, len(fresh), 2 * pairs):
        part = fresh[start : start + 2 * pairs]
        for name, scorer in (("ours", ours), ("plain", plain)):
            began = time.perf_counter()
            scorer(part)
            speeds[name].append(pairs / (time.perf_counter() - began))
    ratio = statistics.median(one / other for one, other in zip(speeds["ours"], speeds["plain"], strict=True))
    return [
        Row(f"{mode}: as evaluation does", statistics.median(speeds["ours"]), "pairs/s"),
        Row(f"{mode}: one pair at a time", statistics.median(speeds["plain"]), "pairs/s"),
        Row(f"{mode}: the first by the second", ratio, "×", "≥ 3"),
        Row(f"{mode}: largest distance of a log-probability", apart, "nats", "≤ 0.001"),
    ]


def main(pairs: int = 128, model: Path = MODEL) -> None:
    """`pairs` of a round; `model` is a checkpoint folder."""
    save_results("alignment", measure(model, pairs), __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
