"""PRISM: people from many countries rate what several models answer them. https://github.com/HannahKirk/prism-alignment

conversations.jsonl   a conversation a line: user_id, conversation_id, generated_datetime, conversation_history, whose
                      entries have turn, role ("user" or "model"), content, and for models score and if_chosen

The history holds the user's earlier conversations, each turn as one comparison: what the user asked, the answer they
went on with, and the one they scored lowest. The target is the first turn of the user's last conversation; another of
its answers, drawn, is the rejected, the rest are `others`. survey.jsonl (who the user is, and what they wrote of
themselves) is not read; neither are feedback and attributes of a conversation.

Written after the data card and code that reads the files; no part of the data was at hand.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from alignx.schemas.interactions import ComparisonInteraction
from evaluation.cases.benchmark import Benchmark, Plan, Tally, draw_rejected, find_file
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_json
from training.data.formats import MaybeText, Record, SomeText


class Entry(Record):
    turn: int
    role: str
    content: MaybeText
    score: float | None = None
    if_chosen: bool | None = None


class Conversation(Record):
    user: SomeText = Field(alias="user_id")
    name: SomeText = Field(alias="conversation_id")
    at: MaybeText = Field(default="", alias="generated_datetime")
    history: Annotated[tuple[Entry, ...], Field(alias="conversation_history", min_length=1)]


class Turn(NamedTuple):
    """One question and its answers; `wrong` with the lowest score first."""

    query: str
    chosen: str
    wrong: list[str]


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    users: dict[str, list[Conversation]] = {}
    for _, talk in read_json(find_file(folder, "conversations.jsonl"), tally, "conversations", Conversation):
        users.setdefault(talk.user, []).append(talk)
    for user, talks in users.items():
        conversations = [turns for talk in sorted(talks, key=lambda talk: talk.at) if (turns := _turns(talk))]
        if len(conversations) < 2:
            tally.left_out["users without two conversations in which they chose"] += 1
            continue
        earlier = (turn for turns in conversations[:-1] for turn in turns)
        history = [ComparisonInteraction(query=t.query, chosen=t.chosen, rejected=t.wrong[0]) for t in earlier]
        target = conversations[-1][0]
        yield BenchmarkRow(
            userid=user,
            benchmark="prism",
            history=plan.latest(history),
            **draw_rejected(target.query, target.chosen, target.wrong, plan.rng("prism", user)),
        )


def _turns(talk: Conversation) -> list[Turn]:
    """Turns with a chosen answer and another one, in order."""
    turns = []
    for _, entries in groupby(sorted(talk.history, key=lambda entry: entry.turn), key=lambda entry: entry.turn):
        texts = [entry for entry in entries if entry.content.strip()]
        query = next((entry.content for entry in texts if entry.role == "user"), "")
        answers = [entry for entry in texts if entry.role == "model"]
        chosen = next((entry.content for entry in answers if entry.if_chosen), "")
        worst_first = sorted(answers, key=lambda entry: entry.score or 0)
        wrong = list(dict.fromkeys(entry.content for entry in worst_first if entry.content != chosen))
        if query and chosen and wrong:
            turns.append(Turn(query, chosen, wrong))
    return turns


PRISM = Benchmark("prism", "conversations.jsonl", convert)
