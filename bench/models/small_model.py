"""What `make up` with no options costs: until the suite answers, until its small model does, and how fast that is.

Everything is started as a stranger starts it, in an empty folder; vLLM's packages are installed before. The second
start finds the converted model and the compiled code. Tokens are counted at the engine, for one stream and for eight at
once; the summary and the chat are asked for at the gateway. Memory is what all processes of the suite hold (PSS).
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]

from bench.page import ROOT, Row
from docker.local.environment import OFFSETS
from tests.conftest import free_port

SUITE = [sys.executable, "-m", "docker.local.suite"]
WRITTEN = 256
"""Tokens of a stream."""


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="up") as folder:
        home, port = Path(folder), free_port()
        with up(home, port) as (answers_s, fresh_s):
            pass
        with up(home, port) as (_, warm_s):
            engine = f"http://127.0.0.1:{port + OFFSETS['engine']}/v1"
            one, eight = _tokens_per_second(engine, 1), _tokens_per_second(engine, 8)
            with open_client(home, port) as client:
                summary_s, chat_s = _first_summary(client), _first_token(client)
            memory = _memory(home)
    return [
        Row("until the gateway answers", answers_s, "s", "≤ 10"),
        Row("until the model answers, first time, packages installed", fresh_s, "s", "≤ 300"),
        Row("until the model answers, afterwards", warm_s, "s", "≤ 80"),
        Row("one stream", one, "tokens/s", "≥ 50"),
        Row("eight streams", eight, "tokens/s"),
        Row("first summary of 10 events", summary_s, "s", "≤ 8"),
        Row("first token of a chat", chat_s, "s", "≤ 1.5"),
        Row("memory of the suite", memory, "GiB", "≤ 4"),
    ]


@contextmanager
def up(home: Path, port: int) -> Iterator[tuple[float, float]]:
    """A running suite: seconds until the gateway answered, and until the model did."""
    started = time.monotonic()
    command = [*SUITE, "up", "--home", str(home), "--port", str(port)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            next(line for line in process.stdout if "/console" in line)
            answers_s = time.monotonic() - started
            next(line for line in process.stdout if "vLLM is warm" in line)
            warm_s = time.monotonic() - started
            process.stdout.read()
        yield answers_s, warm_s
    finally:
        subprocess.run([*SUITE, "down", "--home", str(home)], check=True, stdout=subprocess.DEVNULL)


def open_client(home: Path, port: int) -> httpx.Client:
    """Of the gateway, with the first key."""
    key = (home / "secrets" / "user_key").read_text()
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=300)


def _tokens_per_second(engine: str, streams: int) -> float:
    body = {"model": "alignx-small", "prompt": "Once upon a time", "max_tokens": WRITTEN, "ignore_eos": True}

    def write(_: int) -> None:
        httpx.post(f"{engine}/completions", json=body, timeout=300).raise_for_status()

    write(0)
    started = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(write, range(streams)))
    return streams * WRITTEN / (time.monotonic() - started)


def _first_summary(client: httpx.Client) -> float:
    lines = (ROOT / "examples" / "shopper.jsonl").read_text().splitlines()
    body = {"events": [json.loads(line) for line in lines[:10]]}
    started = time.monotonic()
    client.post("/v1/users/ada/events", json=body, headers={"Prefer": "wait=30"}).raise_for_status()
    return time.monotonic() - started


def _first_token(client: httpx.Client) -> float:
    body = {"model": "alignx-small", "user": "ada", "stream": True}
    body["messages"] = [{"role": "user", "content": "What should I take on a long walk?"}]
    started = time.monotonic()
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            is_data = line.startswith("data: {")
            if is_data and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                break
    return time.monotonic() - started


def _memory(home: Path) -> float:
    processes = psutil.process_iter(["environ", "memory_full_info"])
    own = (process for process in processes if (process.info["environ"] or {}).get("ALIGNX_HOME") == str(home))
    return float(sum(process.info["memory_full_info"].pss for process in own) / (1 << 30))
