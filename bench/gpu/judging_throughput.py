"""Choices and likelihoods a second on this machine's GPU: letters, a reply of 16 tokens, alignment scoring in batches.

    .venv-training/bin/python -m bench.gpu.judging_throughput [--rows N] [--tiny]

Fresh models of the shapes of training_throughput, in bfloat16, in this process, on rows of the made-up world. A choice
by letters reads both orders of two items; a choice as published writes 16 sampled tokens. Alignment scoring reads both
replies of a pair behind one prompt, computed once, and again with every pair alone in its batch. A figure is the median
of three passes after one that warms up. `--tiny` runs it on a model of one million parameters, in float32 on a CPU.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
import typer

from bench.gpu.training_throughput import LARGE, TINY, Setting, prepare
from bench.gpu.trl_comparison import alignx_row, preference, silence_libraries
from bench.page import Row, render_table, save_results
from services.prompts.build import LETTERS, ChatMessage
from services.prompts.profiles import OWN
from training.data.formats import AlignXRow
from training.speed.local_engine import LocalEngine

PASSES: Final = 3
ANSWER: Final = 16
"""Tokens of a sampled choice, as the AlignX family asks for it."""


def measure(settings: tuple[Setting, ...], rows: int) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    results: list[Row] = []
    for setting in settings:
        with tempfile.TemporaryDirectory() as name, silence_libraries():
            prepare(Path(name), setting, 64)
            engine = LocalEngine.load(f"{name}/model", device=device, dtype=dtype)
            results += rates(engine, setting.name, rows)
    return results


def rates(engine: LocalEngine, name: str, count: int) -> list[Row]:
    made = [AlignXRow.model_validate(alignx_row(number)) for number in range(count)]
    pairs = [(preference(row)["prompt"], row) for row in made]
    replies: list[tuple[list[ChatMessage], str]] = [
        (prompt, text) for prompt, row in pairs for text in (row.chosen, row.rejected)
    ]
    orders = [
        OWN.selection_prompt(row.prompt, items, None, row.comparisons()).messages
        for row in made
        for items in ((row.chosen, row.rejected), (row.rejected, row.chosen))
    ]

    def letters() -> None:
        async def choose() -> None:
            await asyncio.gather(*(engine.choose(order, LETTERS[:2], tenant="bench") for order in orders))

        asyncio.run(choose())

    def sampled() -> None:
        asked = [order[:-1] for order in orders[::2]]
        engine.generate(asked, max_new_tokens=ANSWER, temperature=0.6, top_p=0.95, top_k=20, thinking=False)

    def one_by_one() -> None:
        for place in range(0, len(replies), 2):
            engine.token_logprobs(replies[place : place + 2])

    timed: tuple[tuple[str, Callable[[], object], str], ...] = (
        ("choices by letters, both orders", letters, "choices/s"),
        (f"choices by a reply of {ANSWER} tokens", sampled, "choices/s"),
        ("alignment scoring, in batches", lambda: engine.token_logprobs(replies), "pairs/s"),
        ("alignment scoring, pair by pair", one_by_one, "pairs/s"),
    )
    results = [Row(f"{name}: {what}", count / _seconds(act), unit) for what, act, unit in timed]
    values = [row.value for row in results]
    results.append(Row(f"{name}: letters by a reply of {ANSWER} tokens", values[0] / values[1], "×"))
    results.append(Row(f"{name}: batches by pair by pair", values[2] / values[3], "×"))
    return results


def _seconds(act: Callable[[], object]) -> float:
    taken = []
    for _ in range(1 + PASSES):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        act()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def main(rows: int = 512, tiny: bool = False) -> None:
    if tiny:
        print(render_table(measure(TINY, min(rows, 16))), flush=True)
    elif not torch.cuda.is_available():
        raise SystemExit("needs a GPU; on a CPU, --tiny runs it in miniature")
    else:
        save_results("judging_throughput", measure(LARGE, rows), __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
