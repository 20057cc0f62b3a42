"""Reports of made-up stages: verdicts, pairing, tables and plots follow the figures."""

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from evaluation.reporting.criteria import check_criteria
from evaluation.reporting.gather_runs import POINTS, average_curve, compare_stages, gather
from evaluation.reporting.plots import MAX_BYTES
from evaluation.reporting.training_report import main, write
from evaluation.results import AlignmentScores, EvaluationResult, Scores, Source, Writing
from evaluation.scoring.intervals import difference, estimate, hits
from training.exceptions import DatasetError

USERS = 600


def users(right: int, count: int = USERS, seed: int = 0) -> list[float]:
    """Probabilities of which `right` in 1,000 are above one half."""
    values = [0.9 if place < count * right / 1_000 else 0.2 for place in range(count)]
    random.Random(seed).shuffle(values)
    return values


def result(stage: str, settings: Mapping[str, Sequence[float]], aligned: int | None = None) -> EvaluationResult:
    """What evaluation would write; `aligned` in 1,000 pairs."""
    model = Source(name=f"models/{stage}", sha256=stage)
    writing = Writing(replies=USERS, well_formed=0.99, usable=1.0, summary_tokens=41.0)
    found = {
        name: Scores(
            accuracy=estimate(hits(values)),
            probability=estimate(values),
            position_bias=0.02,
            by_kind={"style": estimate(hits(values[::2]))},
            writing=None if name == "none" else writing,
            values=tuple(values),
        )
        for name, values in settings.items()
    }
    alignment = None
    if aligned is not None:
        share = estimate(hits(users(aligned)))
        even = estimate([0.5] * USERS)
        names = ("policy_prefers", "reference_prefers", "gain", "policy_prefers_by_token")
        names += ("reference_prefers_by_token", "gain_by_token")
        alignment = AlignmentScores(
            data=Source(name="pairs"), reference=model, beta=0.1, alignment=share, **dict.fromkeys(names, even)
        )
    compared = [(name, "full") for name in found if name != "full" and "full" in found]
    return EvaluationResult(
        stage=stage,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
        model=model,
        judge=model,
        data=Source(name="users"),
        config={},
        versions={},
        users=tuple(str(place) for place in range(max(map(len, settings.values()), default=0))),
        settings=found,
        differences={
            f"{one} - {other}": difference(hits(settings[one]), hits(settings[other])) for one, other in compared
        },
        baselines={"longer wins": estimate([0.5] * USERS)} if found else {},
        alignment=alignment,
    )


def stage(
    full: int, none: int = 500, streaming: int | None = None, flipped: int | None = None
) -> dict[str, list[float]]:
    shares = {"none": none, "full": full, "streaming": streaming or full - 10, "flipped": flipped or full - 30}
    return {name: users(share) for name, share in shares.items()}


