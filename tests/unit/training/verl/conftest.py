"""What the tests of the verl plugin stand on: the real configuration that run.sh makes, a tiny real
checkpoint, and the two servers of a run faked at their wire: a judge (HTTP) and a policy.

They need verl's own environment and are left out in any other:

    .venv-verl/bin/python -m pytest tests/unit/training/verl --confcutdir=tests/unit/training/verl -W default
"""

import asyncio
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
collect_ignore_glob = [] if importlib.util.find_spec("verl") else ["test_*.py"]

CHOSEN, REJECTED = "green tea", "black coffee"
YES, NO = 7, 8
"""Token ids of the letters A and B at the fake judge."""


def triple(number: int, words: int = 3) -> dict[str, str]:
    filler = " ".join(["leaf"] * words)
    return {"query": f"Drink {number}?", "chosen": f"{CHOSEN} {number} {filler}", "rejected": f"{REJECTED} {number}"}


def rl_row(uid: str, events: int = 6, middle: int = 3, words: int = 3) -> dict[str, Any]:
    return {"uid": uid, "history": [triple(i, words) for i in range(events)], "mid_position": middle}


def reply(percent: int) -> str:
    """A well-formed summary that makes the fake judge believe in tea with this probability."""
    return f"<think>They chose tea.</think>\n\nThe user likes tea {percent} times of 100."


class Judge:
    """Speaks vLLM's wire. It believes in the item with `CHOSEN` as much as the summary says; a place
    bias of `bias` nats favours the first item, which asking in both orders must cancel."""

    def __init__(self) -> None:
        self.bias = 0.0
        self.failures = 0
        """So many of the next chat requests are answered with status 503."""
        self.knows_tokens = True
        self.prompts: list[list[dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def models(self, request: Any) -> Any:
        return _json({"data": [{"id": "judge"}]})

    async def tokenize(self, request: Any) -> Any:
        if not self.knows_tokens:
            return _json({"error": "not found"}, 404)
        prompt = (await request.json())["prompt"]
        return _json({"tokens": [{" A": YES, " B": NO}[prompt]]})

    async def chat(self, request: Any) -> Any:
        if self.failures:
            self.failures -= 1
            return _json({"error": "busy"}, 503)
        body = await request.json()
        self.prompts.append(body["messages"])
        self.headers.append(dict(request.headers))
        asked = body["messages"][1]["content"]
        said = re.search(r"likes tea (\d+) times", asked)
        share = int(said.group(1)) / 100 if said else 0.5
        first = asked[asked.index('<item letter="A">') :].split("</item>")[0]
        odds = math.log(share) - math.log(1 - share)
        logit = self.bias + (odds if CHOSEN in first else -odds)
        names = ["token_id:7", "token_id:8"] if "logprob_token_ids" in body else [" A", " B"]
        top = -math.log1p(math.exp(-logit)), -math.log1p(math.exp(logit))
        listed = [{"token": name, "logprob": value} for name, value in zip(names, top, strict=True)]
        return _json({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})


def _json(value: Any, status: int = 200) -> Any:
    from aiohttp import web

    return web.json_response(value, status=status)


@pytest.fixture
def judge() -> Iterator[Judge]:
    """A judge on a port of its own, in a thread, so that other processes reach it as well."""
    from aiohttp import web

    judge, ready, loop = Judge(), threading.Event(), asyncio.new_event_loop()

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.add_routes([web.get("/v1/models", judge.models), web.post("/tokenize", judge.tokenize)])
        app.add_routes([web.post("/v1/chat/completions", judge.chat)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        judge.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(serve())
        loop.call_soon(ready.set)
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    yield judge
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real Qwen3 checkpoint with a tokenizer that any text survives."""
    from training.init_checkpoint import InitConfig, init_checkpoint

    path = tmp_path_factory.mktemp("models") / "tiny"
    init_checkpoint(InitConfig(stage="init_checkpoint", output=path))
    return path


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands in for the python that run.sh starts, and prints its arguments as JSON."""
    path = tmp_path_factory.mktemp("bin") / "python"
    path.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def run_sh(recorder: Path, *extra: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(recorder)} | variables
    command = [str(ROOT / "training/verl/run.sh"), *extra]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def composed(recorder: Path, *extra: str, **variables: str) -> Any:
    """verl's configuration as a run by run.sh would have it; an unknown key is an error."""
    from hydra import compose, initialize_config_module

    done = run_sh(recorder, *extra, **variables)
    assert done.returncode == 0, done.stderr
    _, module, *overrides = json.loads(done.stdout)
    assert module == "verl.trainer.main_ppo"
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=overrides)


# The attention that verl takes by default is a GPU's.
CPU = "+actor_rollout_ref.model.override_config.attn_implementation=eager"
