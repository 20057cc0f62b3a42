"""The judge of a run: a frozen model in process, or an engine elsewhere that is asked nothing twice."""

import asyncio
from pathlib import Path

import pytest
import torch

from alignx.schemas.interactions import Pair
from tests.unit.training.nano import write_nano
from tests.unit.training.synthesis.mock_engines import MockEngines
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
    mock = MockEngines()

    async def asks() -> list[float]:
        found = []
        async with mock.serving() as url:
            for _ in range(2):
                engine = open_judge(Judge(engine=EngineAt(url=url)), stage(tmp_path, "base"), CPU)
                assert isinstance(engine, RemoteJudge)
                summaries = ("The user prefers tea.", "The user prefers tea, and hot.")
                found += await asyncio.gather(*(judge_choice(engine, text, PAIR) for text in summaries))
                await engine.aclose()
        return found

    run_dir(tmp_path / "out").mkdir()
    assert asyncio.run(asks()) == pytest.approx([1.0] * 4, abs=0.05)
    assert len(mock.asked) == 4, "two summaries in two orders"
    assert (run_dir(tmp_path / "out") / ANSWERS).exists()
