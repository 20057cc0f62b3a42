"""Benchmarks of answers to write: dialogues, a question, a reference."""

from pathlib import Path
from typing import Any

import pytest

from alignx.schemas.interactions import DialogueInteraction
from evaluation.cases.cases import Question, find_clusters
from tests.unit.evaluation.official import SECRET, lines, run_converter
from training.exceptions import DatasetError


def turn(user: str, dialogue: int, number: int) -> dict[str, Any]:
    said = {"user": f"{user} says {dialogue}.{number}", "assistant": f"Reply {dialogue}.{number}"}
    return {"user_id": user, "dialogue_id": dialogue, "turn_id": number, "type": "persona", "persona": SECRET} | said


def asked(user: str, kind: str = "persona", **changed: Any) -> dict[str, Any]:
    answers = {"personalized_answer": "As you like it.", "general_answer": "In general."}
    return {"user_id": user, "type": kind, "question": "What?", "metadata": SECRET} | answers | changed


def test_dialogues_are_gathered_by_user(tmp_path: Path):
    lines(
        tmp_path / "dialogue" / "test.jsonl", [turn(user, talk, n) for talk in (0, 1) for user in "ab" for n in (0, 1)]
    )
    questions = [asked("a"), asked("b", "schedule"), asked("c"), asked("a", question=""), asked("")]
    lines(tmp_path / "qa" / "test_1.jsonl", questions)
    lines(tmp_path / "qa" / "train.jsonl", [asked("a")] * 9)
    rows, tally = run_converter("hicupid", tmp_path)
    assert [(row.userid, row.kind, row.question, row.reference) for row in rows] == [
        ("a", "persona", "What?", "As you like it."),
        ("b", "schedule", "What?", "As you like it."),
    ]
    talks = [event.messages for event in rows[0].history if isinstance(event, DialogueInteraction)]
    assert [[each.content for each in talk] for talk in talks] == [
        ["a says 0.0", "Reply 0.0", "a says 0.1", "Reply 0.1"],
        ["a says 1.0", "Reply 1.0", "a says 1.1", "Reply 1.1"],
    ]
    assert all(row.target is None for row in rows)
    assert tally.left_out == {
        "questions of users without a dialogue": 1,
        "malformed: questions: question: must hold text": 1,
        "malformed: questions: user_id: must hold text": 1,
    }


def test_the_questions_of_one_user_stay_together(tmp_path: Path):
    lines(tmp_path / "dialogue" / "test.jsonl", [turn(user, 0, 0) for user in "ab"])
    lines(tmp_path / "qa" / "test.jsonl", [asked(user, question=f"{n}?") for n in range(9) for user in "ab"])
    users = [Question.of(row) for row in run_converter("hicupid", tmp_path)[0]]
    assert find_clusters(users) == ("users", ["a", "b"] * 9)
    assert len({(user.userid, user.half) for user in users}) == 2, "each in one half"


def test_what_is_missing_is_named(tmp_path: Path):
    lines(tmp_path / "dialogue" / "test.jsonl", [turn("a", 0, 0)])
    with pytest.raises(DatasetError, match=r"holds no qa/\*\.jsonl"):
        run_converter("hicupid", tmp_path)
