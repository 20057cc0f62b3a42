"""Answers to questions, compared with references that suit the user."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evaluation.cases.cases import Question, has_questions, read_cases, read_questions
from evaluation.conditions import Protocol
from evaluation.results import AnswerScores
from evaluation.scoring.answers import LOSS, TIE, WIN, answer_messages, measure_answers, score_judgement
from evaluation.scoring.choice_scores import Context
from evaluation.scoring.measure import Judging
from evaluation.scoring.progress_bar import ProgressBar
from services.engine.judge import Judgement
from services.prompts.build import ChatMessage, chat_prompt, selection_prompt
from tests.unit.evaluation.official import lines
from tests.unit.evaluation.tastes import RuleModel, local_model
from training.exceptions import DatasetError

REFERENCE = "Water."


def question_row(user: int) -> dict[str, Any]:
    taken, left = ("tea", "coffee") if user % 2 == 0 else ("coffee", "tea")
    history = [
        {"type": "comparison", "query": f"Drink {day}?", "chosen": f"hot {taken}", "rejected": f"hot {left}"}
        for day in range(4)
    ]
    return {
        "userid": f"u{user}", "benchmark": "asked", "history": history, "kind": taken,
        "question": f"What now, {user}?", "reference": REFERENCE,
    }  # fmt: skip


def questions(folder: Path, count: int) -> list[Question]:
    return read_questions(lines(folder / "questions.jsonl", map(question_row, range(count))), limit=None)[0]


class Answering(RuleModel):
    """Answers with the drink that the summary or the history names, and "Nothing." without one.

    As a judge it likes the drink that the history shows, then the reference, and least of all other
    drinks; the size of its odds is `sure`, the first place gains `lean`.
    """

    def __init__(self, *, sure: float = 3.0, lean: float = 0.0, replies: Sequence[str] = ()) -> None:
        super().__init__()
        self.sure, self.lean, self.replies = sure, lean, replies
        self.asked: list[Sequence[ChatMessage]] = []
        self.options: list[dict[str, Any]] = []

    def generate(self, prompts: Sequence[Sequence[ChatMessage]], *, seed: int, **options: Any) -> list[str]:
        if "What now" not in prompts[0][-1]["content"]:
            return super().generate(prompts, seed=seed)
        self.asked += prompts
        self.options.append(options)
        return list(self.replies) or [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Sequence[ChatMessage]) -> str:
        context = " ".join(message["content"] for message in prompt[:-1])
        liked = re.findall(r"likes (\w+)|<chosen>hot (\w+)", context)
        return f"<think>Hm.</think>Some {''.join(liked[0])}." if liked else "Nothing."

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        text = messages[1]["content"]
        self.chosen.append(text)
        drink = re.findall(r"<chosen>hot (\w+)", text)[0]
        items = re.findall(r'<item letter="\w">\n(.*?)\n</item>', text)
        odds = [self.sure * (2 if drink in item else item == REFERENCE) for item in items]
        return [odds[0] + self.lean, *odds[1:]]


def run_setting(engine: Answering, asked: list[Question], setting: str) -> AnswerScores:
    with local_model(engine, tokens=len) as model:
        return asyncio.run(measure_answers(setting, asked, Judging(model, model, Protocol(batch=3), ProgressBar())))[0]


# --- win, tie, loss ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "value"),
    [
        ((0.9, 0.9), WIN),
        ((0.7, 0.7), WIN),
        ((0.95, 0.51), WIN),
        ((0.61, 0.61), WIN),
        ((0.6, 0.6), TIE),
        ((0.55, 0.55), TIE),
        ((0.5, 0.5), TIE),
        ((0.4, 0.4), TIE),
        ((0.99, 0.45), TIE),
        ((0.01, 0.51), TIE),
        ((0.39, 0.39), LOSS),
        ((0.1, 0.49), LOSS),
        ((0.0, 0.0), LOSS),
    ],
)
def test_an_answer_wins_where_both_orders_agree_and_the_mean_is_clear(
    orders: tuple[float, float], value: float
) -> None:
    mean, bias = sum(orders) / 2, abs(orders[0] - orders[1]) / 2
    assert score_judgement(Judgement((mean, 1 - mean), bias)) == value


@given(st.floats(0, 1), st.floats(0, 1))
@example(0.5, 1e-05)
def test_changing_sides_turns_wins_into_losses(one: float, other: float) -> None:
    mean, bias = (one + other) / 2, abs(one - other) / 2
    there, back = score_judgement(Judgement((mean, 1 - mean), bias)), score_judgement(Judgement((1 - mean, mean), bias))
    assert there + back == 1
    if min(one, other) < 0.5 - 1e-9 and max(one, other) > 0.5 + 1e-9:
        assert there == TIE


# --- settings ----------------------------------------------------------------------------------


def test_who_knows_the_user_wins_and_who_does_not_loses(tmp_path: Path) -> None:
    asked = questions(tmp_path, 6)
    for setting, value in (("full", WIN), ("streaming", WIN), ("direct", WIN), ("none", LOSS), ("other", LOSS)):
        scores = run_setting(Answering(), asked, setting)
        assert scores.values == (value,) * 6, setting
        assert (scores.wins, scores.ties, scores.losses) == ((6, 0, 0) if value == WIN else (0, 0, 6))
        assert scores.score.mean == value
    assert scores.by_kind.keys() == {"tea", "coffee"}


def test_a_judge_that_is_unsure_or_goes_by_place_makes_ties(tmp_path: Path) -> None:
    asked = questions(tmp_path, 4)
    assert run_setting(Answering(sure=0.1), asked, "full").ties == 4
    leaning = run_setting(Answering(sure=1.0, lean=2.0), asked, "full")
    assert leaning.ties == 4
    assert leaning.position_bias > 0.2


def test_the_judge_reads_question_history_and_both_answers_and_no_thinking(tmp_path: Path) -> None:
    engine, asked = Answering(), questions(tmp_path, 2)
    run_setting(engine, asked, "full")
    seen = selection_prompt(asked[0].question, ["Some tea.", REFERENCE], None, asked[0].history)
    turned = selection_prompt(asked[0].question, [REFERENCE, "Some tea."], None, asked[0].history)
    assert engine.chosen[:2] == [seen.messages[1]["content"], turned.messages[1]["content"]]
    assert not any("likes" in text for text in engine.chosen), "its own summary would speak for the answer"


def test_answers_are_asked_for_as_in_serving(tmp_path: Path) -> None:
    engine, asked = Answering(), questions(tmp_path, 2)
    run_setting(engine, asked, "full")
    said = [ChatMessage(role="user", content=asked[0].question)]
    served = chat_prompt(said, mode="summary", summary="The user likes tea.", history=())
    assert engine.asked[0] == served.messages
    assert (engine.options[0]["max_new_tokens"], engine.options[0]["thinking"]) == (512, False)
    assert answer_messages("q", Context()) == [{"role": "user", "content": "q"}]
    direct = chat_prompt(said, mode="direct", summary=None, history=asked[0].history).messages
    assert answer_messages(asked[0].question, Context(history=asked[0].history)) == direct


def test_an_empty_answer_loses_and_the_reference_itself_ties_unasked(tmp_path: Path) -> None:
    engine = Answering(replies=["", "<think>It never", f" {REFERENCE}"])
    scores = run_setting(engine, questions(tmp_path, 3), "none")
    assert scores.values == (LOSS, LOSS, TIE)
    assert (scores.empty, scores.position_bias, engine.chosen) == (2, None, [])


def test_a_history_counts_as_shortened_where_the_judge_reads_it(tmp_path: Path) -> None:
    engine, protocol = Answering(replies=["", f" {REFERENCE}", "Some tea."]), Protocol(history_tokens=1)
    with local_model(engine, tokens=len) as model:
        judging = Judging(model, model, protocol, ProgressBar())
        _, inference = asyncio.run(measure_answers("none", questions(tmp_path, 3), judging))
    assert inference.shortened == {2}, "an empty answer and the reference itself need no judge"


# --- rows --------------------------------------------------------------------------------------


def test_rows_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", [question_row(0), question_row(1)])
    assert has_questions(path)
    with pytest.raises(DatasetError, match="2 of 2 rows have a question and no target"):
        read_cases(path, limit=None)
    target = {"query": "q", "chosen": "a", "rejected": "b"}
    choice = {name: value for name, value in question_row(0).items() if name not in ("question", "reference")}
    lines(path, [choice | {"target": target}])
    assert not has_questions(path)
    with pytest.raises(DatasetError, match="1 of 1 rows have a target and no question"):
        read_questions(path, limit=None)
