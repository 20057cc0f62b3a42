"""A language model on converted rows: behind a URL, and as a checkpoint that a real vLLM serves."""

import asyncio
from pathlib import Path

import pytest

from evaluation import engine_suite
from evaluation.conditions import SETTINGS
from evaluation.config import Evaluation
from evaluation.engine_suite import FORCED, SAMPLED, EngineSuite, main, options, suite_of, write_synthetic
from evaluation.reporting.benchmark_report import blocks
from evaluation.reporting.collect import gather
from evaluation.reporting.conversion import Conversion
from evaluation.reporting.document import markdown
from evaluation.results import EvaluationResult
from tests.unit.evaluation.reporting.made_up import result
from tests.unit.evaluation.tastes import RuleModel, write_rows
from tests.unit.evaluation.test_models import by_rules
from tests.unit.services.engine.fake_engine import FakeEngine

ROOT = Path(__file__).resolve().parents[3]
ENGINE_PYTHON = ROOT / ".venv-engine" / "bin" / "python"


async def measured(suite: EngineSuite, fake: FakeEngine) -> list[Path]:
    async with fake.serving() as url:
        return await asyncio.to_thread(EngineSuite(url, suite.folder, suite.stage, 4, suite.benchmarks).run)


def test_an_engine_is_measured_with_both_protocols_beside_the_profile(tmp_path: Path) -> None:
    write_rows(tmp_path / "drinks.jsonl", 10)
    fake = FakeEngine()
    fake.chat = by_rules(RuleModel())
    suite = EngineSuite("", tmp_path, "rules", benchmarks=("drinks", "absent"))
    found = [EvaluationResult.read(path) for path in asyncio.run(measured(suite, fake))]
    assert [result.stage for result in found] == ["rules", "rules sampled"]
    assert [set(result.settings) for result in found] == [set(FORCED), set(SAMPLED)]
    assert [len(result.users) for result in found] == [4, 4]
    assert found[0].settings["streaming"].accuracy.mean == 1
    replies = found[1].settings["full"].replies
    assert replies is not None
    assert replies.kinds["none"] == 4, "the rules answer every question with what the user likes"
    table = markdown(blocks(gather([tmp_path / "results"])), pictures="pictures")
    assert "| drinks | rules sampled | streaming | 4 |" in table
    assert "selected no option, each counted as wrong: drinks (rules sampled: none) 4 of 4, " in table
    wrote = [body for body in fake.bodies if body.get("stream") and body["max_tokens"] > 16]
    assert len(wrote) == 4 * (1 + 2 + 1), "full, streaming and flipped, once for both protocols"


def test_synthetic_rows_are_the_same_each_time_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_suite, "SYNTHETIC_ROWS", 3)
    contents = []
    for _ in range(2):
        write_synthetic(tmp_path / "synthetic.jsonl", tmp_path / "synthetic.conversion.json")
        contents.append((tmp_path / "synthetic.jsonl").read_bytes())
    assert contents[0] == contents[1]
    note = Conversion.read_from(tmp_path / "synthetic.conversion.json")
    assert (note.name, note.rows) == ("synthetic", 3)


def test_without_rows_the_way_to_them_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["http://127.0.0.1:9/v1", "--rows", str(tmp_path), "--benchmarks", "mind"])
    assert ended.value.code == 2
    assert "holds none of mind; evaluation.suite makes them" in capsys.readouterr().err


def test_the_options_become_the_plan() -> None:
    given = options().parse_args(["models/alignx-mini", "--limit", "50", "--max-tokens", "99", "--history-tokens", "7"])
    plan = suite_of(given)
    assert (plan.stage, plan.limit, plan.protocol.sampling.max_tokens) == ("alignx-mini", 50, 99)
    assert plan.protocol.history_tokens == 7
    assert {*FORCED, *SAMPLED, *engine_suite.DISTURBED} <= set(SETTINGS)


def test_a_checkpoint_is_served_while_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped checkpoint in a real vLLM; its result names the checkpoint and not an address."""
    monkeypatch.chdir(ROOT)
    write_rows(tmp_path / "drinks.jsonl", 2)
    suite = EngineSuite("models/alignx-mini", tmp_path, "mini", benchmarks=("drinks",), python=ENGINE_PYTHON)
    forced, sampled = (EvaluationResult.read(path) for path in suite.run())
    for found in (forced, sampled):
        assert found.model is not None
        assert found.model.name == "models/alignx-mini in vLLM"
        assert found.model.sha256 is not None
        assert found.config["model"] == "models/alignx-mini"
    probabilities = forced.settings["full"].values
    assert all(0 < value < 1 for value in probabilities)
    assert forced.settings["full"].writing is not None
    assert sampled.settings["full"].replies is not None


def test_the_limit_holds_for_the_synthetic_world_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Evaluation] = []

    async def noted(plan: Evaluation) -> EvaluationResult:
        asked.append(plan)
        return result("synthetic", {})

    monkeypatch.setattr(engine_suite, "SYNTHETIC_ROWS", 6)
    monkeypatch.setattr(engine_suite, "evaluate", noted)
    EngineSuite("http://engine/v1", tmp_path, "rules", limit=4, benchmarks=("synthetic",)).run()
    assert [plan.limit for plan in asked] == [4, 4]
    assert len({plan.answers for plan in asked}) == 1, "both protocols judge the same summaries"