def metrics(folder: Path, name: str, history: list[dict[str, Any]]) -> None:
    (folder / f"{name}.run").mkdir(parents=True)
    found = {"stage": name, "config": {}, "history": history, "rows": 100, "tokens_per_second": 1234.5, "seconds": 90.0}
    (folder / f"{name}.run" / "metrics.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    rng = random.Random(1)
    losses = [{"step": step, "loss": 5 / (1 + step / 100) + rng.random() / 10} for step in range(0, 5_000, 10)]
    metrics(folder, "sft", losses)
    metrics(folder, "rl", [{"step": step, "loss": 0.1, "reward": 0.8 + step / 1_000} for step in range(100)])
    result("sft", stage(822)).save(folder / "eval" / "sft.json")
    result("rl", stage(861)).save(folder / "eval" / "rl.json")
    result("dpo-ica", {}, aligned=700).save(folder / "eval" / "ica.json")
    result("dpo-pba", {}, aligned=600).save(folder / "eval" / "pba.json")
    return folder


@pytest.fixture
def chain(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "runs")


def verdicts(results: Sequence[EvaluationResult]) -> dict[str, str]:
    return {each.name: each.verdict for each in check_criteria({found.stage: found for found in results})}


# --- verdicts ----------------------------------------------------------------------------------


def test_verdicts_follow_the_figures(chain: Path) -> None:
    found = {each.name: each for each in check_criteria(gather(chain).results)}
    assert {name: each.verdict for name, each in found.items()} == {
        "sft: no summary": "met",
        "rl: no summary": "met",
        "sft: full history": "met",
        "rl less sft: full history": "met",
        "rl: streaming less full": "met",
        "rl: flipped less full": "met",
        "dpo-ica: alignment accuracy": "met",
        "dpo-pba: alignment accuracy": "not met",
    }
    assert found["dpo-pba: alignment accuracy"].sentence == "not met: 5.0 points are missing"
    assert found["sft: full history"].sentence == "met: by the mean; the interval reaches beyond the bound"
    assert found["dpo-ica: alignment accuracy"].sentence == "met: with the whole interval"


@pytest.mark.parametrize(
    ("sft", "rl", "failing"),
    [
        (stage(798), stage(840), {"sft: full history"}),
        (stage(820), stage(840), {"rl less sft: full history"}),
        (stage(820), stage(860, streaming=840), {"rl: streaming less full"}),
        (stage(820), stage(860, streaming=900), set()),
        (stage(820), stage(860, flipped=800), {"rl: flipped less full"}),
        (stage(820, none=440), stage(860, none=560), {"sft: no summary", "rl: no summary"}),
    ],
)
def test_each_condition_can_fail_alone(sft: dict[str, Any], rl: dict[str, Any], failing: set[str]) -> None:
    found = verdicts([result("sft", sft), result("rl", rl)])
    assert {name for name, verdict in found.items() if verdict == "not met"} == failing


def test_without_rl_the_summary_of_sft_must_stand() -> None:
    found = verdicts([result("sft", stage(850, streaming=800))])
    assert found["sft: streaming less full"] == "not met"
    assert found["rl less sft: full history"] == "not measured"
    assert found["dpo-ica: alignment accuracy"] == "not measured"


def test_too_few_users_meet_nothing() -> None:
    few = result("sft", {name: values[:200] for name, values in stage(900).items()})
    assert verdicts([few])["sft: full history"] == "too few users"
    sentences = [each.sentence for each in check_criteria({"sft": few}) if each.name == "sft: full history"]
    assert sentences[0].startswith("too few users: 200, at least 500 are asked for; the mean would do")


# --- pairing -----------------------------------------------------------------------------------


def test_stages_are_compared_on_the_users_both_saw() -> None:
    sft, rl = result("sft", stage(820)), result("rl", stage(860))
    moved = rl.model_copy(update={"users": tuple(str(place + 100) for place in range(USERS))})
    gain = compare_stages(rl, sft, "full")
    assert gain is not None
    assert (gain.rows, gain.mean) == (USERS, pytest.approx(0.04))
    shared = compare_stages(moved, sft, "full")
    assert shared is not None
    expected = difference(hits(rl.settings["full"].values[: USERS - 100]), hits(sft.settings["full"].values[100:]))
    assert (shared.rows, shared.mean) == (500, pytest.approx(expected.mean))
    strangers = rl.model_copy(update={"users": tuple(f"x{place}" for place in range(USERS))})
    assert compare_stages(strangers, sft, "full") is None
    assert compare_stages(rl, sft, "truth") is None


# --- gathering ---------------------------------------------------------------------------------


def test_what_was_left_behind_is_found_and_other_files_are_not(chain: Path) -> None:
    (chain / "sft").mkdir()
    (chain / "sft" / "tokenizer.json").write_text('{"version": "1.0"}')
    (chain / "sft.run" / "checkpoint-10").mkdir()
    (chain / "sft.run" / "checkpoint-10" / "metrics.json").write_text("{}")
    found = gather(chain)
    assert [run.name for run in found.runs] == ["rl", "sft"]
    assert list(found.results) == ["sft", "dpo-ica", "dpo-pba", "rl"], "as the stages follow on each other"


def test_choices_and_alignment_of_a_stage_may_be_measured_apart(chain: Path) -> None:
    result("dpo-ica", stage(800)).save(chain / "eval" / "ica-choices.json")
    joined = gather(chain).results["dpo-ica"]
    assert joined.alignment is not None
    assert "full" in joined.settings
    other = result("dpo-pba", stage(800)).model_copy(update={"model": Source(name="other", sha256="other")})
    other.save(chain / "eval" / "pba-choices.json")
    with pytest.raises(DatasetError, match="two different checkpoints"):
        gather(chain)


def test_a_stage_measured_twice_is_refused(chain: Path) -> None:
    result("sft", stage(900)).save(chain / "eval" / "sft-again.json")
    with pytest.raises(DatasetError, match=r"sft-again\.json.* both measure stage sft"):
        gather(chain)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.run/metrics.json", "{}", "holds no metrics of a training run: KeyError 'history'"),
        ("x.run/metrics.json", "[", "holds no metrics of a training run: JSONDecodeError"),
        ("x.json", '{"format": "alignx-evaluation/2"}', "is no result of evaluation: format"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(DatasetError) as refused:
        gather(tmp_path)
    assert sentence in str(refused.value)
    assert name in str(refused.value)


def test_nothing_to_report_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        main(tmp_path, tmp_path / "report")
    assert "holds neither metrics.json" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_long_curves_are_averaged_and_keep_their_mean() -> None:
    history = [{"step": step, "loss": float(step % 7)} for step in range(1, 1_001)]
    points = average_curve(history, "loss")
    assert len(points) == POINTS
    assert points[-1][0] == 1_000
    assert sum(value for _, value in points) / POINTS == pytest.approx(
        sum(step % 7 for step in range(1, 1_001)) / 1_000
    )
    assert average_curve(history, "reward") == []
    assert average_curve(history[:3], "loss") == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


# --- the files ---------------------------------------------------------------------------------


def test_the_report_is_whole_small_and_repeatable(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "mini" / "report"
    main(chain, out)
    assert "sft: full history            met" in capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert files.keys() == {"report.json", "report.md", "loss.png", "reward.png", "accuracy.png"}
    for name, content in files.items():
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG")
            assert 3_000 < len(content) <= MAX_BYTES
    main(chain, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    assert [path.name for path in out.parent.iterdir()] == ["report"], "no trace of the writing"


def test_the_json_holds_no_single_user(chain: Path, tmp_path: Path) -> None:
    write(gather(chain), tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_bytes())
    assert [found["stage"] for found in report["stages"]] == ["sft", "dpo-ica", "dpo-pba", "rl"]
    assert "users" not in report["stages"][0]
    assert "values" not in report["stages"][0]["settings"]["full"]
    assert report["stages"][0]["settings"]["full"]["accuracy"]["mean"] == pytest.approx(0.8233, abs=1e-3)
    assert len(report["training"][1]["curves"]["loss"]) <= POINTS
    assert {each["verdict"] for each in report["criteria"]} == {"met", "not met"}


def test_the_tables_say_what_was_found(chain: Path, tmp_path: Path) -> None:
    write(gather(chain), tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "7 of 8 conditions are met." in text
    assert "| dpo-pba: alignment accuracy | at least 65 %, 15 points over the reference's own | 60.0 % (" in text
    assert "| setting | sft | rl |" in text
    assert "| judge | itself | itself |" in text
    assert f"over {USERS} users of both" in text
    assert "![loss](loss.png)" in text
    widths = {
        len({line.count(" | ") for line in block.splitlines()}) for block in text.split("\n\n") if block.startswith("|")
    }
    assert widths == {1}, "every line of a table has the same cells"


def test_a_report_without_results_or_without_runs(tmp_path: Path) -> None:
    metrics(tmp_path / "one", "sft", [{"step": 1, "loss": 2.0}])
    write(gather(tmp_path / "one"), tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "0 of 8 conditions are met." in text
    assert "## Accuracy" not in text
    result("sft", stage(820)).save(tmp_path / "other" / "sft.json")
    write(gather(tmp_path / "other"), tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.json", "report.md", "accuracy.png"}
