"""The judge of a run: a frozen model in process, or an engine elsewhere that is asked nothing twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web

from alignx.schemas.interactions import Pair
from tests.unit.training.nano import write_nano
from training.checkpoint import run_dir
from training.config import Data, Model, Optim, Run, Stage
from training.exceptions import CheckpointError
from training.judges import ANSWERS, Judge, RemoteJudge, open_judge
from training.rl.rewards import judge_choice
from training.speed.local_engine import LocalEngine
from training.synthesis.options import EngineAt

CPU = torch.device("cpu")
PAIR = Pair("A drink?", "tea", "coffee")


def stage(folder: Path, model: str) -> Stage:
    return Stage(
        stage="grpo",
        model=Model(path=model),
        data=Data(train=(folder / "rl.jsonl",)),
        optim=Optim(learning_rate=1e-6, batch=8, micro_batch=8),
        run=Run(output=folder / "out"),
    )


def test_in_process_it_is_the_base_model_apart_and_frozen(tmp_path: Path) -> None:
    base, other = (
        write_nano(tmp_path / name, hidden=16, seed=seed, spread=0.5) for seed, name in enumerate(("base", "other"))
    )
    config = stage(tmp_path, str(base))
    found = [open_judge(judge, config, CPU) for judge in (Judge(), Judge(path=str(other)))]
    assert all(isinstance(engine, LocalEngine) for engine in found)
    assert not any(weight.requires_grad for engine in found for weight in engine.model.parameters())
    assert all(engine.autocast for engine in found)
    assert not open_judge(Judge(precision="fp32"), config, CPU).autocast
    own, others = (asyncio.run(judge_choice(engine, "Likes tea.", PAIR)) for engine in found)
    assert own == pytest.approx(asyncio.run(judge_choice(LocalEngine.load(base, autocast=True), "Likes tea.", PAIR)))
    assert own != pytest.approx(others)


def test_a_judge_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"judge\.path: .*nowhere"):
        open_judge(Judge(path=str(tmp_path / "nowhere")), stage(tmp_path, "base"), CPU)


def test_an_engine_elsewhere_is_asked_once(tmp_path: Path) -> None:
    """Its answers outlive the run that asked for them."""
    asked: list[str] = []

    async def chat(request: web.Request) -> web.Response:
        prompt = json.dumps((await request.json())["messages"])
        asked.append(prompt)
        first = prompt.index("tea", prompt.index("<item")) < prompt.index("coffee", prompt.index("<item"))
        listed = [
            {"token": " A", "logprob": 0.0 if first else -9.0},
            {"token": " B", "logprob": -9.0 if first else 0.0},
        ]
        return web.json_response({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "mock"}]})

    async def asks() -> list[float]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/v1/models", models)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            found = []
            for _ in range(2):
                engine = open_judge(Judge(engine=EngineAt(url=url)), stage(tmp_path, "base"), CPU)
                assert isinstance(engine, RemoteJudge)
                summaries = ("Likes tea.", "Likes it hot.")
                found += await asyncio.gather(*(judge_choice(engine, text, PAIR) for text in summaries))
                await engine.aclose()
            return found
        finally:
            await runner.cleanup()

    run_dir(tmp_path / "out").mkdir()
    found: list[Any] = asyncio.run(asks())
    assert found == pytest.approx([1.0] * 4, abs=1e-3)
    assert len(asked) == 4, "two summaries in two orders"
    assert (run_dir(tmp_path / "out") / ANSWERS).exists()
