"""Loads a checkpoint in vLLM on this machine's CPU and lets it answer: the end of a training chain.

    .venv-training/bin/python -m evaluation.served var/train/nano/rl --data var/train/nano/heldout_upi.jsonl

A held-out user's history becomes a summary and a question an answer; the letters of a selection get
the log-probabilities that the same checkpoint gives in this process. Ends with status 1 when vLLM
does not start, does not answer, or answers otherwise. The texts are not printed.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from alignx.schemas.items import item_text
from evaluation.cases.cases import Case, read_cases
from evaluation.models import Placement, Sampling, load_local, open_model
from services.errors import AlignXError
from services.prompts.build import LETTERS, chat_prompt, selection_prompt, update_prompt
from training.exceptions import CheckpointError, TrainingError
from training.rl.rewards import TENANT, answer_of
from training.synthesis.answer_store import AnswerStore

START_S: Final = 300.0
REPLY_TOKENS: Final = 128
TOLERANCE: Final = 0.05
"""Between two log-probabilities of one letter: the two sum in another order."""
OPTIONS: Final = (
    "--host 127.0.0.1 --max-num-seqs 4 --block-size 32 --enforce-eager --dtype float32 --disable-uvicorn-access-log"
)
ENVIRONMENT: Final = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCH_COMPILE_DISABLE": "1",
}


@contextmanager
def vllm(checkpoint: Path, python: Path, options: str = OPTIONS) -> Iterator[str]:
    """The base URL of a vLLM with the checkpoint. Raises CheckpointError when it does not start."""
    if not python.exists():
        raise CheckpointError(f"--engine-python {python} does not exist; `make .venv-engine/.ready` installs it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")} | ENVIRONMENT
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, *options.split()], env=environment, stdout=log, stderr=log)  # noqa: S603
        try:
            deadline = time.monotonic() + START_S
            while not _healthy(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise CheckpointError(f"{checkpoint}: vLLM does not start with it: {log.read()[-3000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


async def ask(url: str, checkpoint: Path, case: Case) -> list[str]:
    """What came of a summary, a selection and a chat, a sentence each. Raises CheckpointError."""
    with tempfile.TemporaryDirectory() as folder, AnswerStore.open(Path(folder) / "answers.sqlite") as store:
        async with open_model(url, store, Placement()) as served:
            prompt = update_prompt(None, case.history, past_tokens=1_024)
            [reply] = await served.write([prompt.messages], Sampling(REPLY_TOKENS), seed=0, tick=lambda _: None)
            summary = answer_of(reply, max_chars=8_000) or None
            items = [item_text(case.target.chosen), item_text(case.target.rejected)]
            selection = selection_prompt(case.target.query, items, summary)
            letters = LETTERS[: len(items)]
            there = await served.choose(selection.messages, letters, tenant=TENANT)
        here = await load_local(str(checkpoint), store, Placement()).choose(selection.messages, letters, tenant=TENANT)
    if not reply.strip():
        raise CheckpointError(f"{checkpoint}: vLLM's summary is empty")
    apart = max(abs(one - other) for one, other in zip(there, here, strict=True))
    if not apart <= TOLERANCE:
        raise CheckpointError(
            f"{checkpoint}: vLLM's log-probabilities of letters are up to {apart:.3f} from this process's"
        )
    answer = _chat(url, case, summary)
    return [
        f"summary: {len(reply)} characters, {'well formed' if summary else 'not of the form of a summary'}",
        f"selection: log-probabilities within {apart:.4f} of this process's",
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Load a checkpoint in vLLM on the CPU and let it answer.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="UPI rows of held-out users")
    parser.add_argument("--engine-python", type=Path, default=Path(".venv-engine/bin/python"))
    given = parser.parse_args(arguments)
    try:
        [case], _ = read_cases(given.data, limit=1)
        with vllm(given.checkpoint, given.engine_python) as url:
            for sentence in asyncio.run(ask(url, given.checkpoint, case)):
                print(sentence)
    except (TrainingError, AlignXError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
