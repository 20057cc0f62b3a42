"""Many benchmarks in one folder: of official files, of a model behind a URL, and of one that vLLM serves."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.__main__ import main
from evaluation.benchmark_folder import (
    measure_benchmarks,
    name_stage,
    note_path,
    plan_runs,
    result_path,
    write_synthetic,
)
from evaluation.benchmark_parts import PARTS
from evaluation.config import Evaluation
from evaluation.converters.registry import BENCHMARKS
from evaluation.reporting.collect import CollectedResults, collect_folder
from evaluation.reporting.conversion import Conversion
from evaluation.reporting.report import render_report
from evaluation.results import EvaluationResult
from evaluation.runner import serve_model
from tests.unit.evaluation.tastes import RuleModel, write_rows
from tests.unit.evaluation.test_models import answer_by_rules
from tests.unit.services.engine.fake_engine import FakeEngine
from training.config import load

ROOT = Path(__file__).resolve().parents[3]
ENGINE_PYTHON = ROOT / ".venv-engine" / "bin" / "python"
SHARED_DATA = ROOT.parent / "shared" / "data"
CONFIGS = ROOT / "evaluation" / "configs"


@pytest.fixture
def style(tmp_path: Path) -> Path:
    """A folder of official files with nothing but three rows of P-Soups Style."""
    pairs = [
        {"prompt": f"Q{n}", "chosen": "Sure, gladly! Happy to help.", "rejected": "No. Work it out."} for n in range(4)
    ]
    row = {
        "prompt": "How do tides work?",
        "chosen": "Happy to tell you! The moon pulls.",
        "rejected": "The moon. Obviously.",
        "Pair-wise Comparative Feedback": pairs,
        "ground_truth_persona": "Generate a response in a friendly manner.",
        "profile": "a person",
    }
    folder = tmp_path / "data" / "psoups"
    folder.mkdir(parents=True)
    (folder / "friendly_unfriendly.json").write_text(json.dumps([row | {"prompt": f"P{n}"} for n in range(3)]))
    return tmp_path / "data"


def measure_profile(official: Path, folder: Path, *overrides: str) -> None:
    """What `make eval` runs, without the suites."""
    fields = ["suites=false", f"out={folder / 'out'}", f"report={folder / 'docs'}", f"benchmarks.official={official}"]
    main([str(CONFIGS / "profile.toml"), *fields, *overrides])


def results_in(folder: Path) -> CollectedResults:
    return collect_folder(folder / "out")


def test_present_parts_are_measured_and_absent_ones_named(
    style: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    measure_profile(style, tmp_path)
    shown = capsys.readouterr()
    absent = next(line for line in shown.err.splitlines() if line.startswith("absent"))
    assert absent.partition(": ")[2].split(", ") == [part.name for part in PARTS if part.name != "psoups-style"]
    assert re.search(r"psoups-style +profile +profile +100.0 % \(100.0 to 100.0\), 3 ", shown.out)
    found = EvaluationResult.read_from(tmp_path / "out" / "results" / "psoups-style.profile.json")
    names = "profile profile-text profile-flipped without-meaning without-words without-style"
    assert sorted(found.settings) == sorted(names.split())
    assert found.settings["profile"].accuracy.mean == 1.0
    assert (tmp_path / "docs" / "accuracy.md").is_file()


def test_folders_without_a_benchmark_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for overrides, sentence in (
        (["benchmarks.official=absent"], "absent holds no benchmark; looked for: mind, movielens/ml-100k"),
        (['benchmarks={names=["mind"]}'], "holds no rows of mind; benchmarks.official converts them"),
    ):
        with pytest.raises(SystemExit) as ended:
            measure_profile(tmp_path, tmp_path, *overrides)
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err


def test_without_any_data_the_suites_are_measured_and_what_is_absent_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    measure_profile(tmp_path, tmp_path, "suites=true")
    shown = capsys.readouterr()
    assert f"absent from {tmp_path}: mind, mind-popular" in shown.err
    assert re.search(r"select: valid fact kept \(≥ 90 %\) +\d+\.\d % \(", shown.out)
    assert "## Restraint and drift" in (tmp_path / "docs" / "accuracy.md").read_text()


def test_parts_have_different_names_and_a_converter():
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert {part.converter for part in PARTS} <= BENCHMARKS.keys()


def test_a_part_of_the_real_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent: this test reads real public data that is not part of the project")
    measure_profile(SHARED_DATA, tmp_path, "limit=20")
    found = results_in(tmp_path)
    names = [line.benchmark for line in found.lines]
    assert {"mind", "mind-popular", "movielens-matched", "amazon-games", "psoups-style", "prefeval-choice"} <= {*names}
    assert set(names) == found.conversions.keys()
    for line in found.lines:
        assert line.accuracy.rows == min(20, found.conversions[line.benchmark].rows)
        assert ("popularity" in line.result.baselines) == (found.conversions[line.benchmark].negatives is not None)
    assert "psoups-informativeness" in capsys.readouterr().err


def test_the_report_shows_all_runs_on_the_same_rows(style: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    measure_profile(style, tmp_path)
    own = EvaluationResult.read_from(result_path(tmp_path / "out", "psoups-style", "profile"))
    own.model_copy(update={"stage": "made-up"}).save(result_path(tmp_path / "out", "psoups-style", "made-up"))
    main([str(CONFIGS / "report.toml"), f"out={tmp_path / 'out'}", f"report={tmp_path / 'docs'}"])
    text = (tmp_path / "docs" / "accuracy.md").read_text()
    assert "| psoups-style | made-up | profile | 100.0 %" in text
    assert "| psoups-style | profile | profile | 100.0 %" in text
    capsys.readouterr()
    measure_profile(style, tmp_path, "limit=2")
    found = results_in(tmp_path)
    assert "rows that are no longer there: psoups-style (made-up)" in capsys.readouterr().err
    note = found.conversions["psoups-style"]
    assert (note.rows, note.limit) == (2, 2)
    assert {line.accuracy.rows for line in found.lines} == {2}


def test_a_run_is_named_after_its_model():
    assert name_stage(None) == "profile"
    assert name_stage("http://gpu-box:8000/v1") == "gpu-box-8000"
    assert name_stage("http://gpu-box:8000/v1", "Qwen/Qwen3-8B") == "qwen-qwen3-8b"
    assert name_stage("models/alignx-small") == "alignx-small"


# --- models ------------------------------------------------------------------------------------


def engine_config(out: Path, *names: str, **fields: Any) -> Evaluation:
    """What `make eval-engine` runs."""
    config = load(CONFIGS / "engine.toml", Evaluation, [f"out={out}", f"benchmarks.names={json.dumps(names)}"])
    return config.model_copy(update=fields)


def test_a_model_is_measured_with_both_protocols_beside_the_profile(tmp_path: Path) -> None:
    write_rows(tmp_path / "drinks.jsonl", 10)
    fake = FakeEngine()
    fake.chat = answer_by_rules(RuleModel())

    async def measure() -> list[EvaluationResult]:
        async with fake.serving() as url:
            config = engine_config(tmp_path, "drinks", "absent", model=url, stage="rules", limit=4)
            return await asyncio.to_thread(measure_benchmarks, config)

    found = asyncio.run(measure())
    assert [result.stage for result in found] == ["rules", "rules sampled"]
    sampled = ["none", "direct", "full", "streaming"]
    assert [list(result.settings) for result in found] == [[*sampled, "flipped", "fused"], sampled]
    assert [len(result.users) for result in found] == [4, 4]
    assert found[0].settings["streaming"].accuracy.mean == 1
    replies = found[1].settings["full"].replies
    assert replies.unparsed == 4, "the rules answer every question with what the user likes"
    table = render_report(collect_folder(tmp_path))
    assert "| drinks | rules sampled | streaming | " in table
    assert "| 4 | rows | 0 | 0 | 16 |" in table
    summaries = [body for body in fake.bodies if body.get("stream") and body["max_tokens"] > 16]
    assert len(summaries) == 4 * (1 + 2 + 1), "full, streaming and flipped, once for both protocols"


def test_synthetic_rows_are_the_same_each_time_and_have_a_note(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        write_synthetic(tmp_path, 3)
        contents.append((tmp_path / "synthetic.jsonl").read_bytes())
    assert contents[0] == contents[1]
    note = Conversion.read_from(note_path(tmp_path, "synthetic"))
    assert (note.name, note.rows) == ("synthetic", 3)


def test_the_synthetic_world_has_further_settings_and_the_same_limit(tmp_path: Path) -> None:
    forced, sampled = plan_runs(engine_config(tmp_path, "synthetic", limit=4), "synthetic")
    assert {"drifted", "truth", "profile"} <= {*(forced.settings or ())} - {*(sampled.settings or ())}
    assert forced.limit == sampled.limit == 4
    assert forced.answers == sampled.answers, "both protocols judge the same summaries"
    assert (forced.protocol.choice, sampled.protocol.choice) == ("forced", "sampled")
    assert forced.protocol.sampling == sampled.protocol.sampling
    assert "drifted" not in (next(plan_runs(engine_config(tmp_path, "mind"), "mind")).settings or ())


def test_vllm_serves_a_checkpoint_while_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint in a real vLLM; its result names the checkpoint and not an address."""
    monkeypatch.chdir(ROOT)
    write_rows(tmp_path / "drinks.jsonl", 2)
    config = engine_config(tmp_path, "drinks")
    placement = config.placement.model_copy(update={"vllm": ENGINE_PYTHON})
    config = config.model_copy(update={"model": "models/alignx-tiny", "placement": placement})
    with serve_model(config) as served:
        forced, sampled = measure_benchmarks(config, served)
    for found in (forced, sampled):
        assert found.model.name == "models/alignx-tiny in vLLM"
        assert found.model.sha256 is not None
        assert found.config["model"] == "models/alignx-tiny"
    assert all(0 < value < 1 for value in forced.settings["full"].values)
    assert forced.settings["full"].writing is not None
    assert sampled.settings["full"].replies is not None
