"""PersonaMem: which answer suits a user known from long conversations?

v1  https://huggingface.co/datasets/bowen-upenn/PersonaMem: questions_<size>.csv and shared_contexts_<size>.jsonl. A
    question is asked after the first `end_index_in_shared_context` messages of its context.
v2  https://huggingface.co/datasets/bowen-upenn/PersonaMem-v2: benchmark/text/benchmark.csv (or benchmark.csv) and the
    JSON files that its column chat_history_32k_link names, from the same folder.

System messages hold the true persona and never enter a row, neither do other columns. In v1 they stand between
conversations, and each conversation is one event. The options' letters are taken off; one wrong option, drawn, is
the rejected, the rest are `others`. `kind` is the type of question (v1) or of preference (v2).

Uncertain in v2, of which no part was at hand: whether the history is a list or stands under "chat_history" (both are
read), and how lists stand in the CSV (JSON and Python literals are read). Nothing marks its conversations, so that
every 20 messages are one event.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from alignx.schemas.interactions import DialogueInteraction, Message
from evaluation.cases.benchmark import Benchmark, Plan, Tally, files_like, message, named_file, offered
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import csv_rows
from training.data.reading import ReadReport, raw_rows
from training.exceptions import DatasetError

LETTER = re.compile(r"^\(([a-z])\)\s*")
MOST: Final = 500
"""Messages that one event may hold."""
TURNS: Final = 20
LINK: Final = "chat_history_32k_link"
V1 = ("persona_id", "question_id", "question_type", "user_question_or_message", "correct_answer", "all_options")
V1_CONTEXT = ("shared_context_id", "end_index_in_shared_context")
V2 = ("persona_id", "user_query", "correct_answer", "incorrect_answers", LINK)


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    """Raises DatasetError when the folder holds neither version."""
    second = [
        path for path in (folder / "benchmark" / "text" / "benchmark.csv", folder / "benchmark.csv") if path.is_file()
    ]
    if second:
        yield from _second(folder, second[0], plan, tally)
        return
    for questions in files_like(folder, "questions_*.csv"):
        name = questions.name.replace("questions_", "shared_contexts_", 1)
        yield from _first(questions, named_file(folder, str(Path(name).with_suffix(".jsonl"))), plan, tally)


# --- version 1 -----------------------------------------------------------------------------------


def _first(questions: Path, contexts: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    known = _contexts(contexts, tally)
    for place, row in csv_rows(questions, tally, "questions", (*V1, *V1_CONTEXT)):
        context = known.get(row["shared_context_id"])
        options, correct, end = (
            _list(row["all_options"]),
            row["correct_answer"].strip(),
            row["end_index_in_shared_context"],
        )
        lettered = {found[1]: LETTER.sub("", text) for text in options if (found := LETTER.match(text))}
        right = lettered.pop(correct.strip("()"), None)
        if right is None or not lettered or len(lettered) + 1 < len(options) or not end.strip().isdigit():
            tally.malformed(place, "options, correct answer or end of the context in another form")
        elif context is None:
            tally.left_out["questions whose context is not there"] += 1
        else:
            history = list(dialogues(context[: int(end)], MOST))
            wrong = [text for text in lettered.values() if text != right]
            asked = message("user", row["user_question_or_message"])
            if not (history and wrong and asked):
                tally.left_out["questions without a history, a text or a wrong option"] += 1
                continue
            rng = plan.rng("personamem", row["question_id"])
            yield BenchmarkRow(
                userid=f"persona-{row['persona_id']}",
                benchmark="personamem",
                kind=row["question_type"],
                history=plan.recent(history),
                **offered(asked.content, right, wrong, rng),
            )


def _contexts(file: Path, tally: Tally) -> dict[str, Sequence[object]]:
    known: dict[str, Sequence[object]] = {}
    for raw in raw_rows(file, ReadReport()):
        if not isinstance(raw.value, Mapping) or not all(isinstance(turns, list) for turns in raw.value.values()):
            tally.malformed(
                f"{file.name}, {raw.place}", raw.problem or "a context that is no list of messages by its id"
            )
            continue
        tally.read["contexts"] += len(raw.value)
        known.update(raw.value)
    return known


def dialogues(turns: Sequence[object], longest: int) -> Iterator[DialogueInteraction]:
    """The conversations in a list of messages: a system message ends one, and is left out."""
    spoken: list[Message] = []
    for turn in turns:
        role = turn.get("role") if isinstance(turn, Mapping) else None
        told = message(str(role), turn.get("content")) if isinstance(turn, Mapping) else None
        if spoken and (role == "system" or len(spoken) == longest):
            yield DialogueInteraction(messages=tuple(spoken))
            spoken = []
        if told:
            spoken.append(told)
    if spoken:
        yield DialogueInteraction(messages=tuple(spoken))


# --- version 2 -----------------------------------------------------------------------------------


def _second(folder: Path, questions: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    for place, row in csv_rows(questions, tally, "questions", V2):
        correct = row["correct_answer"].strip()
        wrong = [text for text in _list(row["incorrect_answers"]) if text.strip() and text.strip() != correct]
        query = _query(row["user_query"])
        if not (correct and wrong and query):
            tally.malformed(place, "a question or answers in another form")
            continue
        history = _history(folder, row[LINK])
        if history is None:
            tally.left_out["questions whose conversations are not there"] += 1
        elif not history:
            tally.left_out["questions without a message before them"] += 1
        else:
            yield BenchmarkRow(
                userid=f"persona-{row['persona_id']}",
                benchmark="personamem",
                kind=row.get("pref_type") or "",
                history=plan.recent(history),
                **offered(query, correct, wrong, plan.rng("personamem", place)),
            )


def _history(folder: Path, link: str) -> list[DialogueInteraction] | None:
    """None when the file is not there. Raises DatasetError for one that leads out of the folder or is no JSON."""
    file = folder / link.strip()
    if not file.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"{link} leads out of {folder}")
    if not file.is_file():
        return None
    try:
        told = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DatasetError(f"{file} cannot be read as JSON") from error
    turns = told.get("chat_history") if isinstance(told, Mapping) else told
    return list(dialogues(turns, TURNS)) if isinstance(turns, list) else []


def _query(told: str) -> str:
    """The text of a question that stands alone or as a message."""
    value = _literal(told)
    content = value.get("content") if isinstance(value, Mapping) else told
    turn = message("user", content)
    return turn.content if turn else ""


# --- cells ---------------------------------------------------------------------------------------


def _list(cell: str) -> list[str]:
    value = _literal(cell)
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []


def _literal(cell: str) -> Any:
    """A value as JSON or as a Python literal has it; none for other text."""
    try:
        return json.loads(cell)
    except ValueError:
        try:
            return ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None


PERSONAMEM = Benchmark(
    "personamem",
    "questions_<size>.csv and shared_contexts_<size>.jsonl (v1), or benchmark/text/benchmark.csv and its links (v2)",
    convert,
)
