"""The command, on a real random checkpoint: what it writes, how it goes on, what it refuses."""

import json
from pathlib import Path

import pytest

from evaluation.__main__ import main
from evaluation.results import EvaluationResult
from tests.unit.evaluation.scoring.test_alignment import write_pairs
from tests.unit.evaluation.scoring.test_answers import asking
from tests.unit.evaluation.tastes import row, write_rows
from tests.unit.training.nano import write_nano


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("models") / "nano", hidden=16, spread=0.2)


def arguments(folder: Path, **options: object) -> list[str]:
    given = {"out": folder / "result.json", "stage": "sft", **options}
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def test_a_checkpoint_from_end_to_end(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, pairs = write_rows(tmp_path / "users.jsonl", 6), write_pairs(tmp_path / "pairs.jsonl")
    options = {"model": nano, "data": data, "max_tokens": 8, "alignment": pairs, "reference": nano, "seed": 3}
    main(arguments(tmp_path, **options))
    found = EvaluationResult.read(tmp_path / "result.json")
    shown = capsys.readouterr().out
    assert list(found.settings) == [
        "none",
        "direct",
        "full",
        "streaming",
        "flipped",
        "drifted",
        "mixed",
        "other",
        "truth",
        "wording",
        "fused",
        "profile",
    ]
    assert all(part in shown for part in ("full: accuracy", "full: AUC", "full: calibration error"))
    assert all(f"baseline: {name}" in shown for name in ("random", "longer wins", "profile"))
    assert len(found.users) == len(set(found.users)) == 6
    assert all(len(scores.values) == 6 for scores in found.settings.values())
    assert all(0 < value < 1 for value in found.settings["none"].values)
    assert found.settings["profile"].accuracy.mean == 1
    assert found.settings["full"].writing is not None
    assert found.settings["full"].writing.well_formed == 0, "random weights"
    assert set(found.differences) >= {"full - none", "streaming - full", "flipped - full"}
    assert found.alignment is not None
    assert found.alignment.alignment.mean == 0.5
    assert found.model is not None
    assert found.model == found.judge == found.alignment.reference
    assert found.data is not None
    assert found.data.name == "users.jsonl"
    assert found.config["protocol"]["sampling"]["max_tokens"] == 8
    assert found.config["protocol"]["seed"] == 3
    assert {"torch", "transformers", "python"} <= found.versions.keys()
    assert str(tmp_path) not in (tmp_path / "result.json").read_text()
    assert row(0)["target"]["chosen"] not in (tmp_path / "result.json").read_text(), "no user's text"

    kept = (tmp_path / "result.json.answers.sqlite").read_bytes()
    main(arguments(tmp_path, **options))
    assert (tmp_path / "result.json.answers.sqlite").read_bytes() == kept, "nothing is computed again"
    again = EvaluationResult.read(tmp_path / "result.json")
    assert {name: scores.calls for name, scores in again.settings.items()} == {
        name: scores.calls for name, scores in found.settings.items()
    }
    assert [scores.values for scores in again.settings.values()] == [s.values for s in found.settings.values()]


def test_a_fresh_run_finds_the_same(nano: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "users.jsonl", 4)
    values = []
    for name in ("one", "other"):
        options = {
            "model": nano,
            "data": data,
            "settings": "streaming",
            "max_tokens": 8,
            "out": tmp_path / f"{name}.json",
        }
        main(arguments(tmp_path, **options))
        values.append(EvaluationResult.read(tmp_path / f"{name}.json").settings["streaming"].values)
    assert values[0] == values[1]


def test_sampled_replies_of_a_checkpoint_are_counted(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "users.jsonl", 4)
    main(arguments(tmp_path, model=nano, data=data, settings="none,direct,profile", protocol="sampled"))
    found = EvaluationResult.read(tmp_path / "result.json")
    replies = found.settings["none"].replies
    assert replies is not None
    assert sum(replies.kinds.values()) == 4
    assert replies.unparsed == 4, "random weights"
    assert found.settings["none"].accuracy.mean == 0
    assert found.settings["profile"].auc is not None
    assert found.config["protocol"]["choice"] == "sampled"
    assert "none: replies" in capsys.readouterr().out


def test_summaries_are_kept_by_one_run_and_judged_by_another(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_rows(tmp_path / "users.jsonl", 3)
    other = write_nano(tmp_path / "other", hidden=16, seed=1, spread=0.2)
    kept, own = tmp_path / "kept.jsonl", tmp_path / "own.json"
    given = {"data": data, "max_tokens": 8, "settings": "full"}
    main(arguments(tmp_path, model=nano, keep_summaries=kept, **given | {"out": own}))
    written = EvaluationResult.read(own)
    assert written.kept_summaries is not None
    assert (written.kept_summaries.name, len(kept.read_text().splitlines())) == ("kept.jsonl", 3)
    values = []
    for summaries in (kept, own):
        main(arguments(tmp_path, summaries=summaries, judge=other, **given))
        found = EvaluationResult.read(tmp_path / "result.json")
        values.append(found.settings["full"].values)
        assert found.model == written.model
        assert found.judge is not None
        assert found.judge.name == "other"
        assert found.summaries == written.kept_summaries
    assert values[0] == values[1] != written.settings["full"].values
    kept.write_text("")
    with pytest.raises(SystemExit):
        main(arguments(tmp_path, summaries=own, judge=other, **given))


def test_questions_are_answered_by_a_checkpoint(nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(asking(user)) + "\n" for user in range(3)))
    given = {"model": nano, "data": data, "max_tokens": 8, "answer_tokens": 8}
    main(arguments(tmp_path, settings="none,direct,full", **given))
    found = EvaluationResult.read(tmp_path / "result.json")
    assert (list(found.answers), found.settings) == (["none", "direct", "full"], {})
    assert all(scores.wins + scores.ties + scores.losses == 3 for scores in found.answers.values())
    assert "full - none" in found.differences
    assert "full: answers" in capsys.readouterr().out


def test_the_usage_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: python -m evaluation [-h] --out OUT")
    assert "example: python -m evaluation --" in told


def test_the_profile_needs_no_model(tmp_path: Path) -> None:
    main(arguments(tmp_path, data=write_rows(tmp_path / "users.jsonl", 5), limit=3))
    found = EvaluationResult.read(tmp_path / "result.json")
    assert list(found.settings) == ["profile"]
    assert found.settings["profile"].accuracy.rows == 3
    assert found.model is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "nothing to measure"),
        ({"data": "users.jsonl", "settings": "full,best"}, "--settings best: unknown; allowed: none, direct, full,"),
        ({"data": "users.jsonl", "settings": "full"}, "need a --model"),
        ({"data": "absent.jsonl"}, "absent.jsonl does not exist"),
        ({"data": "users.jsonl", "model": "absent"}, "absent holds no checkpoint"),
        ({"data": "users.jsonl", "summaries": "users.jsonl"}, "say with --judge who chooses by them"),
        ({"data": "users.jsonl", "summaries": "users.jsonl", "judge": "NANO"}, "line 1: user: Field required"),
        ({"data": "users.jsonl", "keep_summaries": "kept.jsonl"}, "--keep-summaries needs a --model"),
        (
            {"data": "users.jsonl", "model": "NANO", "protocol": "sampled", "settings": "fused"},
            "--settings fused: needs --protocol forced",
        ),
        ({"data": "questions.jsonl"}, "questions.jsonl holds questions to answer: give a --model"),
        ({"data": "questions.jsonl", "model": "NANO", "settings": "fused"}, "possible: none, direct, full, streaming"),
        ({"alignment": "users.jsonl", "model": "absent"}, "--alignment compares --model with --reference"),
        ({"data": "bare.jsonl", "settings": "truth", "model": "NANO"}, "not every row of --data has a summary"),
        ({"data": "users.jsonl", "model": "NANO", "max_tokens": 4096}, "exceed the 4096 positions of the model"),
    ],
)
def test_mistakes_are_told_and_leave_no_result(
    nano: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "users.jsonl", 2)
    write_rows(tmp_path / "bare.jsonl", 2, summary=None)
    (tmp_path / "questions.jsonl").write_text(json.dumps(asking(0)))
    given = {name: nano if value == "NANO" else value for name, value in options.items()}
    with pytest.raises(SystemExit) as ended:
        main(arguments(tmp_path, **given))
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_a_broken_row_is_counted(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "users.jsonl", 3)
    with data.open("a", encoding="utf-8") as out:
        out.write(json.dumps({**row(9), "target": {"query": "q", "chosen": "a", "rejected": "a"}}) + "\n")
    main(arguments(tmp_path, data=data))
    assert EvaluationResult.read(tmp_path / "result.json").left_out == 1
