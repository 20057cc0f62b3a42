"""Checks that vLLM serves a checkpoint as it computes in this process: the end of a training chain.

    .venv-training/bin/python -m evaluation.vllm_check var/train/nano/rl --data var/train/nano/heldout_upi.jsonl

vLLM writes a summary of a held-out user, answers a question, and gives the letters of a selection and its items the
log-probabilities that the same checkpoint gives here. Ends with status 1 when vLLM does not start, does not answer, or
gives other log-probabilities. The texts are not printed.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

import httpx
import typer

from alignx.schemas.items import item_text
from evaluation.cases.cases import Case, read_cases
from evaluation.models import Model, Placement, Sampling, load_local, open_model
from evaluation.vllm_server import PYTHON, serve_checkpoint
from services.errors import AlignXError
from services.prompts.build import (
    LETTERS,
    chat_prompt,
    plain_history,
    selection_prompt,
    update_prompt,
)
from services.prompts.plain import likelihood_prompt
from services.prompts.replies.summary_checks import Evidence
from training.exceptions import CheckpointError, TrainingError
from training.rl.rewards import TENANT, answer_of
from training.synthesis.answer_store import AnswerStore

REPLY_TOKENS: Final = 128
TOLERANCE: Final = 0.05
"""Largest distance between two log-probabilities, of a letter or of an item's token in the mean: the two programs add
in different orders."""


async def check(url: str, checkpoint: Path, case: Case) -> list[str]:
    """A sentence each on the summary, the selection and the chat. Raises CheckpointError."""
    with tempfile.TemporaryDirectory() as folder, AnswerStore.open(Path(folder) / "answers.sqlite") as store:
        async with open_model(url, store, Placement()) as served:
            prompt = update_prompt(None, case.history, past_tokens=1_024)
            sampling = Sampling(max_tokens=REPLY_TOKENS)
            [reply] = await served.write([prompt.messages], sampling, seed=0, tick=lambda _: None)
            summary = answer_of(reply, max_chars=8_000, evidence=Evidence(plain_history(case.history))) or None
            items = [item_text(case.target.chosen), item_text(case.target.rejected)]
            selection = selection_prompt(case.target.query, items, summary)
            before = likelihood_prompt(case.target.query, summary)

            async def measure(model: Model) -> list[float]:
                letters = await model.choose(selection.messages, LETTERS[: len(items)], tenant=TENANT)
                likelihoods = [await model.likelihood(before, item, tenant=TENANT) for item in items]
                return letters + [likelihood.logprob / likelihood.tokens for likelihood in likelihoods]

            remote = await measure(served)
        local = await measure(load_local(str(checkpoint), store, Placement()))
    if not reply.strip():
        raise CheckpointError(f"{checkpoint}: vLLM's summary is empty")
    distance = max(abs(first - second) for first, second in zip(remote, local, strict=True))
    if not distance <= TOLERANCE:
        raise CheckpointError(f"{checkpoint}: vLLM's log-probabilities are up to {distance:.3f} from this process's")
    answer = _chat(url, case, summary)
    return [
        f"summary: {len(reply)} characters, {'well formed' if summary else 'not of the form of a summary'}",
        f"selection: log-probabilities within {distance:.4f} of this process's",
        f"chat: {len(answer)} characters",
    ]


def _chat(url: str, case: Case, summary: str | None) -> str:
    prompt = chat_prompt([{"role": "user", "content": case.target.query}], mode="summary", summary=summary, history=())
    body = {"model": httpx.get(f"{url}/models").json()["data"][0]["id"], "messages": list(prompt.messages)}
    answer = httpx.post(f"{url}/chat/completions", json=body | {"max_tokens": REPLY_TOKENS}, timeout=120)
    text = answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else ""
    if not text:
        raise CheckpointError(f"vLLM's answer to a chat is empty (status {answer.status_code})")
    return str(text)


def main(checkpoint: Path, data: Path = typer.Option(...), engine_python: Path = PYTHON) -> None:  # noqa: B008
    """`data` holds UPI rows of held-out users; `engine_python` has vLLM."""
    try:
        [case], _ = read_cases(data, limit=1)
        with serve_checkpoint(checkpoint, engine_python, "--max-num-seqs 4 --dtype float32") as url:
            print(*asyncio.run(check(url, checkpoint, case)), sep="\n")
    except (TrainingError, AlignXError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    typer.run(main)
