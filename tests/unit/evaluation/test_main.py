"""The command, on a real random checkpoint: results, resumption, transfer, mistakes."""

import json
from pathlib import Path

import pytest

from evaluation.__main__ import main
from evaluation.config import Evaluation
from evaluation.results import EvaluationResult
from evaluation.suites.summaries import SummariesConfig
from tests.unit.evaluation.cases.test_pairs import alignx_rows
from tests.unit.evaluation.official import lines
from tests.unit.evaluation.scoring.test_alignment import write_pairs
from tests.unit.evaluation.scoring.test_answers import question_row
from tests.unit.evaluation.tastes import row, write_rows
from tests.unit.training.nano import write_nano
from training.config import load
from training.exceptions import ConfigError

CONFIGS = Path(__file__).parents[3] / "evaluation" / "configs"


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("models") / "nano", hidden=16, spread=0.2)


def evaluate(folder: Path, name: str = "result", **fields: object) -> EvaluationResult:
    """Runs the command with these fields; `__` stands for a dot."""
    config = folder / "run.toml"
    config.write_text(f'stage = "sft"\nout = "{folder / name}.json"\n[protocol.sampling]\nmax_tokens = 8\n')
    main([str(config), *(f"{field.replace('__', '.')}={value}" for field, value in fields.items())])
    return EvaluationResult.read_from(folder / f"{name}.json")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_loads(path: Path) -> None:
    overrides = ["data=rows.jsonl", "judge=models/a"] if path.stem == "stage" else []
    kind = SummariesConfig if path.stem == "summaries" else Evaluation
    assert load(path, kind, overrides)


