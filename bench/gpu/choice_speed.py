"""A choice by forced letters against the family's sampled reply, on one vLLM on this machine's CPU.

    .venv-training/bin/python -m bench.gpu.choice_speed [--rows N] [--models DIR --models DIR …] [--engine-python PATH]

The rows are held-out people of the synthetic world with the fast profile's text as their summary, asked
about as evaluation does: forced letters are two prompts of one token, one in each order; the sampled
reply is one prompt and up to 16 tokens. By turns, each on rows of its own that the engine has not seen, so
that no protocol finds the other's prompts in the prefix cache; first with one row under way, then with as
many as the runner asks at once. "Prompt tokens not cached" are what the engine had to compute for a row:
where they outweigh the tokens of a reply, as with a small model and many rows at once, both protocols do
the same work and cannot be far apart. alignx-mini ends its reply after four tokens, of which its tokenizer
holds whole phrases; alignx-tiny, whose weights are random, goes on for longer.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import typer

from bench.page import Row, save_results
from evaluation.cases.cases import Case, MeasuredRow
from evaluation.engine_suite import SERVING
from evaluation.models import Model, Placement, open_model
from evaluation.scoring.choice_scores import Known, forced, profile_of, sampled
from evaluation.served import vllm
from services.profile.render import render
from training.corpus import world_rows
from training.corpus.world_rows import World
from training.synthesis.answer_store import AnswerStore

MODELS = [Path("models/alignx-mini"), Path("models/alignx-tiny")]
PYTHON = Path(".venv-engine/bin/python")
HISTORY, ROUNDS = 12, 4
TOGETHER = (1, 32)
Choice = Literal["forced", "sampled"]
NAMES: dict[Choice, str] = {"forced": "forced letters", "sampled": "sampled reply"}
COUNTERS = {
    "queried": "vllm:prefix_cache_queries_total",
    "cached": "vllm:prefix_cache_hits_total",
    "written": "vllm:generation_tokens_total",
}


@dataclass(frozen=True)
class Turn:
    """One protocol on some rows."""

    rows_per_s: float
    computed: float
    """Prompt tokens a row that were not cached."""
    written: float
    """Tokens of replies a row."""


def users(count: int) -> list[tuple[Case, Known]]:
    found, world = [], World("heldout")
    for number in range(count):
        name = f"choice-{number}"
        case = Case.of(MeasuredRow.model_validate(world_rows.upi(random.Random(name), world, HISTORY, name)))
        found.append((case, Known(render(profile_of(case)))))
    return found


def counted(url: str) -> dict[str, float]:
    """The engine's counters."""
    lines = httpx.get(f"{url.removesuffix('/v1')}/metrics").text.splitlines()
    return {
        name: sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{counter}{{"))
        for name, counter in COUNTERS.items()
    }


async def turn(
    model: Model, choice: Choice, asked: Sequence[tuple[Case, Known]], together: int, url: str, seed: int
) -> Turn:
    before, began = counted(url), time.perf_counter()
    for start in range(0, len(asked), together):
        cases, known = zip(*asked[start : start + together], strict=True)
        if choice == "forced":
            await forced(model, cases, known, batch=together, tick=lambda _: None)
        else:
            await sampled(model, cases, known, seed=seed, tick=lambda _: None)
    seconds, after = time.perf_counter() - began, counted(url)
    spent = {name: (after[name] - before[name]) / len(asked) for name in before}
    return Turn(len(asked) / seconds, spent["queried"] - spent["cached"], spent["written"])


async def compared(url: str, count: int) -> list[Row]:
    """`count` rows a turn."""
    fresh = iter(users(len(TOGETHER) * 2 * (ROUNDS + 1) * count))
    found: list[Row] = []
    with AnswerStore.open(Path(":memory:")) as store:
        async with open_model(url, store, Placement()) as model:
            for together in TOGETHER:
                turns: dict[Choice, list[Turn]] = {"forced": [], "sampled": []}
                for number in range(ROUNDS + 1):
                    order: tuple[Choice, ...] = ("forced", "sampled") if number % 2 else ("sampled", "forced")
                    for choice in order:
                        asked = [next(fresh) for _ in range(count)]
                        turns[choice].append(await turn(model, choice, asked, together, url, number))
                found += told(together, {choice: made[1:] for choice, made in turns.items()})  # the first warms up
    return found


def told(together: int, turns: dict[Choice, list[Turn]]) -> list[Row]:
    what = "one row at a time" if together == 1 else f"{together} rows at once"
    pairs = zip(turns["forced"], turns["sampled"], strict=True)
    ratio = statistics.median(one.rows_per_s / other.rows_per_s for one, other in pairs)
    found = [
        Row(f"{what}: {name}", statistics.median(each.rows_per_s for each in turns[choice]), "rows/s")
        for choice, name in NAMES.items()
    ]
    found.append(Row(f"{what}: the first by the second", ratio, "×", "≥ 5"))
    for choice, name in NAMES.items():
        computed = statistics.median(each.computed for each in turns[choice])
        written = statistics.median(each.written for each in turns[choice])
        found.append(Row(f"{what}: {name}, prompt tokens not cached", computed, "a row"))
        found.append(Row(f"{what}: {name}, tokens written", written, "a row"))
    return found


def measure(model: Path, python: Path = PYTHON, count: int = 64) -> list[Row]:
    with vllm(model, python, SERVING) as url:
        found = asyncio.run(compared(url, count))
    return [row._replace(figure=f"{model.name}, {row.figure}") for row in found]


def main(rows: int = 64, models: list[Path] = MODELS, engine_python: Path = PYTHON) -> None:
    """`rows` of a turn; `models` are checkpoint folders; `engine_python` has vLLM."""
    results = [row for model in models for row in measure(model, engine_python, rows)]
    save_results("choice", results, __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
