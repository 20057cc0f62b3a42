"""PersonaMem: which answer suits a user known from long conversations?
https://huggingface.co/datasets/bowen-upenn/PersonaMem

questions_<size>.csv and shared_contexts_<size>.jsonl; a question is asked after the first
`end_index_in_shared_context` messages of its context. Or queries.jsonl.gz and documents.jsonl.gz of
agent-memory-benchmark, where a document is a conversation; a question that is a turn of a document is asked before
that turn, any other after all documents of its user. System messages hold the true persona and never enter a row,
neither do other columns; they stand between conversations, and each conversation is one event. The options' letters
are taken off; one wrong option, drawn, is the rejected, the rest are `others`. `kind` is the type of question.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from alignx.schemas.interactions import DialogueInteraction, Message
from evaluation.cases.benchmark import Benchmark, Plan, Tally, draw_rejected, find_file, find_files, parse_message
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_csv, read_json
from training.data.formats import Record, SomeText
from training.data.reading import ReadReport, raw_rows

LETTER = re.compile(r"^\(([a-z])\)\s*")
MOST: Final = 500
"""Most messages of one event."""
COLUMNS = (
    "persona_id",
    "question_id",
    "question_type",
    "user_question_or_message",
    "correct_answer",
    "all_options",
    "shared_context_id",
    "end_index_in_shared_context",
)


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    for questions in find_files(folder, "questions_*.csv"):
        name = questions.name.replace("questions_", "shared_contexts_", 1)
        yield from _rows(questions, find_file(folder, str(Path(name).with_suffix(".jsonl"))), plan, tally)


def _rows(questions: Path, contexts: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    contexts_by_id = _contexts(contexts, tally)
    for location, row in read_csv(questions, tally, "questions", COLUMNS):
        context = contexts_by_id.get(row["shared_context_id"])
        options, correct = _list(row["all_options"]), row["correct_answer"].strip()
        end = row["end_index_in_shared_context"]
        by_letter = {match[1]: LETTER.sub("", text) for text in options if (match := LETTER.match(text))}
        right = by_letter.pop(correct.strip("()"), None)
        if right is None or not by_letter or len(by_letter) + 1 < len(options) or not end.strip().isdigit():
            tally.add_malformed(location, "options, correct answer or end of the context in another form")
        elif context is None:
            tally.left_out["questions whose context is not there"] += 1
        else:
            history = list(split_dialogues(context[: int(end)]))
            wrong = [text for text in by_letter.values() if text != right]
            question = parse_message("user", row["user_question_or_message"])
            if not (history and wrong and question):
                tally.left_out["questions without a history, a text or a wrong option"] += 1
                continue
            rng = plan.rng("personamem", row["question_id"])
            yield BenchmarkRow(
                userid=f"persona-{row['persona_id']}",
                benchmark="personamem",
                kind=row["question_type"],
                history=plan.latest(history),
                **draw_rejected(question.content, right, wrong, rng),
            )


def _contexts(file: Path, tally: Tally) -> dict[str, Sequence[object]]:
    contexts: dict[str, Sequence[object]] = {}
    for raw in raw_rows(file, ReadReport()):
        if not isinstance(raw.value, Mapping) or not all(isinstance(turns, list) for turns in raw.value.values()):
            tally.add_malformed(
                f"{file.name}, {raw.location}", raw.problem or "a context that is no list of messages by its id"
            )
            continue
        tally.read["contexts"] += len(raw.value)
        contexts.update(raw.value)
    return contexts


def split_dialogues(turns: Sequence[object]) -> Iterator[DialogueInteraction]:
    """The conversations in a list of messages: a system message ends one, and is left out."""
    messages: list[Message] = []
    for turn in turns:
        role = turn.get("role") if isinstance(turn, Mapping) else None
        message = parse_message(str(role), turn.get("content")) if isinstance(turn, Mapping) else None
        if messages and (role == "system" or len(messages) == MOST):
            yield DialogueInteraction(messages=tuple(messages))
            messages = []
        if message:
            messages.append(message)
    if messages:
        yield DialogueInteraction(messages=tuple(messages))


# --- cells ---------------------------------------------------------------------------------------


def _list(cell: str) -> list[str]:
    """The texts in a list of JSON or of Python's literals; none of another cell."""
    value: object = None
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        try:
            value = json.loads(cell)
        except ValueError:
            value = ast.literal_eval(cell.strip())
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []


# --- the form of agent-memory-benchmark ----------------------------------------------------------


class Document(Record):
    user_id: SomeText
    content: SomeText


class Meta(Record):
    persona_id: SomeText
    question_type: SomeText


class Query(Record):
    id: SomeText
    query: SomeText
    gold_answers: Annotated[tuple[SomeText, ...], Field(min_length=1)]
    user_id: SomeText
    meta: Meta


TURN: Final = re.compile(r"^\[(SYSTEM|USER|ASSISTANT)\]\s*", re.MULTILINE)
OPTION: Final = re.compile(r"^\([a-z]\)\s*", re.MULTILINE)
ASKER: Final = re.compile(r"^(?:User:\s*)?(?:(?:Dr\.\s)?[^\n.?!,]{2,40}\n\n)?(?:User:\s*)?")
"""The name of the persona before a question, which is left out."""


def convert_32k(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    dialogues: dict[str, list[list[dict[str, str]]]] = {}
    for _, document in read_json(find_file(folder, "documents.jsonl.gz"), tally, "conversations", Document):
        parts = TURN.split(document.content)[1:]
        turns = [{"role": role.lower(), "content": text} for role, text in zip(parts[::2], parts[1::2], strict=True)]
        dialogues.setdefault(document.user_id, []).append(turns)
    for location, row in read_json(find_file(folder, "queries.jsonl.gz"), tally, "questions", Query):
        asked, *options = (part.strip() for part in OPTION.split(row.query))
        question = ASKER.sub("", asked)
        right = OPTION.sub("", row.gold_answers[0]).strip()
        wrong = list(dict.fromkeys(text for text in options if text != right))
        if right not in options or not wrong or not question:
            tally.add_malformed(location, "a question, options or an answer in another form")
            continue
        history = list(_until(question, dialogues.get(row.user_id, ())))
        if not history:
            tally.left_out["questions without a history"] += 1
            continue
        yield BenchmarkRow(
            userid=f"persona-{row.meta.persona_id}",
            benchmark="personamem-32k",
            kind=row.meta.question_type,
            history=plan.latest(history),
            **draw_rejected(question, right, wrong, plan.rng("personamem-32k", row.id)),
        )


def _until(question: str, dialogues: Sequence[Sequence[Mapping[str, str]]]) -> Iterator[DialogueInteraction]:
    """What was said before the question."""
    for turns in dialogues:
        asked = next((place for place, turn in enumerate(turns) if question in turn["content"]), None)
        yield from split_dialogues(turns[:asked])
        if asked is not None:
            return


PERSONAMEM = Benchmark("personamem", "questions_<size>.csv and shared_contexts_<size>.jsonl", convert)
PERSONAMEM_32K = Benchmark("personamem-32k", "documents.jsonl.gz and queries.jsonl.gz", convert_32k)
