"""What the suite takes of an engine's throughput: the same chats asked of the engine, and of the suite in front of it.

    .venv/bin/python -m bench.gpu.suite_throughput --engine http://127.0.0.1:8000/v1 [--streams N]
    .venv/bin/python -m bench.gpu.suite_throughput --tiny

Rounds of so many streamed chats, by turns directly and through the gateway, for a user who is looked up and has no
summary: the engine reads the same prompt. Tokens are those that the engine counts; figures are medians over the
rounds, the last one of the ratios within a round. Load generator and suite run on the engine's machine. `--tiny` asks a
mock engine, whose answers cost nothing, and leaves docs/results alone.
"""

import asyncio
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
import typer

from bench.harness import running_suite
from bench.page import Row, render_table, save_results
from tests.live.suite import mock_engine

TENANT, USER = "bench", "ada"
QUESTION: Final = "What should I take on a long walk?"
ROUNDS: Final = 5
_COUNTED = re.compile(r'"completion_tokens"\s*:\s*(\d+)')


async def compare(engine: str, streams: int, written: int) -> list[Row]:
    with running_suite({"ALIGNX_ENGINE__URL": engine}) as suite:
        headers = {"Authorization": f"Bearer {suite.new_key(TENANT)}"}
        async with httpx.AsyncClient(timeout=600) as client:
            model = (await client.get(f"{engine}/models")).json()["data"][0]["id"]
            body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
            body |= {"max_tokens": written, "temperature": 1.0, "ignore_eos": True}
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            asked = {
                "direct": (f"{engine}/chat/completions", body, {}),
                "suite": (f"{suite.url}/v1/chat/completions", body | {"user": USER}, headers),
            }
            rates: dict[str, list[float]] = {name: [] for name in asked}
            for number in range(1 + ROUNDS):
                for name, (url, sent, own) in asked.items():
                    rate = await _tokens_per_second(client, url, sent, own, streams)
                    rates[name] += [rate] if number else []  # the first round warms up
    kept = [suite / direct for suite, direct in zip(rates["suite"], rates["direct"], strict=True)]
    return [
        Row(f"{streams} chats at once, directly", statistics.median(rates["direct"]), "tokens/s"),
        Row(f"{streams} chats at once, through the suite", statistics.median(rates["suite"]), "tokens/s"),
        Row("the suite's share of the engine's throughput", 100 * statistics.median(kept), "%"),
    ]


async def _tokens_per_second(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], headers: dict[str, str], streams: int
) -> float:
    started = time.perf_counter()
    answers = await asyncio.gather(*(client.post(url, json=body, headers=headers) for _ in range(streams)))
    seconds = time.perf_counter() - started
    written = [int(_COUNTED.findall(answer.raise_for_status().text)[-1]) for answer in answers]
    return sum(written) / seconds


def main(engine: str = "", streams: int = 64, written: int = 256, tiny: bool = False) -> None:
    """`engine` is the base URL of an OpenAI-compatible server."""
    if tiny:
        with tempfile.TemporaryDirectory() as home, mock_engine(Path(home)) as url:
            print(render_table(asyncio.run(compare(f"{url}/v1", 4, 16))), flush=True)
    elif not engine:
        raise SystemExit("name an engine with --engine; on a CPU, --tiny runs it in miniature")
    else:
        save_results("suite_throughput", asyncio.run(compare(engine, streams, written)), __doc__ or "")


if __name__ == "__main__":
    typer.run(main)
