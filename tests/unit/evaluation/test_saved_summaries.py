"""Summaries of one model on disk, and choices of another model by them."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.cases.cases import Case, read_cases
from evaluation.conditions import Protocol
from evaluation.results import Source
from evaluation.saved_summaries import SavedSummaries, save_summaries
from evaluation.scoring.measure import Judging, measure
from evaluation.scoring.progress_bar import ProgressBar
from tests.unit.evaluation.official import lines
from tests.unit.evaluation.tastes import RuleModel, local_model, row, users
from training.exceptions import ConfigError, DatasetError

WRITER = Source(name="writer", sha256="0" * 64)


def saved_file(folder: Path, cases: list[Case]) -> Path:
    """Full: what is true. Streaming: its opposite."""
    liked = ["The user likes tea." if place % 2 == 0 else "The user likes coffee." for place in range(len(cases))]
    path = folder / "saved.jsonl"
    save_summaries(path, WRITER, cases, {"full": [*liked[:-1], None], "streaming": liked[::-1]})
    return path


def test_summaries_are_read_again_by_user(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    saved = SavedSummaries.read(saved_file(tmp_path, cases))
    assert saved.model == WRITER
    assert saved.source.sha256 is not None
    assert saved.settings == ("full", "streaming", "other", "fused")
    tea, coffee = "The user likes tea.", "The user likes coffee."
    assert saved.for_users("full", cases[::-1]) == [None, tea, coffee, tea]
    assert saved.for_users("fused", cases) == saved.for_users("full", cases)
    assert saved.for_users("other", cases) == [*saved.for_users("full", cases)[1:], saved.for_users("full", cases)[0]]
    same = [cases[0], replace(cases[1], history=cases[0].history), *cases[2:]]
    assert saved.for_users("other", same)[0] == saved.for_users("full", cases)[2], (
        "a neighbour with the same history is no other"
    )
    with pytest.raises(ConfigError, match="different histories"):
        saved.for_users("other", cases[:1])


def test_another_model_chooses_by_them_and_writes_nothing(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    saved = SavedSummaries.read(saved_file(tmp_path, cases))
    engine = RuleModel()
    with local_model(engine) as judge:
        judging = Judging(judge, judge, Protocol(), ProgressBar(), saved)
        full, inference = asyncio.run(measure("full", cases, judging))
        streaming, _ = asyncio.run(measure("streaming", cases, judging))
    assert engine.written == []
    assert full.right == (1, 1, 1, 0.5), "of the last there is no summary"
    assert streaming.right == (0, 0, 0, 0)
    assert (full.writing.replies, full.writing.usable, inference.summaries) == (0, None, [])
    assert full.writing.summary_tokens > 0


def test_a_summary_serves_other_tasks_on_the_same_history(tmp_path: Path) -> None:
    """Summaries of rows that select are chosen by in rows that recommend to the same users."""
    cases = users(tmp_path, 4)
    saved = SavedSummaries.read(saved_file(tmp_path, cases))
    recommending = [
        {
            "userid": each["userid"],
            "benchmark": "drinks",
            "history": [{"type": "comparison", **event} for event in each["history"]],
            "target": {"query": "", "chosen": {"title": "tea"}, "rejected": "water"},
        }
        for each in map(row, reversed(range(4)))
    ]
    there, _ = read_cases(lines(tmp_path / "recommendation.jsonl", recommending), limit=None)
    assert {case.digest for case in there}.isdisjoint(case.digest for case in cases)
    assert saved.for_users("full", there) == saved.for_users("full", cases)[::-1]
    shorter = [replace(case, history=case.history[1:]) for case in there]
    with pytest.raises(ConfigError, match="none of setting full for 4 of 4 users"):
        saved.for_users("full", shorter)


def test_rows_of_one_history_keep_their_own_summaries(tmp_path: Path) -> None:
    (case,) = users(tmp_path, 1)
    later = replace(case, digest="later")
    path = tmp_path / "saved.jsonl"
    save_summaries(path, WRITER, [case, later], {"full": ["one", "two"]})
    saved = SavedSummaries.read(path)
    assert saved.for_users("full", [later, case]) == ["two", "one"]
    assert saved.for_users("full", [replace(case, digest="elsewhere")]) == ["one"], "of several the first"


def test_users_without_a_summary_are_counted(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    saved = SavedSummaries.read(saved_file(tmp_path, cases[:3]))
    with pytest.raises(ConfigError, match=r"none of setting full for 1 of 4 users.*settings full, streaming"):
        saved.for_users("full", cases)
    with pytest.raises(ConfigError, match="none of setting flipped for 4 of 4"):
        saved.for_users("flipped", cases)


def line(**changed: object) -> str:
    given = {"user": "u", "history": "h", "setting": "full", "summary": "s", "model": {"name": "m"}} | changed
    return json.dumps({name: value for name, value in given.items() if value != ()}) + "\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (line() + line(user=()), "line 2: user: is missing"),
        (line() + "{\n", "line 2: Invalid JSON"),
        (line(summary=3), "line 1: summary: "),
        (line() + line(user="v", model={"name": "n"}), "summaries of 2 models"),
        ("", "summaries of 0 models"),
    ],
)
def test_files_that_are_no_summaries_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "saved.jsonl"
    path.write_text(text)
    with pytest.raises(DatasetError, match=sentence):
        SavedSummaries.read(path)
