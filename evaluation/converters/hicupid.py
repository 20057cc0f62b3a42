"""HiCUPID: a question whose answer depends on the user's conversations.
https://huggingface.co/datasets/12kimih/HiCUPID

Configurations "dialogue" and "qa" as JSON, JSON Lines or Parquet, in folders of these names or in files whose names
begin so. A dialogue has a line for each turn: user_id, dialogue_id, user, assistant. A question: user_id, type,
question, personalized_answer. If some files of questions are named test, those alone are read. The personalized answer
is the reference; persona, profile and schedule fields of both are not read. Rows have a question and a reference, no
target.

Uncertain, since no part was at hand: the names of the files, and whether turns of a dialogue stand in order (they are
taken as they stand).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from alignx.schemas.interactions import DialogueInteraction, Message
from evaluation.cases.benchmark import Benchmark, Plan, Tally, find_files, parse_message
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_json
from training.data.formats import MaybeText, Record, SomeText

Name = Annotated[SomeText, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
MOST: Final = 500
"""Most messages of one event."""


class DialogueTurn(Record):
    owner: Name = Field(alias="user_id")
    dialogue: Name = Field(alias="dialogue_id")
    user: MaybeText
    assistant: MaybeText


class QuestionRow(Record):
    owner: Name = Field(alias="user_id")
    type: MaybeText = Field(default="", alias="type")
    question: SomeText
    answer: SomeText = Field(alias="personalized_answer")


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    dialogues_of: dict[str, dict[str, list[Message]]] = {}
    for file in _parts(folder, "dialogue"):
        for _, turn in read_json(file, tally, "turns", DialogueTurn):
            dialogue = dialogues_of.setdefault(turn.owner, {}).setdefault(turn.dialogue, [])
            messages = (parse_message("user", turn.user), parse_message("assistant", turn.assistant))
            dialogue += [message for message in messages if message]
    questions = _parts(folder, "qa")
    tests = [file for file in questions if "test" in file.name]
    for file in tests or questions:
        for _, row in read_json(file, tally, "questions", QuestionRow):
            dialogues = [dialogue for dialogue in dialogues_of.get(row.owner, {}).values() if dialogue]
            if not dialogues:
                tally.left_out["questions of users without a dialogue"] += 1
                continue
            yield BenchmarkRow(
                userid=row.owner,
                benchmark="hicupid",
                kind=row.type,
                history=plan.latest([DialogueInteraction(messages=tuple(dialogue[-MOST:])) for dialogue in dialogues]),
                question=row.question,
                reference=row.answer,
            )


def _parts(folder: Path, name: str) -> list[Path]:
    endings = (".jsonl", ".json", ".parquet")
    return find_files(folder, *(f"{where}*{end}" for where in (f"{name}/", name) for end in endings))


HICUPID = Benchmark("hicupid", "dialogue*/ and qa*/ as *.jsonl, *.json or *.parquet", convert)
