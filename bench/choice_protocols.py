"""A selection of two by letters against one by likelihood, on one vLLM on this machine's CPU.

    .venv/bin/python -m bench.choice_protocols [--model FOLDER] [--rounds N]

The questions are the pairs that an engine is measured on at start, asked one after the other, by turns with each
protocol: letters (two prompts of one token), likelihood of a question that nobody has asked before (four prompts),
likelihood under another preference (two: without a preference the items are known), and with a contrast of four
earlier choices beside it (four further prompts). vLLM computes each prompt of a likelihood whole: where
log-probabilities of a prompt are asked for it reads no prefix cache.
"""

import asyncio
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import typer

from alignx.schemas.interactions import Pair
from bench.page import Row, median_ms, save_results
from evaluation.vllm_server import PYTHON, serve_checkpoint
from services.engine.capabilities import Capabilities
from services.engine.choice.choice_client import ChoiceClient
from services.engine.choice.measure import probe_pairs
from services.engine.client import Server, open_session
from services.engine.judge import ChoiceProtocol, RecentChoices, judge

MODEL: Final = Path("models/alignx-tiny")
NAMES: Final = ("letters", "likelihood", "likelihood, known items", "likelihood, known items, contrast")


async def compare(url: str, rounds: int) -> list[Row]:
    pairs = probe_pairs()
    recent = RecentChoices([Pair(pair.query, pair.fitting, pair.other) for pair in pairs[-4:]])
    taken: dict[str, list[float]] = {name: [] for name in NAMES}
    async with open_session() as session:
        client = ChoiceClient(session, Server(url))
        for number, (first, second) in enumerate(list(zip(pairs[::2], pairs[1::2], strict=True))[: rounds + 1]):
            items = [first.fitting, first.other]
            preferences = (first.preference, first.preference, second.preference, f"{second.preference} ")
            for name, preference in zip(NAMES, preferences, strict=True):
                protocol: ChoiceProtocol = "letters" if name == "letters" else "likelihood"
                client.capabilities = replace(Capabilities(context_tokens=2_048), protocol=protocol)
                choices = recent if name.endswith("contrast") else RecentChoices()
                started = time.perf_counter()
                await judge(client, first.query, items, preference, tenant="bench", recent=choices)
                if number:  # the first warms up
                    taken[name].append(time.perf_counter() - started)
    rows = [Row(f"selection of two: {name}, p50", median_ms(seconds), "ms") for name, seconds in taken.items()]
    for name in NAMES[1:]:
        ratios = [mine / letters for mine, letters in zip(taken[name], taken["letters"], strict=True)]
        rows.append(Row(f"{name} by letters", statistics.median(ratios), "×"))
    return rows


def main(model: Path = MODEL, rounds: int = 20, engine_python: Path = PYTHON) -> None:
    """`model` is a checkpoint's folder; `rounds` at most 23; `engine_python` has vLLM."""
    with serve_checkpoint(model, engine_python, "--max-num-seqs 16 --max-model-len 2048") as url:
        rows = asyncio.run(compare(url, rounds))
    save_results("choice", [row._replace(figure=f"{model.name}: {row.figure}") for row in rows], __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
