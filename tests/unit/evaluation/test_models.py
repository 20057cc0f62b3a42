"""Answers are stored and reused; an engine behind a URL is measured as a checkpoint is."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from evaluation.cases.cases import Case
from evaluation.conditions import Protocol
from evaluation.model_sources import checkpoint_source, public_name
from evaluation.models import LocalModel, Model, Placement, ServedCheckpoint, load_local, open_model
from evaluation.results import Scores, Source
from evaluation.scoring.measure import Judging, measure
from evaluation.scoring.progress_bar import ProgressBar
from tests.unit.evaluation.tastes import RuleModel, users
from tests.unit.services.engine.fake_engine import FakeEngine, reply
from training.exceptions import CheckpointError, ConfigError
from training.synthesis.answer_store import AnswerStore


def local(engine: RuleModel, store: AnswerStore, name: str = "rules") -> LocalModel:
    return LocalModel(engine, Source(name=name), store, batch=8)


def run(model: Model, cases: list[Case], seed: int = 0, setting: str = "streaming") -> Scores:
    scores, _ = asyncio.run(measure(setting, cases, Judging(model, model, Protocol(batch=8, seed=seed), ProgressBar())))
    return scores.model_copy(update={"seconds": 0.0})


def test_a_repetition_asks_nothing_and_finds_the_same(tmp_path: Path) -> None:
    cases = users(tmp_path, 20)
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        first = run(local(RuleModel(), store), cases)
        again = RuleModel(lasts=0)
        second = run(local(again, store), cases)
    assert first.calls == 80
    assert second == first, "stored answers count as calls"


def test_an_interrupted_run_ends_as_it_would_have(tmp_path: Path) -> None:
    """Also its seeds are those of the run that nobody interrupted."""
    cases = users(tmp_path, 20)
    with AnswerStore.open(tmp_path / "whole.sqlite") as store:
        undisturbed = RuleModel()
        whole = run(local(undisturbed, store), cases)
    path = tmp_path / "answers.sqlite"
    killed = RuleModel(lasts=2)
    with AnswerStore.open(path) as store, pytest.raises(RuntimeError, match="killed"):
        run(local(killed, store), cases)
    with AnswerStore.open(path) as store:
        resumed = RuleModel()
        rest = run(local(resumed, store), cases)
    seeds = killed.seeds + resumed.seeds
    assert seeds == undisturbed.seeds
    assert len(set(seeds)) == len(seeds) == 6, "three groups a stage, each with a seed of its own"
    assert rest.values == whole.values
    assert rest.calls == whole.calls


@pytest.mark.parametrize("changed", ["model", "seed"])
def test_another_model_or_seed_shares_no_summaries(tmp_path: Path, changed: str) -> None:
    cases = users(tmp_path, 4)
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        run(local(RuleModel(), store), cases)
        engine = RuleModel()
        model = local(engine, store, "others" if changed == "model" else "rules")
        run(model, cases, seed=int(changed == "seed"))
    assert len(engine.written) == 8


# --- an engine behind a URL --------------------------------------------------------------------


def answer_by_rules(engine: RuleModel) -> Callable[[web.Request], "asyncio.Future[web.StreamResponse]"]:
    """The rules over OpenAI's API."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("stream"):
            text = engine.generate([body["messages"]], seed=0)[0]
            return await reply(*re.findall(r".{1,9}", text, re.DOTALL))(request)
        odds = await engine.choose(body["messages"], [" A", " B"], tenant="t")
        listed = [{"token": f"token_id:{7 + place}", "logprob": odd - 3} for place, odd in enumerate(odds)]
        content = {"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]}
        return web.Response(body=orjson.dumps(content), content_type="application/json")

    return answer  # type: ignore[return-value]


@asynccontextmanager
async def serving(fake: FakeEngine, store: AnswerStore, sha256: str) -> AsyncIterator[Model]:
    async with fake.serving() as url:
        served = ServedCheckpoint(url, Source(name="folder", sha256=sha256))
        async with open_model("folder", store, Placement(), served) as model:
            yield model


async def over_http(fake: FakeEngine, cases: list[Case], store: AnswerStore) -> Scores:
    async with serving(fake, store, "rules") as model:
        scores, _ = await measure("streaming", cases, Judging(model, model, Protocol(batch=8), ProgressBar()))
        return scores


def test_a_url_is_measured_as_a_checkpoint_is(tmp_path: Path) -> None:
    cases = users(tmp_path, 10)
    fake = FakeEngine()
    fake.chat = answer_by_rules(RuleModel())
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        scores = asyncio.run(over_http(fake, cases, store))
    with AnswerStore.open(tmp_path / "local.sqlite") as store:
        assert scores.values == pytest.approx(run(local(RuleModel(), store), cases).values)
    written = [body for body in fake.bodies if body.get("stream")]
    assert len(written) == 20
    assert {(body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) for body in written} == {
        (0.6, 0.95, 20, 1024)
    }


def test_another_checkpoint_behind_the_same_name_shares_no_answers(tmp_path: Path) -> None:
    async def count_calls(fake: FakeEngine, store: AnswerStore, sha256: str) -> int:
        async with serving(fake, store, sha256) as model:
            assert model.source == Source(name="folder in vLLM", sha256=sha256)
            await measure("full", users(tmp_path, 3), Judging(model, model, Protocol(), ProgressBar()))
        return len(fake.bodies)

    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        for sha256, calls in (("before", 3 + 6), ("before", 0), ("retrained", 3 + 6)):
            fake = FakeEngine()
            fake.chat = answer_by_rules(RuleModel())
            assert asyncio.run(count_calls(fake, store, sha256)) == calls


# --- checkpoints -------------------------------------------------------------------------------


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        checkpoint_source(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0broken")
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        with pytest.raises(CheckpointError, match="cannot be loaded"):
            load_local(str(tmp_path), store, Placement())
        with pytest.raises(ConfigError, match="not a URL"):
            load_local("http://127.0.0.1/v1", store, Placement())


def test_a_checkpoint_is_known_by_what_it_computes_with(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    found = checkpoint_source(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert checkpoint_source(tmp_path) == found
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert checkpoint_source(tmp_path).sha256 != found.sha256


def test_a_result_tells_no_path_outside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert public_name(tmp_path / "models" / "mini") == "models/mini"
    assert public_name(tmp_path.parent / "elsewhere" / "mini") == "mini"
