"""The suite: on small official files written here, and on a part of real public data."""

import json
import re
from pathlib import Path

import pytest

from evaluation.converters.__main__ import BENCHMARKS
from evaluation.reporting.collect import gather
from evaluation.result_folder import result_of, stage_of
from evaluation.results import EvaluationResult
from evaluation.suite import PARTS, Suite, main
from training.exceptions import DatasetError

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture
def style(tmp_path: Path) -> Path:
    """A data folder with nothing but three rows of P-Soups Style."""
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


def test_what_is_there_is_measured_and_the_rest_told(style: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["--data", str(style), "--out", str(tmp_path / "out"), "--report", str(tmp_path / "docs")])
    told = capsys.readouterr()
    absent = next(line for line in told.err.splitlines() if line.startswith("absent"))
    names = absent.partition(": ")[2].split(", ")
    assert names == [part.name for part in PARTS if part.name != "psoups-style"]
    assert re.search(r"psoups-style +profile +profile +3 ", told.out)
    found = EvaluationResult.read(tmp_path / "out" / "results" / "psoups-style.profile.json")
    assert found.settings.keys() == {"profile", "profile-text", "profile-flipped"}
    assert found.settings["profile"].accuracy.mean == 1.0
    assert (tmp_path / "docs" / "results.md").is_file()


def test_rows_are_limited_and_the_report_says_so(style: Path, tmp_path: Path):
    measured = gather(Suite(style, tmp_path / "out", limit=2).run())
    told = measured.conversions["psoups-style"]
    assert (told.rows, told.limit) == (2, 2)
    assert {line.accuracy.rows for line in measured.lines} == {2}


def test_folders_without_a_benchmark_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(DatasetError, match="is no folder"):
        Suite(tmp_path / "absent", tmp_path).present()
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "holds no benchmark; looked for: mind, movielens/ml-100k" in capsys.readouterr().err


def test_parts_are_told_apart_and_can_be_converted():
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert {part.converter for part in PARTS} <= BENCHMARKS.keys()


def test_a_part_of_the_real_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent: this test reads real public data that is not part of the project")
    measured = gather(Suite(SHARED_DATA, tmp_path, limit=20).run())
    names = [line.benchmark for line in measured.lines]
    assert {
        "mind",
        "mind-popular",
        "mind-matched",
        "movielens",
        "amazon-games",
        "psoups-style",
        "prefeval-choice",
    } <= set(names)
    assert set(names) == measured.conversions.keys()
    for line in measured.lines:
        assert line.accuracy.rows == min(20, measured.conversions[line.benchmark].rows)
        assert ("popularity" in line.result.baselines) == (measured.conversions[line.benchmark].negatives is not None)
    assert "psoups-informativeness" in capsys.readouterr().err


def test_runs_lie_beside_each_other_and_the_report_is_of_all_in_any_order(
    style: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    Suite(style, out).run()
    engine = EvaluationResult.read(result_of(out, "psoups-style", "profile"))
    engine.model_copy(update={"stage": "made-up"}).save(result_of(out, "psoups-style", "made-up"))
    main(["--data", str(style), "--out", str(out), "--report", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "| psoups-style | made-up | profile | 3 |" in text
    assert "| psoups-style | profile | profile | 3 |" in text
    capsys.readouterr()
    main(["--data", str(style), "--out", str(out), "--limit", "2", "--report", str(tmp_path / "docs")])
    assert "on rows that are no longer there: psoups-style.made-up.json" in capsys.readouterr().err
    assert "made-up" not in (tmp_path / "docs" / "results.md").read_text()


def test_a_target_that_was_asked_before_is_left_out(style: Path, tmp_path: Path):
    file = style / "psoups" / "friendly_unfriendly.json"
    rows = json.loads(file.read_text())
    rows[0]["Pair-wise Comparative Feedback"].append({name: rows[0][name] for name in ("prompt", "chosen", "rejected")})
    file.write_text(json.dumps(rows))
    told = gather(Suite(style, tmp_path / "out").run()).conversions["psoups-style"]
    assert (told.rows, told.left_out) == (2, {"rows whose target stands in their history": 1})


def test_a_run_is_called_after_its_checkpoint_model_or_host():
    assert stage_of("models/alignx-mini") == "alignx-mini"
    assert stage_of("http://gpu-box:8000/v1") == "gpu-box-8000"
    assert stage_of("http://gpu-box:8000/v1", "Qwen/Qwen3-8B") == "qwen-qwen3-8b"
