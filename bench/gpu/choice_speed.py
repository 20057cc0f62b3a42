"""A choice by forced letters, by likelihood and by the family's sampled reply, on one vLLM on this machine's CPU.

    .venv-training/bin/python -m bench.gpu.choice_speed [--rows N] [--models DIR --models DIR …] [--engine-python PATH]

The rows are held-out people of the synthetic world with the fast profile's text as their summary, asked
about as evaluation does: forced letters are two prompts of one token, one in each order; likelihood is four
prompts, each item with the summary and without, which vLLM computes whole (it reads no prefix cache where
log-probabilities of the prompt are asked for); the sampled reply is one prompt and up to 16 tokens. By turns,
each on rows of its own that the engine has not seen, so that no protocol finds another's prompts in the prefix
cache; first with one row under way, then with as many as the runner asks at once. "Prompt tokens not cached"
are what the engine had to compute for a row: where they outweigh the tokens of a reply, as with a small model
and many rows at once, letters and reply do the same work and cannot be far apart. alignx-mini ends its reply
after four tokens, of which its tokenizer holds whole phrases; alignx-tiny, whose weights are random, goes on for
longer.
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
from evaluation.cases.cases import Case, UserRow
from evaluation.models import Model, Placement, open_model
from evaluation.scoring.choice_scores import Context, build_profile, choose_by_judge, choose_by_sampling
from evaluation.vllm_server import PYTHON, serve_checkpoint
from services.profile.render import render
from training.corpus import world_rows
from training.corpus.world_rows import World
from training.synthesis.answer_store import AnswerStore

MODELS = [Path("models/alignx-mini"), Path("models/alignx-tiny")]
HISTORY, ROUNDS = 12, 4
TOGETHER = (1, 32)
Choice = Literal["forced", "likelihood", "sampled"]
NAMES: dict[Choice, str] = {"forced": "forced letters", "likelihood": "likelihood", "sampled": "sampled reply"}
COUNTERS = {
    "read": "vllm:prompt_tokens_total",
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


def make_users(count: int) -> list[tuple[Case, Context]]:
    pairs, world = [], World("heldout")
    for number in range(count):
        name = f"choice-{number}"
        case = Case.of(UserRow.model_validate(world_rows.upi(random.Random(name), world, HISTORY, name)))
        pairs.append((case, Context(render(build_profile(case)))))
    return pairs


def read_counters(url: str) -> dict[str, float]:
    """The engine's counters."""
    lines = httpx.get(f"{url.removesuffix('/v1')}/metrics").text.splitlines()
    return {
        name: sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{counter}{{"))
        for name, counter in COUNTERS.items()
    }


async def run_turn(
    model: Model, choice: Choice, users: Sequence[tuple[Case, Context]], together: int, url: str, seed: int
) -> Turn:
    before, started = read_counters(url), time.perf_counter()
    for start in range(0, len(users), together):
        cases, contexts = zip(*users[start : start + together], strict=True)
        if choice != "sampled":
            model.protocol = "likelihood" if choice == "likelihood" else "letters"
            await choose_by_judge(model, cases, contexts, batch=together, tick=lambda _: None)
        else:
            await choose_by_sampling(model, cases, contexts, seed=seed, tick=lambda _: None)
    seconds, after = time.perf_counter() - started, read_counters(url)
    spent = {name: (after[name] - before[name]) / len(users) for name in before}
    return Turn(len(users) / seconds, spent["read"] - spent["cached"], spent["written"])


async def compare(url: str, count: int) -> list[Row]:
    """`count` rows a turn."""
    fresh = iter(make_users(len(TOGETHER) * len(NAMES) * (ROUNDS + 1) * count))
    rows: list[Row] = []
    with AnswerStore.open(Path(":memory:")) as store:
        async with open_model(url, store, Placement()) as model:
            for together in TOGETHER:
                turns: dict[Choice, list[Turn]] = {choice: [] for choice in NAMES}
                for number in range(ROUNDS + 1):
                    for choice in NAMES if number % 2 else reversed(NAMES):
                        users = [next(fresh) for _ in range(count)]
                        turns[choice].append(await run_turn(model, choice, users, together, url, number))
                rows += render_rows(together, {choice: own[1:] for choice, own in turns.items()})  # the first warms up
    return rows


def render_rows(together: int, turns: dict[Choice, list[Turn]]) -> list[Row]:
    load = "one row at a time" if together == 1 else f"{together} rows at once"
    rows = [
        Row(f"{load}: {name}", statistics.median(turn.rows_per_s for turn in turns[choice]), "rows/s")
        for choice, name in NAMES.items()
    ]
    targets: dict[Choice, str] = {"likelihood": "", "sampled": "≥ 5"}
    for choice, target in targets.items():
        pairs = zip(turns["forced"], turns[choice], strict=True)
        ratio = statistics.median(forced.rows_per_s / other.rows_per_s for forced, other in pairs)
        rows.append(Row(f"{load}: {NAMES['forced']} by {NAMES[choice]}", ratio, "×", target))
    for choice, name in NAMES.items():
        computed = statistics.median(turn.computed for turn in turns[choice])
        written = statistics.median(turn.written for turn in turns[choice])
        rows.append(Row(f"{load}: {name}, prompt tokens not cached", computed, "a row"))
        rows.append(Row(f"{load}: {name}, tokens written", written, "a row"))
    return rows


def measure(model: Path, python: Path = PYTHON, count: int = 64) -> list[Row]:
    with serve_checkpoint(model, python) as url:
        rows = asyncio.run(compare(url, count))
    return [row._replace(figure=f"{model.name}, {row.figure}") for row in rows]


def main(rows: int = 64, models: list[Path] = MODELS, engine_python: Path = PYTHON) -> None:
    """`rows` of a turn; `models` are checkpoint folders; `engine_python` has vLLM."""
    results = [row for model in models for row in measure(model, engine_python, rows)]
    save_results("choice", results, __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
