"""Conversations as history, and a question whose answer depends on them: HiCUPID and LoCoMo.

hicupid   https://huggingface.co/datasets/12kimih/HiCUPID, configurations "dialogue" and "qa" as JSON, JSON Lines or
          Parquet, in folders of these names or in files whose names begin so. A dialogue has a line for each turn:
          user_id, dialogue_id, user, assistant. A question: user_id, type, question, personalized_answer. If some
          files of questions are named test, those alone are read. The personalized answer is the reference; persona,
          profile and schedule fields of both are not read.
locomo    https://github.com/snap-research/locomo, locomo10.json: two people over many sessions. The first speaker
          counts as the user, the second as the assistant; a picture is its caption. Answers are references; questions
          without one (category 5, about what was never said) are left out, and so are the observations and summaries
          of the sessions.

Rows have a question and a reference, no target. Uncertain for HiCUPID, of which no part was at hand: the names of the
files, and whether turns of a dialogue stand in order (they are taken as they stand).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from alignx.schemas.interactions import DialogueInteraction, Message
from evaluation.cases.benchmark import Benchmark, Plan, Tally, find_file, find_files, parse_message
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_json
from training.data.formats import MaybeText, Record, SomeText

Name = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
MOST: Final = 500
"""Most messages of one event."""


# --- HiCUPID -------------------------------------------------------------------------------------


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


def convert_hicupid(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    dialogues_of: dict[str, dict[str, list[Message]]] = {}
    for file in _parts(folder, "dialogue"):
        for _, turn in read_json(file, tally, "turns", DialogueTurn):
            dialogue = dialogues_of.setdefault(turn.owner, {}).setdefault(turn.dialogue, [])
            messages = (parse_message("user", turn.user), parse_message("assistant", turn.assistant))
            dialogue += [message for message in messages if message]
    questions = _parts(folder, "qa")
    tests = [file for file in questions if "test" in file.name]
    for file in tests or questions:
        for number, (_, row) in enumerate(read_json(file, tally, "questions", QuestionRow)):
            dialogues = [dialogue for dialogue in dialogues_of.get(row.owner, {}).values() if dialogue]
            if not dialogues:
                tally.left_out["questions of users without a dialogue"] += 1
                continue
            yield BenchmarkRow(
                userid=f"{row.owner}-{number}",
                benchmark="hicupid",
                kind=row.type,
                history=plan.latest([DialogueInteraction(messages=tuple(dialogue[-MOST:])) for dialogue in dialogues]),
                question=row.question,
                reference=row.answer,
            )


def _parts(folder: Path, name: str) -> list[Path]:
    endings = (".jsonl", ".json", ".parquet")
    return find_files(folder, *(f"{where}*{end}" for where in (f"{name}/", name) for end in endings))


# --- LoCoMo --------------------------------------------------------------------------------------

KINDS = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


class Turn(Record):
    speaker: str
    text: MaybeText = ""
    caption: MaybeText = Field(default="", alias="blip_caption")


class Session(Record):
    turns: tuple[Turn, ...]


class Question(Record):
    question: SomeText
    answer: Annotated[str, BeforeValidator(lambda value: "" if value is None else str(value))] = ""
    category: int = 0


class Sample(Record):
    name: SomeText = Field(alias="sample_id")
    conversation: dict[str, Any]
    questions: Annotated[tuple[Question, ...], Field(alias="qa")]


def convert_locomo(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    file = find_file(folder, "locomo10.json", "data/locomo10.json")
    for location, sample in read_json(file, tally, "conversations", Sample):
        try:
            history = list(_sessions(sample.conversation))
        except ValueError:
            tally.add_malformed(location, "sessions in another form")
            continue
        tally.read["questions"] += len(sample.questions)
        if not history:
            tally.left_out["questions without a session before them"] += len(sample.questions)
            continue
        for number, row in enumerate(sample.questions):
            if not row.answer.strip() or row.category == 5:
                tally.left_out["questions without an answer"] += 1
                continue
            yield BenchmarkRow(
                userid=f"{sample.name}-{number}",
                benchmark="locomo",
                kind=KINDS.get(row.category, ""),
                history=plan.latest(history),
                question=row.question,
                reference=row.answer,
            )


def _sessions(conversation: dict[str, Any]) -> Iterator[DialogueInteraction]:
    """By number. Raises ValueError where they have another form."""
    user = conversation.get("speaker_a")
    numbers = sorted(int(tail) for name in conversation if (tail := name.removeprefix("session_")).isdigit())
    for number in numbers:
        turns = Session.model_validate({"turns": conversation[f"session_{number}"]}).turns
        messages = (parse_message("user" if turn.speaker == user else "assistant", _text(turn)) for turn in turns)
        spoken = tuple(message for message in messages if message)[-MOST:]
        if spoken:
            yield DialogueInteraction(
                messages=spoken, occurred_at=_time(conversation.get(f"session_{number}_date_time"))
            )


def _text(turn: Turn) -> str:
    return f"{turn.text} (shows a picture: {turn.caption})" if turn.caption else turn.text


def _time(text: object) -> datetime | None:
    """Such as "1:56 pm on 8 May, 2023"; None for another form."""
    try:
        return datetime.strptime(str(text), "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
    except ValueError:
        return None


HICUPID = Benchmark("hicupid", "dialogue*/ and qa*/ as *.jsonl, *.json or *.parquet", convert_hicupid)
LOCOMO = Benchmark("locomo", "locomo10.json", convert_locomo)