def test_a_checkpoint_from_end_to_end(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, pairs = write_rows(tmp_path / "users.jsonl", 6), write_pairs(tmp_path / "pairs.jsonl")
    fields = {"model": nano, "data": data, "protocol__seed": 3, "alignment__data": pairs, "alignment__reference": nano}
    found = evaluate(tmp_path, **fields)
    shown = capsys.readouterr().out
    names = "none direct full streaming flipped drifted mixed other truth wording fused profile"
    assert list(found.settings) == names.split()
    assert all(part in shown for part in ("both halves", "AUC", "ECE", "engine calls"))
    assert all(f"baseline  {name} " in shown for name in ("random", "longer wins"))
    assert len(found.users) == len(set(found.users)) == 6
    assert all(len(scores.values) == 6 for scores in found.settings.values())
    assert all(0 < value < 1 for value in found.settings["none"].values)
    assert found.settings["profile"].accuracy.mean == 1
    assert found.settings["full"].writing is not None
    assert found.settings["full"].writing.well_formed == 0, "random weights"
    assert set(found.differences) >= {"full - none", "streaming - full", "flipped - full"}
    assert found.alignment.alignment.mean == 0.5
    assert found.model == found.judge == found.alignment.reference
    assert found.data.name == "users.jsonl"
    assert found.config["protocol"]["sampling"]["max_tokens"] == 8
    assert found.config["protocol"]["seed"] == 3
    assert {"torch", "transformers", "python"} <= found.versions.keys()
    assert str(tmp_path) not in (tmp_path / "result.json").read_text()
    assert row(0)["target"]["chosen"] not in (tmp_path / "result.json").read_text(), "no user's text"

    answers = (tmp_path / "result.json.answers.sqlite").read_bytes()
    again = evaluate(tmp_path, **fields)
    assert (tmp_path / "result.json.answers.sqlite").read_bytes() == answers, "nothing is computed again"
    assert [(s.calls, s.values) for s in again.settings.values()] == [
        (s.calls, s.values) for s in found.settings.values()
    ]


def test_sampled_replies_of_a_checkpoint_are_counted(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, settings = write_rows(tmp_path / "users.jsonl", 4), '["none","direct","profile"]'
    found = evaluate(tmp_path, model=nano, data=data, settings=settings, protocol__choice="sampled")
    replies = found.settings["none"].replies
    assert replies.unparsed == 4, "random weights"
    assert found.settings["none"].accuracy.mean == 0
    assert found.settings["profile"].auc is not None
    assert found.config["protocol"]["choice"] == "sampled"


def test_summaries_of_one_run_are_judged_by_another(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_rows(tmp_path / "users.jsonl", 3)
    other = write_nano(tmp_path / "other", hidden=16, seed=1, spread=0.2)
    saved, shared = tmp_path / "saved.jsonl", {"data": data, "settings": '["full"]'}
    written = evaluate(tmp_path, "own", model=nano, save_summaries=saved, **shared)
    assert len(saved.read_text().splitlines()) == 3
    found = evaluate(tmp_path, summaries=saved, judge=other, **shared)
    assert found.model == written.model
    assert found.judge.name == "other"
    assert found.summaries.name == "saved.jsonl"
    assert found.settings["full"].values != written.settings["full"].values


def test_questions_are_answered_by_a_checkpoint(nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lines(tmp_path / "questions.jsonl", map(question_row, range(3)))
    found = evaluate(
        tmp_path, model=nano, data=data, settings='["none","direct","full"]', protocol__answering__max_tokens=8
    )
    assert (list(found.answers), found.settings) == (["none", "direct", "full"], {})
    assert found.config["protocol"]["answering"]["thinking"] is False
    assert all(scores.wins + scores.ties + scores.losses == 3 for scores in found.answers.values())
    assert "full - none" in found.differences
    assert "full - none" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 0), (["--model", "x"], 2)])
def test_the_usage_names_the_command(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m evaluation CONFIG.toml [section.field=value …]")
    assert "evaluation/configs/profile.toml" in shown


def test_the_profile_needs_no_model(tmp_path: Path) -> None:
    found = evaluate(tmp_path, data=write_rows(tmp_path / "users.jsonl", 5), limit=3)
    assert list(found.settings) == ["profile"]
    assert found.settings["profile"].accuracy.rows == 3
    assert found.model is None
    assert [path.name for path in tmp_path.iterdir() if "sqlite" in path.name] == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "nothing to measure: set data, alignment, benchmarks or suites"),
        (
            {"data": "users.jsonl", "settings": '["full","best"]'},
            "settings.1: Input should be 'none', 'direct'",
        ),
        ({"data": "users.jsonl", "setings": '["full"]'}, "setings: unknown field; allowed here: out, stage"),
        ({"data": "users.jsonl", "settings": '["full"]'}, "need a model"),
        (
            {"data": "users.jsonl", "model": "NANO", "settings": '["contrast"]'},
            "settings contrast: need protocol.choice likelihood",
        ),
        ({"data": "users.jsonl", "half": "kept"}, "half: users.jsonl has no rows of half kept"),
        ({"data": "absent.jsonl"}, "absent.jsonl does not exist"),
        ({"data": "users.jsonl", "model": "absent"}, "absent holds no checkpoint"),
        ({"data": "users.jsonl", "summaries": "users.jsonl"}, "set judge, which chooses by them"),
        ({"data": "users.jsonl", "summaries": "users.jsonl", "judge": "NANO"}, "line 1: user: "),
        ({"data": "users.jsonl", "save_summaries": "saved.jsonl"}, "save_summaries needs model and data"),
        (
            {"data": "users.jsonl", "model": "NANO", "protocol__choice": "sampled", "settings": '["fused"]'},
            "settings fused: need protocol.choice forced or likelihood",
        ),
        ({"data": "questions.jsonl"}, "questions.jsonl holds questions to answer: set a model"),
        (
            {"data": "questions.jsonl", "model": "NANO", "settings": '["fused"]'},
            "settings fused: not possible with these rows and options; possible: none, direct, full, streaming",
        ),
        ({"alignment__data": "users.jsonl", "alignment__reference": "x"}, "compares model with alignment.reference"),
        ({"data": "bare.jsonl", "settings": '["truth"]', "model": "NANO"}, "settings truth: not possible"),
        ({"data": "users.jsonl", "model": "NANO", "protocol__sampling__max_tokens": 4096}, "exceed the 4096 positions"),
        ({"data": "users.jsonl", "benchmarks__official": "."}, "benchmarks excludes data"),
        ({"benchmarks__limit": 3}, "benchmarks.limit: unknown field; allowed here: official, names"),
    ],
)
def test_mistakes_are_named_and_leave_no_result(
    nano: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fields: dict[str, object],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "users.jsonl", 2)
    write_rows(tmp_path / "bare.jsonl", 2, summary=None)
    (tmp_path / "questions.jsonl").write_text(json.dumps(question_row(0)))
    with pytest.raises(SystemExit) as ended:
        evaluate(tmp_path, **{name: nano if value == "NANO" else value for name, value in fields.items()})
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_a_broken_row_is_counted(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "users.jsonl", 3)
    with data.open("a", encoding="utf-8") as out:
        out.write(json.dumps({**row(9), "target": {"query": "q", "chosen": "a", "rejected": "a"}}) + "\n")
    assert evaluate(tmp_path, data=data).left_out == 1


def test_a_configuration_that_is_absent_is_named() -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load(Path("absent.toml"), Evaluation)


def test_alignment_makes_pairs_of_alignx_rows(nano: Path, tmp_path: Path) -> None:
    data = lines(tmp_path / "rows.jsonl", alignx_rows(3))
    fields = {"alignment__data": data, "alignment__reference": nano, "alignment__mode": "ica"}
    found = evaluate(tmp_path, model=nano, limit=2, **fields)
    assert found.alignment.alignment.rows == 2
    assert found.settings == {}
