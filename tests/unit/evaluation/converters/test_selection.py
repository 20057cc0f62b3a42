"""Benchmarks of answers to choose from; personas, profiles and system messages stay out."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignx.schemas.interactions import ComparisonInteraction, DialogueInteraction
from evaluation.cases.benchmark import Plan
from evaluation.cases.benchmark_rows import BenchmarkRow
from tests.unit.evaluation.official import SECRET, lines, run_converter
from training.exceptions import DatasetError

CLEAR, NEUTRAL = [1.0, *[0.5] * 89], [0.5] * 90


def alignx_row(number: int = 0, **changed: Any) -> dict[str, Any]:
    pair = {"prompt": "Tea?", "chosen": "Yes.", "rejected": "No, never.", "Preference Direction": NEUTRAL}
    row = {
        "prompt": f"Question {number}?",
        "chosen": "Short.",
        "rejected": "Long and long.",
        "Preference Direction": CLEAR,
        "Demographic Information": f"A {SECRET} of 34.",
        "User-Generated Content": [{"prompt": "A post", "comment": "My comment", "Preference Direction": NEUTRAL}],
        "Pair-wise Comparative Feedback": [pair] * 4,
    }
    return row | changed


def psoups_row(number: int = 0, **changed: Any) -> dict[str, Any]:
    row = alignx_row(number, ground_truth_persona=f"Answer as a {SECRET}.", profile=f"A {SECRET}", **changed)
    for name in ("Preference Direction", "Demographic Information", "User-Generated Content"):
        del row[name]
    return row


def test_alignx_rows_show_posts_and_pairs(tmp_path: Path):
    path = lines(tmp_path / "test.jsonl", [alignx_row(0), alignx_row(1, chosen="Long and long."), alignx_row(2)])
    rows, tally = run_converter("alignx", tmp_path)
    assert [event.type for event in rows[0].history] == ["post", *["comparison"] * 4]
    assert rows[1].target.query == "Question 2?"
    assert tally.left_out == {"malformed: rows of test.jsonl: chosen and rejected are the same text": 1}
    assert "the first malformed: test.jsonl, line 2" in tally.summary_line("alignx")
    text = "".join(row.line().decode() for row in rows)
    assert "directions" not in text, "they are labels, not what the user said"
    path.write_text(json.dumps([alignx_row(0)]))
    assert len(run_converter("alignx", tmp_path)[0]) == 1, "a JSON array as well"


def test_psoups_rows_name_what_they_test_and_no_persona(tmp_path: Path):
    for name in ("concise_detail", "friendly_unfriendly", "student_phd"):
        (tmp_path / f"{name}.json").write_text(json.dumps([psoups_row(0), psoups_row(1)]))
    rows, tally = run_converter("psoups", tmp_path)
    assert [row.kind for row in rows] == ["informativeness"] * 2 + ["style"] * 2 + ["expertise"] * 2
    assert len({row.userid for row in rows}) == 6
    assert all(isinstance(event, ComparisonInteraction) for row in rows for event in row.history)
    assert not tally.left_out


def test_pairs_that_quote_the_persona_are_left_out(tmp_path: Path):
    quoting = f"Well: answer as a {SECRET.upper()}, it said."
    fine = {"prompt": "Tea?", "chosen": "Yes.", "rejected": "No."}
    rows = [
        psoups_row(0, **{"Pair-wise Comparative Feedback": [fine, fine | {"chosen": quoting}]}),
        psoups_row(1, **{"Pair-wise Comparative Feedback": [fine | {"rejected": quoting}]}),
        psoups_row(2, rejected=quoting),
    ]
    (tmp_path / "student_phd.json").write_text(json.dumps(rows))
    (row,), tally = run_converter("psoups", tmp_path)
    assert len(row.history) == 1
    assert tally.left_out == {
        "pairs that quote a true persona": 2,
        "rows without posts and pairs": 1,
        "rows whose target quotes a true persona": 1,
    }


def test_rows_without_a_history_are_counted(tmp_path: Path):
    lines(
        tmp_path / "test.jsonl", [alignx_row(**{"User-Generated Content": None, "Pair-wise Comparative Feedback": []})]
    )
    assert run_converter("alignx", tmp_path)[1].left_out == {"rows without posts and pairs": 1}


# --- PrefEval ------------------------------------------------------------------------------------


def prefeval(folder: Path, questions: int = 3) -> Path:
    base = [
        {"preference": f"I {SECRET} {n}", "question": f"Question {n}?", "explanation": SECRET} for n in range(questions)
    ]
    options = {"classification_task_options": ["Aligned.", "Wrong 1.", "Wrong 2.", "Wrong 3."]}
    talk = {
        "query": "What else?",
        "assistant_options": "1. This 2. That",
        "user_selection": "I take 1.",
        "assistant_acknowledgment": "Noted.",
    }
    turns = {str(n): {"user": f"Word {n}", "assistant": f"Answer {n}"} for n in range(11)}
    forms = {
        "mcq_options": [row | options for row in base],
        "explicit_preference": [row | {"preference": f"I like {row['question']}"} for row in base],
        "implicit_preference/choice-based": [row | {"conversation": talk, "aligned_op": SECRET} for row in base],
        "implicit_preference/persona-driven": [row | {"conversation": turns, "persona": SECRET} for row in base],
    }
    for where, rows in forms.items():
        (folder / where).mkdir(parents=True, exist_ok=True)
        (folder / where / "travel.json").write_text(json.dumps(rows))
    return folder


def test_a_question_gives_a_row_for_each_form(tmp_path: Path):
    rows, tally = run_converter("prefeval", prefeval(tmp_path))
    assert [row.kind for row in rows] == ["explicit", "choice", "persona"] * 3
    assert not tally.left_out
    stated, chosen, talked = (row.history[0] for row in rows[:3])
    assert stated.model_dump(include={"type", "text"}) == {"type": "statement", "text": "I like Question 0?"}
    assert [turn.role for turn in chosen.messages] == ["user", "assistant"] * 2
    assert [turn.content for turn in talked.messages[::2]] == [f"Word {n}" for n in range(11)], (
        "in the order of numbers"
    )


def test_all_options_of_a_question_are_in_its_row(tmp_path: Path):
    rows, _ = run_converter("prefeval", prefeval(tmp_path, 30))
    for row in rows:
        assert row.target.chosen == "Aligned."
        assert sorted([str(row.target.rejected), *map(str, row.others)]) == ["Wrong 1.", "Wrong 2.", "Wrong 3."]
    assert {row.target.rejected for row in rows if row.target} == {"Wrong 1.", "Wrong 2.", "Wrong 3."}
    of_question = {row.userid: row.target.rejected for row in rows if row.target}
    assert all(row.target and row.target.rejected == of_question[row.userid] for row in rows), "the same in each form"


def test_forms_that_are_not_there_are_counted(tmp_path: Path):
    (prefeval(tmp_path) / "explicit_preference" / "travel.json").unlink()
    rows, tally = run_converter("prefeval", tmp_path)
    assert len(rows) == 6
    assert tally.left_out == {"questions without their explicit form": 3}
    with pytest.raises(DatasetError, match=r"holds no mcq_options/\*\.json"):
        run_converter("prefeval", tmp_path / "mcq_options")


# --- PersonaMem ----------------------------------------------------------------------------------

SYSTEM = {"role": "system", "content": f"Current user persona: a {SECRET}"}
TALK = [
    SYSTEM,
    {"role": "user", "content": "User: I paint."},
    {"role": "assistant", "content": "Assistant: Nice."},
    SYSTEM,
    {"role": "user", "content": "I stopped painting."},
    {"role": "assistant", "content": "Oh."},
    {"role": "user", "content": "After the end."},
]
OPTIONS = ["(a) Paint!", "(b) Sing!", '(c) It\'s "rest"!', "(d) Cook!"]


def personamem(folder: Path, *changed: dict[str, str]) -> Path:
    first = {
        "persona_id": "0",
        "question_id": "q0",
        "question_type": "suggest_new_ideas",
        "topic": SECRET,
        "user_question_or_message": "User: What now?",
        "correct_answer": "(c)",
        "all_options": json.dumps(OPTIONS),
        "shared_context_id": "c0",
        "end_index_in_shared_context": "6",
    }
    table(folder / "questions_32k.csv", [first | each for each in changed or ({},)])
    lines(folder / "shared_contexts_32k.jsonl", [{"c0": TALK}])
    return folder


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    def quoted(values: Any) -> str:
        return ",".join('"' + value.replace('"', '""') + '"' for value in values)

    return lines(path, [quoted(rows[0]), *(quoted(row.values()) for row in rows)])


@pytest.mark.parametrize("cell", [json.dumps(OPTIONS), str(OPTIONS)])
def test_the_conversations_before_the_question_are_the_history(cell: str, tmp_path: Path):
    (row,), tally = run_converter("personamem", personamem(tmp_path, {"all_options": cell}))
    assert not tally.left_out
    dialogues = [event.messages for event in row.history if isinstance(event, DialogueInteraction)]
    assert [[turn.content for turn in talk] for talk in dialogues] == [
        ["I paint.", "Nice."],
        ["I stopped painting.", "Oh."],
    ]
    assert (row.target.query, row.target.chosen, row.kind) == ("What now?", 'It\'s "rest"!', "suggest_new_ideas")
    assert {row.target.rejected, *row.others} == {"Paint!", "Sing!", "Cook!"}


def test_malformed_questions_are_counted(tmp_path: Path):
    changed = ({"correct_answer": "(x)"}, {"shared_context_id": "c9"}, {"end_index_in_shared_context": "0"}, {})
    rows, tally = run_converter("personamem", personamem(tmp_path, *changed))
    assert len(rows) == 1
    assert tally.left_out == {
        "malformed: options, correct answer or end of the context in another form": 1,
        "questions whose context is not there": 1,
        "questions without a history, a text or a wrong option": 1,
    }


def test_of_documents_only_what_was_said_before_the_question_is_the_history(tmp_path: Path):
    talks = [
        f"[SYSTEM] Current user persona: {SECRET}\n\n[USER] User: I paint.\n\n[ASSISTANT] Assistant: Nice.",
        "[USER] User: I sing.\n\nOften.\n\n[ASSISTANT] Oh.\n\n[USER] User: I have stopped painting now.",
    ]
    lines(tmp_path / "documents.jsonl.gz", [{"user_id": "c", "content": talk} for talk in talks])
    choices = "(a) You loved it.\n(b) You never did.\n(c) You loved it."
    asked = ["Dr. Ann Lee\n\nI have stopped painting now.", "What shall I do this evening?"]
    queries = [
        {
            "id": f"q{number}",
            "query": f"User: {question}\n\n{choices}",
            "gold_answers": ["(a) You loved it.", "a"],
            "user_id": "c",
            "meta": {"persona_id": "7", "question_type": "recall", "topic": SECRET},
        }
        for number, question in enumerate(asked)
    ]
    lines(tmp_path / "queries.jsonl.gz", queries)
    rows, tally = run_converter("personamem-32k", tmp_path)
    assert not tally.left_out
    for row, turns in zip(rows, (4, 5), strict=True):
        assert sum(len(event.messages) for event in row.history if isinstance(event, DialogueInteraction)) == turns
        assert "Ann" not in row.line().decode()
        assert (row.target.chosen, row.target.rejected, row.others) == ("You loved it.", "You never did.", ())
    assert rows[0].target.query == "I have stopped painting now."
    assert not any(rows[0].target.query in event.model_dump_json() for event in rows[0].history)


# --- PRISM, UF-P-4 -------------------------------------------------------------------------------


def conversation(user: str, number: int, turns: int = 2) -> dict[str, Any]:
    history: list[dict[str, Any]] = []
    for turn in range(turns):
        history.append({"turn": turn, "role": "user", "content": f"Question {number}.{turn}"})
        for place, score in enumerate((40, 90, 10)):
            said = {"content": f"Answer {number}.{turn} of {score}", "model_name": SECRET, "within_turn_id": place}
            history.append({"turn": turn, "role": "model", "score": score, "if_chosen": score == 90, **said})
    return {
        "user_id": user,
        "conversation_id": f"c{number}",
        "generated_datetime": f"2023-11-{20 + number} 10:00:00",
        "open_feedback": SECRET,
        "conversation_history": history,
    }


def test_the_last_conversation_is_foreseen(tmp_path: Path):
    talks = [conversation("u1", 3), conversation("u1", 1), conversation("u2", 1), conversation("u1", 2)]
    lines(tmp_path / "conversations.jsonl", [*talks, {"user_id": "u3"}])
    lines(tmp_path / "survey.jsonl", [{"user_id": "u1", "self_description": SECRET, "age": SECRET}])
    (row,), tally = run_converter("prism", tmp_path)
    pairs = [event for event in row.history if isinstance(event, ComparisonInteraction)]
    assert [pair.query for pair in pairs] == ["Question 1.0", "Question 1.1", "Question 2.0", "Question 2.1"]
    assert {(str(pair.chosen)[-2:], str(pair.rejected)[-2:]) for pair in pairs} == {("90", "10")}
    assert (row.target.query, row.target.chosen) == ("Question 3.0", "Answer 3.0 of 90")
    assert {row.target.rejected, *row.others} == {"Answer 3.0 of 40", "Answer 3.0 of 10"}
    assert tally.left_out["users without two conversations in which they chose"] == 1
    assert any(reason.startswith("malformed: conversations: conversation_id") for reason in tally.left_out)


def uf_line(number: int, **changed: Any) -> dict[str, Any]:
    texts = {side: f"Human: Ask {number}\n\nAssistant: {side} {number}" for side in ("chosen", "rejected")}
    return {"Index": number, "prompt": f"Ask {number}", "data_subset": "8", "embeddings": [0.5], **texts} | changed


def pairs_of(row: BenchmarkRow) -> list[tuple[str | None, object, object]]:
    return [(e.query, e.chosen, e.rejected) for e in row.history if isinstance(e, ComparisonInteraction)]


def test_contexts_are_pairs_of_the_same_user(tmp_path: Path):
    contexts = [{"original_id": 2, "chosen": uf_line(2)["chosen"], "rejected": uf_line(2)["rejected"]}]
    named = [{"original_id": 0, "embedding_chosen": [0.1]}, {"original_id": 9}]
    lines(tmp_path / "8" / "test.jsonl", [uf_line(0, contexts=contexts), uf_line(1, contexts=named)])
    rows, tally = run_converter("uf-p-4", tmp_path)
    assert [pairs_of(row) for row in rows] == [
        [("Ask 2", "chosen 2", "rejected 2")],
        [("Ask 0", "chosen 0", "rejected 0")],
    ]
    assert rows[0].target.chosen == "chosen 0"
    assert tally.summary_line("uf-p-4").endswith("read 2 pairs; left out: nothing")


def test_without_contexts_other_pairs_are_drawn(tmp_path: Path):
    lines(tmp_path / "train.jsonl", [*(uf_line(n) for n in range(20)), uf_line(0, data_subset="4"), {"chosen": "x"}])
    rows, tally = run_converter("uf-p-4", tmp_path)
    assert len(rows) == 20
    for row in rows:
        assert len(pairs_of(row)) == 8
        assert row.target.query not in [query for query, _, _ in pairs_of(row)]
    assert tally.left_out == {"pairs without another pair of the user": 1, "malformed: pairs: rejected: is missing": 1}
    assert [row.line() for row in run_converter("uf-p-4", tmp_path, Plan(seed=1))[0]] != [row.line() for row in rows]
