"""Rows of the three axes from files in their published forms."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.exceptions import DatasetError
from training.mocae.axis_rows import COMPLIANCES, HELD_OUT_REFUSALS, REFUSALS, AxisPrompt, axis_rows, part_of
from training.mocae.stage import MocaeConfig

QUESTIONS = [f"Question {number}?" for number in range(40)]


@pytest.fixture
def config(tmp_path: Path) -> MocaeConfig:
    alpaca = [
        {"instruction": f"Task {number}.", "input": "Text." * (number % 2), "output": "Done."} for number in range(40)
    ]
    (tmp_path / "alpaca.json").write_text(json.dumps(alpaca), encoding="utf-8")
    labelled = [
        {"prompt": f"Labelled {number}", "response": answer, "is_safe": answer == "safe", "category": {}}
        for number in range(40)
        for answer in ("safe", "unsafe")
    ]
    (tmp_path / "beaver.jsonl").write_text("\n".join(map(json.dumps, labelled)), encoding="utf-8")
    bare = [f"Bare {number},category" for number in range(40)]
    (tmp_path / "beaver.csv").write_text("\n".join(["prompt,category", *bare]), encoding="utf-8")
    head = "Question,Best Answer,Correct Answers,Incorrect Answers"
    rows = [f"{question},best,also; best,wrong; worse" for question in QUESTIONS]
    (tmp_path / "truth.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    data = {
        "alpaca": tmp_path / "alpaca.json",
        "beavertails": [tmp_path / "beaver.jsonl", tmp_path / "beaver.csv"],
        "truthfulqa": tmp_path / "truth.csv",
    }
    return MocaeConfig.model_validate(
        {"stage": "mocae", "base": tmp_path, "data": data, "work": tmp_path / "work", "output": tmp_path / "served"}
    )


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_nothing_of_the_held_out_fold_is_trained(config: MocaeConfig) -> None:
    axis_rows(config)
    held_out = {prompt.prompt for prompt in AxisPrompt.read_all(config.prompts) if prompt.part == "test"}
    for axis in ("helpful", "harmless", "honest"):
        trained = {row["prompt"][0]["content"] for row in rows(config.work / f"{axis}.jsonl")}
        assert trained
        assert not trained & held_out
    pairs = rows(config.work / "harmless_pairs.jsonl")
    assert {(row["chosen"], row["rejected"]) for row in pairs} == {("safe", "unsafe")}
    assert not {row["prompt"] for row in pairs} & held_out


def test_answers_of_the_experts(config: MocaeConfig) -> None:
    axis_rows(config)
    answers = {
        row["prompt"][0]["content"].split()[0]: row["completion"][0]["content"]
        for axis in ("helpful", "harmless", "honest")
        for row in rows(config.work / f"{axis}.jsonl")
    }
    assert answers.pop("Bare") in REFUSALS
    assert answers == {"Task": "Done.", "Labelled": "safe", "Question": "best"}


def test_prompts_that_are_measured(config: MocaeConfig) -> None:
    axis_rows(config)
    prompts = AxisPrompt.read_all(config.prompts)
    assert {(p.right, p.wrong) for p in prompts if p.axis == "honest"} == {(("best", "also"), ("wrong", "worse"))}
    assert {(p.right, p.wrong) for p in prompts if p.axis == "harmless"} == {(HELD_OUT_REFUSALS, COMPLIANCES)}
    assert not set(HELD_OUT_REFUSALS) & set(REFUSALS)
    assert any(prompt.prompt.endswith("\n\nText.") for prompt in prompts if prompt.axis == "helpful")


def test_each_question_is_held_out_in_one_fold() -> None:
    for question in QUESTIONS:
        assert sorted(part_of(question, fold) for fold in range(5)) == ["calibration", "test", *["train"] * 3]
        assert part_of(question, 0) == part_of(f" {question.upper()}", 0)


def test_a_file_without_the_columns_is_refused(config: MocaeConfig) -> None:
    config.data.truthfulqa.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="has no rows with Question"):
        axis_rows(config)
    config.data.truthfulqa.unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        axis_rows(config)
