"""Checks that vLLM serves the base and every adapter of a grid as they compute in this process, all in one batch.

    .venv-training/bin/python -m evaluation.suites.adapters_check training/configs/nano/mocae.toml

On a CPU vLLM gives requests without an adapter the one of its last slot; `AxisGrid.vllm_options` leaves that slot
empty. Raises CheckpointError where a log-probability differs.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import torch
from transformers import AutoTokenizer

from evaluation.suites.mocae import BASE, MocaeEvaluation, iterate_systems
from evaluation.vllm_server import PYTHON, serve_checkpoint
from services.axes import AxisGrid
from training.config import run_script
from training.exceptions import CheckpointError
from training.mocae.axis_rows import AxisPrompt

TOLERANCE: Final = 0.02
"""Largest distance between two log-probabilities in float32: the two programs add in different orders."""
PROMPTS: Final = 4
TOP: Final = 5
"""Likeliest next tokens that vLLM names."""


class AdaptersCheck(MocaeEvaluation):
    engine_python: Path = PYTHON
    """Has vLLM."""


def next_token_logprobs(config: MocaeEvaluation, grid: AxisGrid, prompts: Sequence[list[int]]) -> dict[str, Any]:
    """By system (prompts, vocabulary): of the token behind each prompt, computed here."""
    local = {}
    for name, engine in iterate_systems(config, grid):
        with torch.no_grad():
            rows = [engine.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1) for ids in prompts]
        local[name] = torch.stack(rows)
    return local


async def ask_together(url: str, models: dict[str, str], prompts: Sequence[list[int]]) -> dict[str, list[Any]]:
    """By system and prompt vLLM's `TOP` likeliest next tokens, {id: log-probability}; all are asked at once."""
    async with httpx.AsyncClient(timeout=120) as client:

        async def ask(model: str, ids: list[int]) -> dict[int, float]:
            body = {"model": model, "prompt": ids, "max_tokens": 1, "logprobs": TOP, "temperature": 0}
            answer = await client.post(f"{url}/completions", json=body | {"return_tokens_as_token_ids": True})
            if answer.status_code != 200:
                raise CheckpointError(f"vLLM answers {answer.status_code} for {model}")
            top = answer.json()["choices"][0]["logprobs"]["top_logprobs"][0]
            return {int(token.removeprefix("token_id:")): value for token, value in top.items()}

        calls = [(name, ask(model, ids)) for ids in prompts for name, model in models.items()]
        results = await asyncio.gather(*(call for _, call in calls))
    by_system: dict[str, list[Any]] = {name: [] for name in models}
    for (name, _), top in zip(calls, results, strict=True):
        by_system[name].append(top)
    return by_system


def greatest_distance(served: Sequence[dict[int, float]], local: Any) -> float:
    return max(
        abs(value - float(row[token])) for top, row in zip(served, local, strict=True) for token, value in top.items()
    )


def adapters_check(config: AdaptersCheck) -> dict[str, float]:
    """Serves base and adapters, and compares each with this process; returns the distance of each."""
    grid, tokenizer = AxisGrid.read(config.output), AutoTokenizer.from_pretrained(config.base)
    texts = [prompt.prompt for prompt in AxisPrompt.read_all(config.prompts)[:PROMPTS]]
    prompts = [tokenizer(text).input_ids[:64] for text in texts]
    local = next_token_logprobs(config, grid, prompts)
    least = min(float((local[point.name] - local[BASE]).abs().max()) for point in grid.points)
    if least < 5 * TOLERANCE:
        raise CheckpointError(f"an adapter moves the base's log-probabilities by {least:.3f} at most: nothing to check")
    options = ["--max-num-seqs", "64", "--dtype", "float32", "--max-model-len", "512", "--max-logprobs", str(TOP)]
    command = " ".join([*options, *grid.vllm_options(config.output)])
    with serve_checkpoint(config.base, config.engine_python, command) as url:
        models = {BASE: str(config.base)} | {point.name: point.name for point in grid.points}
        served = asyncio.run(ask_together(url, models, prompts))
    distances = {name: greatest_distance(served[name], local[name]) for name in models}
    for name, distance in distances.items():
        if not distance <= TOLERANCE:
            raise CheckpointError(f"{name}: vLLM's log-probabilities are up to {distance:.3f} from this process's")
    print(f"{len(models)} models in one batch, log-probabilities within {max(distances.values()):.4f}")
    return distances


def main(arguments: Sequence[str] | None = None) -> None:
    run_script(AdaptersCheck, adapters_check, arguments)


if __name__ == "__main__":
    main()
